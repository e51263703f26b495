"""Folders of other tools: their rows and images are read as they are, and never changed."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import deduplicate, look, report, takedown
from alignset.pipeline.datasets.folders import LONGEST, REJECTED, Folder, find_folder
from alignset.pipeline.datasets.set_files import find_set
from alignset.transforms.rules.catalogue import PRODUCT
from tests.support.hostile_tars import tar_of
from tests.support.picture_files import encoded, photograph

GONE = "HTTP Error 404: Not Found"
PICTURES = [encoded(photograph(n, 60 + 20 * n, 80), "JPEG") for n in range(6)]
COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("key", "name", "url", "caption", "reason", "detail")]
    + [("width", pa.int32()), ("similarity", pa.float64())]
)


def row(n: int, **more: object) -> dict[str, object]:
    said = {"url": f"http://h.org/{n}.jpg", "caption": f"a red boat number {n}", "key": f"{n:07d}"}
    said |= {"status": "success", "error_message": None, "width": 60 + 20 * n, "height": 80}
    return said | {"similarity": n / 10, "sha256": f"{n % 5:x}" * 64} | more


def sample(n: int, prefix: str = "") -> dict[str, bytes]:
    name = f"{prefix}{n:07d}"
    return {
        f"{name}.jpg": PICTURES[n],
        f"{name}.json": json.dumps(row(n)).encode(),
        f"{name}.txt": str(row(n)["caption"]).encode(),
    }


@pytest.fixture(params=["tars", "files", "plain"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two shards as img2dataset writes them, or their tars alone, of one name in two folders."""
    place = tmp_path / "shards"
    for number, kept in enumerate([(2, 0, 1), (5, 3, 4)]):
        files = {name: body for n in kept for name, body in sample(n).items()}
        part = place / "ab"[number] if request.param == "plain" else place
        part.mkdir(parents=True, exist_ok=True)
        stem = part / ("00000" if request.param == "plain" else f"{number:05d}")
        if request.param == "files":
            stem.mkdir()
            for name, body in files.items():
                (stem / name).write_bytes(body)
        else:
            stem.with_suffix(".tar").write_bytes(tar_of(files))
        if request.param != "plain":
            lost = row(10 + number, status="failed_to_download", error_message=GONE)
            odd = row(20 + number, status="failed_to_resize", error_message="not an image")
            pq.write_table(pa.Table.from_pylist([*map(row, kept), lost, odd]), f"{stem}.parquet")
            Path(f"{stem}_stats.json").write_text("{}")
    return place


def rows_of(folder: Folder, behind: str = "") -> list[dict[str, Any]]:
    batches = [b for shard in folder.sidecars for b in folder.read(f"{shard}{behind}", COLUMNS)]
    return pa.Table.from_batches(batches, COLUMNS).to_pylist()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_tar_can_be_read_in_part(tmp_path: Path) -> None:
    files = {f"{n:04d}.{end}": b"a red boat" for n in range(1_001) for end in ("jpg", "txt")}
    (tmp_path / "00000.tar").write_bytes(tar_of(files))
    found = find_folder(str(tmp_path))
    assert found is not None
    batches = found.read(f"{tmp_path}/00000.tar", COLUMNS)
    assert len(next(batches)) == 1_000
    batches.close()  # type: ignore[attr-defined]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_commands_show_a_folder_and_change_nothing_in_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    before, is_plain = contents(folder), not list(folder.glob("*.parquet"))
    assert look([str(folder), "--n=9"]) == 0
    told = capsys.readouterr().out
    assert "6 kept pairs, from 2 of 2 shards" in told
    assert ("a/00000/0000002" if is_plain else "00000/0000002") in told
    assert Path("look.html").read_text().count("data:image/jpeg") == 6
    assert look([str(folder), f"--reason=fetch_failed:{GONE}"]) == (1 if is_plain else 0)
    blocklist, sha256 = tmp_path / "list.txt", hashlib.sha256(PICTURES[5]).hexdigest()
    blocklist.write_text(f"text:boat number 1\nurl:http://h.org/2.jpg\nsha256:{sha256}\n")
    capsys.readouterr()
    assert look([str(folder), f"--blocklist={blocklist}"]) == 0
    told = capsys.readouterr().out.splitlines()[4:]
    assert {line.split()[-1] for line in told} == {"1", "2", "5"}
    assert report([str(folder)]) == 0
    assert capsys.readouterr().err.endswith("the report is in report.html\n")
    page = Path("report.html").read_text()
    images = "2 images have the bytes of another"
    assert "<dt>Pairs kept</dt><dd>6<" in page
    assert all(said in page for said in ("similarity", images, *[GONE] * (not is_plain)))
    assert page.count('"picture":') == 6
    for command, words in (
        (takedown, [str(folder), f"--blocklist={blocklist}"]),
        (deduplicate, [str(folder)]),
        (report, ["--compare", str(folder), str(folder)]),
    ):
        assert command(words) == 2
        why = capsys.readouterr().err
        assert f"alignset curate --input={folder} --output=NEW --blocklist=LIST" in why
        assert why.count("\n") == 1
    assert contents(folder) == before


def test_what_is_broken_or_odd_costs_itself(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = tar_of(sample(0) | sample(1) | {"2.jpg": PICTURES[2]} | {"3.txt": b"a text alone"})
    (tmp_path / "cut.tar").write_bytes(whole[:1000])
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "x.tar").write_bytes(whole)
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    # Columns of other types, and one that is there twice.
    columns = [["a"], [["x"]], [None], ["7"], [3], [float("nan")]]
    names = ["key", "caption", "url", "url", "width", "score"]
    table = pa.Table.from_arrays([pa.array(c) for c in columns], names=names)
    pq.write_table(table, tmp_path / "y.parquet")
    odd = {"a.jpg": PICTURES[0], "a.json": b'{"width": 1e999, "similarity": "x", "url": 7}'}
    (tmp_path / "y.tar").write_bytes(tar_of(odd))
    found = find_folder(str(tmp_path))
    assert found is not None
    assert {r["name"] for r in rows_of(found)} >= {"x/0000000", "x/0000001", "x/2", "y/a"}
    assert [r["detail"] for r in rows_of(found, REJECTED)] == ["no_file"]
    broken = {note.partition(" ")[0] for note in found.notes[1:]}
    assert broken == {"cut.tar", "empty.tar", "x.parquet"}
    for path in ("cut.tar", "x.tar", "y.tar", "x.parquet", "y.parquet"):
        os.remove(tmp_path / path)
    assert look([str(tmp_path), f"--output={tmp_path}/a.html"]) == 1
    told = capsys.readouterr().err
    assert "has no kept pairs. empty.tar cannot be read to its end" in told
    assert told.count("\n") == 1


def test_joined_tars_sparse_files_and_names_that_are_not_utf_8(tmp_path: Path) -> None:
    odd = [tar_of(sample(n, "\udcff"), tarfile.GNU_FORMAT) for n in (2, 3)]
    link = io.BytesIO()
    with tarfile.open(fileobj=link, mode="w") as tar:
        for name, kind in (("l.jpg", tarfile.SYMTYPE), ("l.txt", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    parts = [tar_of(sample(0)), tar_of(sample(0) | sample(1)), *odd, link.getvalue()]
    (tmp_path / "0.tar").write_bytes(b"".join(parts))
    found = find_folder(str(tmp_path))
    assert found is not None
    rows = rows_of(found)
    names = ["0000000", "0000000/1", "0000001/1", "\\xff0000002/2", "\\xff0000003/3"]
    assert [r["name"] for r in rows] == [f"0/{name}" for name in names]
    images = dict(found.images(f"{tmp_path}/0.tar", [r["key"] for r in rows]))
    assert [images[r["key"]] for r in rows] == [PICTURES[n] for n in (0, 0, 1, 2, 3)]
    assert [r["detail"] for r in rows_of(found, REJECTED)] == ["sparse_or_link"]


def test_a_long_text_that_is_repeated_is_in_memory_once(tmp_path: Path) -> None:
    count = 20_000
    repeated = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), ["x" * 20_000])
    urls = [f"http://h{n % 3}.org/{n}" for n in range(count)]
    table = pa.table({"key": [f"{n}" for n in range(count)], "url": urls, "caption": repeated})
    pq.write_table(table, tmp_path / "0.parquet", store_schema=False)
    (tmp_path / "0.tar").write_bytes(tar_of({}))
    files, before = find_set(str(tmp_path)), pa.default_memory_pool().max_memory()
    assert files.folder
    assert files.folder.catalogue == PRODUCT
    sizes = [len(text.as_py()) for b in files.read(f"{tmp_path}/0.tar", COLUMNS) for text in b[3]]
    assert sizes == [LONGEST] * count
    assert pa.default_memory_pool().max_memory() - before < 100_000_000
