"""A takedown from shards of other tools is done whole, or refused before anything changes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.takedown.__main__ import main as takedown
from alignset.train.data.samples import shard_samples
from alignset.transforms.storage import files as storage
from alignset.transforms.storage.tar_members import copy_without, tar_members
from tests.support.hostile_tars import (
    END,
    FILE,
    OTHER,
    header,
    padded,
    pax,
    records,
    shared,
    tar_of,
)
from tests.support.picture_files import encoded, photograph

PICTURES = [encoded(photograph(n, 60 + 20 * n, 80), "JPEG") for n in range(4)]


def url(n: int) -> str:
    return f"http://h.org/{n}.jpg"


def sample(n: int, name: str = "", **fields: str) -> dict[str, bytes]:
    name = name or f"{n:04d}"
    said = {"url": url(n), "caption": f"a red boat number {n}"} | fields
    text = said.pop("text", f"a red boat number {n}")
    return {
        f"{name}.jpg": PICTURES[n],
        f"{name}.json": json.dumps(said).encode(),
        f"{name}.txt": text.encode(),
    }


def put(folder: Path, *tars: bytes, rows: pa.Table | None = None, stats: str = "") -> Path:
    """A folder of one shard, whose tar is made of tars behind each other."""
    folder.mkdir()
    (folder / "00000.tar").write_bytes(b"".join(tars))
    if rows is not None:
        pq.write_table(rows, folder / "00000.parquet")
    if stats:
        (folder / "00000_stats.json").write_text(stats)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def taken(folder: Path, *entries: str, flags: tuple[str, ...] = ("--in_place", "--yes")) -> int:
    blocklist = folder.with_suffix(".list")
    blocklist.write_text("\n".join(entries))
    return takedown([str(folder), f"--blocklist={blocklist}", *flags])


def samples_for_training(folder: Path) -> list[tuple[str, str | None]]:
    return [(s.key, s.text) for s in shard_samples(str(folder / "00000.tar"))]


def rows_of(*numbers: int, **columns: pa.Array | list) -> pa.Table:
    """A sidecar; columns that are None are left out."""
    table = {
        "key": [f"{n:04d}" for n in numbers],
        "url": [url(n) for n in numbers],
        "caption": [f"a red boat number {n}" for n in numbers],
        "status": ["success"] * len(numbers),
        "error_message": pa.nulls(len(numbers), pa.string()),
    } | columns
    return pa.table({name: values for name, values in table.items() if values is not None})


def whole(*numbers: int) -> bytes:
    return tar_of({name: body for n in numbers for name, body in sample(n).items()})


@pytest.mark.parametrize("tar_format", ["gnu", "posix"])
def test_a_sparse_member_keeps_its_bytes(tmp_path: Path, tar_format: str) -> None:
    place = tmp_path / "files"
    place.mkdir()
    for name, body in (sample(0) | sample(1) | sample(2)).items():
        (place / name).write_bytes(body)
    hole = bytearray(1 << 20)
    hole[500_000:512_000] = b"data" * 3000
    with (place / "0001.npy").open("wb") as file:
        file.truncate(len(hole))
        file.seek(500_000)
        file.write(b"data" * 3000)
    folder = put(tmp_path / "shards", b"")
    tar = ["tar", f"--format={tar_format}", "-S", "-cf", folder / "00000.tar", "-C", place]
    subprocess.run([*tar, "--sort=name", *sorted(os.listdir(place))], check=True)
    with tarfile.open(folder / "00000.tar") as before:
        assert sum(member.issparse() for member in before) == 1
    assert taken(folder, f"url:{url(2)}") == 0
    with tarfile.open(folder / "00000.tar") as after:
        bodies = {member.name: after.extractfile(member).read() for member in after}
    assert bodies == sample(0) | sample(1) | {"0001.npy": bytes(hole)}
    assert taken(folder, f"url:{url(1)}") == 0
    with (folder / "00000.tar").open("rb") as source:
        assert [member.name for member in tar_members(source)] == sorted(sample(0))


def test_joined_tars_are_searched_and_copied_to_their_ends(tmp_path: Path) -> None:
    folder = put(tmp_path / "shards", whole(0, 1), whole(2, 3))
    assert taken(folder, f"url:{url(3)}") == 0
    assert [key for key, _ in samples_for_training(folder)] == ["0000", "0001", "0002"]
    assert taken(folder, f"url:{url(0)}", f"url:{url(1)}") == 0
    assert [key for key, _ in samples_for_training(folder)] == ["0002"]


def test_samples_of_one_name_in_two_joined_tars_are_two(tmp_path: Path) -> None:
    parts = [tar_of(sample(n, "same")) for n in (0, 1)]
    folder = put(tmp_path / "shards", *parts)
    assert taken(folder, f"url:{url(1)}") == 0
    assert samples_for_training(folder) == [("same", "a red boat number 0")]
    # Of which of them the row is, nobody knows.
    folder = put(tmp_path / "sidecar", *parts, rows=rows_of(3, key=["same"]))
    before = contents(folder)
    assert taken(folder, f"url:{url(1)}") == 2
    assert contents(folder) == before


def test_headers_for_all_members_behind_them_stay() -> None:
    """Here they give the size of members whose own headers say 0."""
    size = shared(records((b"size", b"3")))
    empty = [header(name, 0) + padded(name[:3]) for name in (b"a.txt", b"b.txt", b"c.txt")]
    for tar in (
        size + empty[0] + empty[1] + empty[2] + END,
        pax(records((b"comment", b"x"))) + size + FILE + empty[1] + empty[2] + END,
    ):
        source, sink = io.BytesIO(tar), io.BytesIO()
        copy_without(source, lambda member: member.name == "a.txt", sink)
        assert [(m.name, m.size) for m in tar_members(sink)] == [("b.txt", 3), ("c.txt", 3)]


def test_folders_and_links_stay_and_an_emptied_tar_is_one() -> None:
    link = header(b"l.jpg", 1 << 30, b"2", {157: b"a.txt"})
    tar = header(b"d/", 0, b"5") + FILE + link + header(b"e/", 0, b"5") + OTHER
    for names, rest in ((("a.txt",), tar.replace(FILE, b"")), (("l.jpg",), tar.replace(link, b""))):
        source = io.BytesIO(tar)
        copy_without(source, lambda member, names=names: member.name in names, sink := io.BytesIO())
        assert sink.getvalue() == rest
    copy_without(io.BytesIO(FILE), lambda _member: True, sink := io.BytesIO())
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as opened:
        assert opened.getnames() == []


def test_what_lies_behind_a_tars_end_is_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Readers end at a lone block of zeros."""
    tar = tar_of(sample(0))
    rest = tar_of(sample(1))
    folder = put(tmp_path / "shards", tar[: len(tar.rstrip(b"\0")) // 512 * 512 + 1024], rest)
    before = contents(folder)
    assert taken(folder, f"url:{url(0)}") == 2
    assert re.search(
        r"shards/00000.tar: behind its end, at byte \d+, is more", capsys.readouterr().err
    )
    assert contents(folder) == before


NAMES = [b"0000", b"\xff\xfe", b"a\nb", b"\xed\xa0\x80", b"\\xff"]


@pytest.mark.parametrize("gone", [1, 3])
def test_names_that_are_not_utf_8(tmp_path: Path, gone: int) -> None:
    names = [os.fsdecode(name) for name in NAMES[:4]]
    made = {name: body for n, own in enumerate(names) for name, body in sample(n, own).items()}
    folder = put(tmp_path / "shards", tar_of(made, tarfile.GNU_FORMAT))
    assert taken(folder, f"url:{url(gone)}") == 0
    with tarfile.open(folder / "00000.tar", errors="surrogateescape") as opened:
        left = {member.name.partition(".")[0] for member in opened}
    assert left == {*names} - {names[gone]}


def test_a_name_that_reads_as_another_one_is_another(tmp_path: Path) -> None:
    names = [os.fsdecode(b"\xff"), r"\xff"]
    made = {name: body for n, own in enumerate(names) for name, body in sample(n, own).items()}
    folder = put(tmp_path / "shards", tar_of(made, tarfile.GNU_FORMAT))
    assert taken(folder, f"url:{url(0)}") == 0
    assert samples_for_training(folder) == [(r"\xff", "a red boat number 1")]


def test_images_in_files_whose_names_are_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    (folder / "00000").mkdir(parents=True)
    (folder / "00000_stats.json").write_text("{}")
    for n, name in enumerate((b"0", b"\xff1")):
        for file, body in sample(n, os.fsdecode(name)).items():
            (folder / "00000" / file).write_bytes(body)
    assert taken(folder, f"url:{url(1)}") == 0
    assert {path.stem for path in (folder / "00000").iterdir()} == {"0"}


@pytest.mark.parametrize("where", ["text", "caption", "row", "lost row", "TXT"])
def test_a_text_is_found_in_whichever_file_it_stands(tmp_path: Path, where: str) -> None:
    asked = "a portrait of jane doe"
    made = sample(0) | sample(1, **({where: asked} if where in ("text", "caption") else {}))
    if where == "TXT":
        del made["0001.txt"]
        made["0001.TXT"] = asked.encode()
    rows = rows_of(0, 1, 2)
    if where in ("row", "lost row"):
        at = 1 if where == "row" else 2
        texts = rows["caption"].to_pylist()
        texts[at] = f"{'very ' * 1000} long, {asked}"
        rows = rows.set_column(2, "caption", pa.array(texts, pa.large_string()))
    folder = put(tmp_path / "shards", tar_of(made), rows=rows, stats='{"count": 3}')
    assert taken(folder, "text:jane doe") == 0
    gone = 2 if where == "lost row" else 1
    assert [key for key, _ in samples_for_training(folder)] == [
        f"{n:04d}" for n in range(2) if n != gone
    ]
    assert pq.read_table(folder / "00000.parquet")["key"].to_pylist() == [
        f"{n:04d}" for n in range(3) if n != gone
    ]
    assert json.loads((folder / "00000_stats.json").read_text())["count"] == 2


# What a shard has beside its tar of samples 0 to 2, and whether a takedown of sample 2 is done.
BESIDE: dict[str, tuple[pa.Table | None, str, bool]] = {
    "nothing": (None, "", True),
    "both": (rows_of(0, 1, 2), '{"count": 3, "status_dict": {"success": 3}}', True),
    "stats that are a list": (rows_of(0, 1, 2), "[1, 2]", False),
    "stats of words": (None, '{"count": "x", "status_dict": {"a": "b"}}', False),
    "stats whose ends are a list": (rows_of(0, 1, 2), '{"status_dict": [1]}', False),
    "stats that are no JSON": (rows_of(0, 1, 2), "\xff{", False),
    "deep stats": (rows_of(0, 1, 2), "[" * 100_000, False),
    "endless stats": (None, '{"count": 1e400, "status_dict": {"success": 1e400}}', False),
    "no key": (rows_of(0, 1, 2, key=None), "{}", False),
    "no status": (rows_of(0, 1, 2, status=None), "{}", True),
    "no message": (rows_of(0, 1, 2, error_message=None), "{}", True),
    "keys of numbers": (rows_of(0, 1, 2, key=[0, 1, 2]), "{}", False),
    "keys of lists": (rows_of(0, 1, 2, key=[["a"]] * 3), "{}", False),
    "no keys of some": (rows_of(0, 1, 2, key=[None, "0001", "0002"]), "{}", True),
    "one key": (rows_of(0, 1, 2, key=["0002"] * 3), "{}", False),
    "statuses of numbers": (rows_of(0, 1, 2, status=[1] * 3), "{}", True),
    "URLs of numbers": (rows_of(0, 1, 2, url=[1, 2, 3]), "{}", False),
    "no URLs": (rows_of(0, 1, 2, url=pa.nulls(3)), "{}", True),
    "messages of lists": (rows_of(0, 1, 2, error_message=[["x"]] * 3), "{}", True),
    "a dictionary": (rows_of(0, 1, 2, url=rows_of(0, 1, 2)["url"].dictionary_encode()), "{}", True),
}


@pytest.mark.parametrize("name", BESIDE)
def test_an_odd_file_beside_a_shard_is_mended_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    rows, stats, is_done = BESIDE[name]
    folder = put(tmp_path / "shards", whole(0, 1, 2), rows=rows, stats=stats)
    before, new = contents(folder), tmp_path / "new"
    for flags, place in (((f"--output={new}",), new), (("--in_place", "--yes"), folder)):
        status = taken(folder, f"url:{url(2)}", flags=flags)
        err = capsys.readouterr().err
        assert "Traceback" not in err
        assert status == (0 if is_done else 2)
        if not is_done:
            file = "00000.parquet" if "key" in name or name == "URLs of numbers" else "_stats.json"
            assert file in err
            assert "nothing was changed" in err
            assert contents(folder) == before
            assert not new.exists()
            continue
        assert [key for key, _ in samples_for_training(place)] == ["0000", "0001"]
        if rows is not None:
            left = pq.read_table(place / "00000.parquet").drop_columns(["key"])
            assert left.equals(rows.drop_columns(["key"]).slice(0, 2))
    if stats and is_done:
        told = json.loads((folder / "00000_stats.json").read_text())
        assert told.get("count", 2) == 2


def test_a_damaged_sidecar_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = put(tmp_path / "shards", whole(0, 1), rows=rows_of(0, 1))
    path = folder / "00000.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    before = contents(folder)
    assert taken(folder, f"url:{url(0)}") == 2
    assert "00000.parquet" in capsys.readouterr().err
    assert contents(folder) == before


def test_files_that_are_hidden_are_copied_and_what_was_half_written_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """And those that nobody has looked into are named."""
    folder = put(tmp_path / "shards", whole(0, 1))
    (folder / "_notes.txt").write_text("notes")
    (folder / ".more").mkdir()
    (folder / ".more" / ".settings").write_text("settings")
    (folder / f".00000.tar.{'a' * 32}").write_text("half")
    assert taken(folder, f"url:{url(0)}", flags=(f"--output={tmp_path / 'new'}",)) == 0
    assert contents(tmp_path / "new").keys() == {"00000.tar", "_notes.txt", ".more/.settings"}
    unread = ", ".join(f"{folder}/{name}" for name in (".more/.settings", "_notes.txt"))
    assert f"not searched, and left as they are: {unread}\n" in "".join(capsys.readouterr())


class Killed(BaseException):
    """In place of a signal."""


def dying(monkeypatch: pytest.MonkeyPatch, when: int) -> Callable[[], int]:
    changes, real = 0, os.replace

    def change(source: str, target: str) -> None:
        nonlocal changes
        changes += 1
        if changes > when:
            raise Killed
        real(source, target)

    monkeypatch.setattr(storage.os, "replace", change)
    return lambda: changes


def test_killed_at_any_file_the_same_command_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pair is listed by its row alone, one by its text alone, one by both."""

    def made(name: str) -> Path:
        files = sample(0) | sample(1, text="jane doe", caption="") | sample(2)
        for n in (2, 3):  # what only their rows name
            files |= {f"{n:04d}.jpg": PICTURES[n]}
            files.pop(f"{n:04d}.json", None)
            files[f"{n:04d}.txt"] = b"a boat"
        rows = rows_of(0, 1, 2, 3, caption=["a boat", "a boat", "by jane doe", "a boat"])
        stats = '{"count": 4, "successes": 4}'
        return put(tmp_path / name, tar_of(files), rows=rows, stats=stats)

    entries = ("text:jane doe", f"url:{url(0)}")
    folder = made("whole")
    with monkeypatch.context() as patched:
        changes = dying(patched, 99)
        assert taken(folder, *entries) == 0
    expected, count = contents(folder), changes()
    assert [key for key, _ in samples_for_training(folder)] == ["0003"]
    assert pq.read_table(folder / "00000.parquet")["key"].to_pylist() == ["0003"]
    for when in range(count):
        folder = made(f"killed-{when}")
        with monkeypatch.context() as patched:
            dying(patched, when)
            with pytest.raises(Killed):
                taken(folder, *entries)
        assert taken(folder, *entries) == 0
        assert contents(folder) == expected


def test_a_folder_whose_shards_are_links_is_told_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links/00000.tar").symlink_to(put(tmp_path / "real", b"") / "00000.tar")
    (tmp_path / "list.txt").write_text("host:h.org\n")
    flags = [f"--blocklist={tmp_path}/list.txt", f"--output={tmp_path}/new"]
    assert takedown([f"{tmp_path}/links", *flags]) == 2
    assert "links are links, which are left out" in capsys.readouterr().err
