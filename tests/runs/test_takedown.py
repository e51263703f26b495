"""What is taken down is gone from a finished dataset, wherever the command is killed."""

import hashlib
import io
import json
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from alignset.pipeline.takedown.__main__ import main
from alignset.transforms.shards import rewrite_shards
from alignset.transforms.shards.shard_files import TarWriter
from tests.support.agreement import check_counts, check_dataset, check_described, rows, stored
from tests.support.command import digests, fates, funnel, kept, manifest, run, samples, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

COUNT, LOST = 100, 95  # pairs, and from where on their images are not there
SHARDS = "--samples_per_shard=5"
HELD = (*FLAGS, SHARDS, "--holdout=0.1", "--holdout_copies=keep")


class Finished(NamedTuple):
    """A finished dataset of some twenty shards, and the web that it is of."""

    web: SmallWeb
    source: Path
    out: Path

    def url(self, number: int) -> str:
        return f"{self.web.url}/t/{number}"

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.out, folder / f"set-{len(list(folder.iterdir()))}"))


def photo(number: int) -> bytes:
    return encoded(photograph(300 + number), "JPEG")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("takedown")
    with small_web() as web:
        web.files |= {f"/t/{n}": photo(n) for n in range(LOST)}
        web.files["/t/3"] = web.files["/t/2"]  # copies
        urls = [f"{web.url}/t/{n}" for n in range(COUNT)]
        pairs = [*zip(urls, TEXTS[:COUNT], strict=True)]
        pairs += [(urls[7], TEXTS[110]), (urls[7], "the dog"), (urls[8], "too few"), pairs[9]]
        columns = {"url": [url for url, _ in pairs], "caption": [text for _, text in pairs]}
        pq.write_table(pa.table(columns), folder / "pairs.parquet")
        succeed(folder / "pairs.parquet", folder / "set", *HELD)
        yield Finished(web, folder / "pairs.parquet", folder / "set")


def taken(out: Path, folder: Path, *entries: str, flags: tuple[str, ...] = ()) -> int:
    (folder / "take.txt").write_text("\n".join(entries))
    return main([str(out), f"--blocklist=take.txt={folder}/take.txt", *flags])


def gone(out: Path) -> dict[tuple[str, str], str]:
    return {
        (row["url"], row["caption"]): row["detail"]
        for row in rows(out, "rejected")
        if row["reason"] == "taken_down"
    }


def in_company(out: Path) -> int:
    """An image with one text whose shard holds others too: of another the shard would go, and the
    last get its number. Which are so follows from the URLs, and these from the server's port."""
    files = sorted(out.glob("shards/*.parquet"))
    of_shards = [
        [int(url.rpartition("/")[2]) for url in pq.read_table(file)["url"].to_pylist()]
        for file in files
    ]
    return next(n for numbers in of_shards if len(numbers) > 1 for n in numbers if n > 9)


def test_one_match_rewrites_one_shard(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = finished.copy(tmp_path)
    number = in_company(out)
    url = finished.url(number)
    card = out / "README.md"
    card.write_text(card.read_text().replace("license: unknown", "license: cc0-1.0"))
    for sheet in (out / "datasheet.md", out / "_generated/datasheet.md"):
        sheet.write_text("of an earlier version: 9 pairs")
    before, already = digests(out), len(finished.web.requests)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.tar")}
    assert taken(out, tmp_path, f"url:{url}", flags=("--dry_run",)) == 0
    assert "would be taken down: 1 pair (take.txt:url 1) in 1 of " in capsys.readouterr().out
    assert digests(out) == before
    assert taken(out, tmp_path, f"url:{url}", flags=("--reason=licence",)) == 0
    assert "taken down: 1 pair (take.txt:url 1) in 1 of " in capsys.readouterr().out
    after = digests(out)
    changed = {name for name in before if after.get(name) != before[name]}
    stems = {Path(name).name.partition(".")[0].removesuffix("_stats") for name in changed}
    documents = {"README", "manifest", "funnel", "croissant", "datasheet", "report"}
    assert len({stem.rpartition("-")[2] for stem in stems - documents}) == 1
    assert after.keys() - before.keys() == {"taken_down.u64"}
    assert {"datasheet.md", "_generated/datasheet.md"} <= before.keys() - after.keys()
    rewritten = [path for path, at in times.items() if path.stat().st_mtime_ns != at]
    assert len(rewritten) == 1
    assert url not in stored(out).values()
    assert gone(out) == {(url, TEXTS[number]): "take.txt:url"}
    check_dataset(out)
    (entry,) = manifest(out)["takedowns"]
    now = time.time()
    assert entry["day"] in {time.strftime("%Y-%m-%d", time.gmtime(at)) for at in (now, now - 60)}
    body = (tmp_path / "take.txt").read_bytes()
    assert entry["lists"] == [
        {"name": "take.txt", "sha256": hashlib.sha256(body).hexdigest(), "entries": {"url": 1}}
    ]
    assert (entry["pairs"], entry["dropped"], entry["forgotten"]) == (1, 0, False)
    assert "1 pair, by `take.txt`: their licence does not allow it." in card.read_text()
    assert "| `taken_down` | 1 |" in card.read_text()
    assert "license: cc0-1.0" in card.read_text(), "what a person wrote stays"
    keys = np.fromfile(out / "taken_down.u64", "<u8")
    (row,) = [row for row in rows(out, "rejected") if row["reason"] == "taken_down"]
    assert [f"{key:016x}" for key in keys] == [row["key"]]
    assert finished.web.requests[already:] == []
    # What is left of the shard has the bytes that it would have if the pair had never been there.
    old, new = samples(finished.out), samples(out)
    assert new == {key: files for key, files in old.items() if key != row["key"]}
    copies = funnel(out)["copies"]
    assert taken(out, tmp_path, f"url:{finished.url(2)}") == 0
    assert funnel(out)["copies"] == {
        "images": copies["images"] - 2,
        "contents": copies["contents"] - 1,
    }
    assert [entry["pairs"] for entry in manifest(out)["takedowns"]] == [1, 1]
    assert len(np.fromfile(out / "taken_down.u64", "<u8")) == 2
    check_dataset(out)


def test_each_kind_of_entry(finished: Finished, tmp_path: Path) -> None:
    out = finished.copy(tmp_path)
    (key,) = [key for key, url in stored(out).items() if url == finished.url(10)]
    phash = imagehash.phash(PillowImage.open(io.BytesIO(photo(14))))
    entries = {
        10: f"key:{key}",
        11: f"sha256:{hashlib.sha256(photo(11)).hexdigest()}",
        12: f"md5:{hashlib.md5(photo(12)).hexdigest()}",
        13: f"sha1:{hashlib.sha1(photo(13)).hexdigest()}",
        14: f"phash:{phash}",
        15: f"text:{TEXTS[15]}",
        16: f"prefix:{finished.url(16)}",
    }
    assert taken(out, tmp_path, *entries.values(), f"text:{TEXTS[110]}") == 0
    assert gone(out) == {
        (finished.url(n), TEXTS[n]): f"take.txt:{entry.partition(':')[0]}"
        for n, entry in entries.items()
    } | {(finished.url(7), TEXTS[110]): "take.txt:text"}
    assert finished.url(7) in stored(out).values()  # with its other text
    check_dataset(out)


def test_a_host_takes_all_and_nothing_of_it_comes_back(
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """It may be a slip, as the table of the dataset's own pairs for a list."""
    out = finished.copy(tmp_path)
    before = digests(out)
    monkeypatch.setattr("alignset.pipeline.datasets.find_listed.FEW", 1)
    assert taken(out, tmp_path, "host:127.0.0.1", flags=("--dry_run",)) == 0
    assert "more than half of the dataset, which needs --yes" in capsys.readouterr().out
    assert taken(out, tmp_path, "host:127.0.0.1") == 2
    assert "more than half: --dry_run counts them by entry, and --yes" in capsys.readouterr().err
    assert digests(out) == before
    assert taken(out, tmp_path, "host:127.0.0.1", flags=("--forget_blocked", "--yes")) == 0
    assert stored(out) == {}
    assert {row["reason"] for row in rows(out, "rejected")} == {"taken_down"}
    assert all(row["url"] is row["caption"] is None for row in rows(out, "rejected"))
    assert all(row["also_reasons"] is row["thumbnail"] is None for row in rows(out, "rejected"))
    check_counts(out, whole=True)
    check_described(out)
    already = len(finished.web.requests)
    run(finished.source, out, *HELD, "--retry_failed=all")
    ended = run(out, tmp_path / "again", *FLAGS, "--also_rejected=all", "--holdout=0.1")
    assert ended.status != 0
    assert finished.web.requests[already:] == []


@pytest.mark.slow
def test_other_pairs_of_an_image_that_is_taken_down_go_too(
    finished: Finished, tmp_path: Path
) -> None:
    """Those that other rules had dropped: a looser rule, or another fetch, would bring it back."""
    out = finished.copy(tmp_path)
    urls = [finished.url(n) for n in (7, 8, 9, 95)]
    entries = [f"sha256:{hashlib.sha256(photo(n)).hexdigest()}" for n in (7, 8, 9)]
    assert taken(out, tmp_path, *entries, f"url:{urls[3]}") == 0
    assert {url for url, _ in gone(out)} == set(urls)
    assert len([row for row in rows(out, "rejected") if row["reason"] == "taken_down"]) == 7 + 1
    (entry,) = manifest(out)["takedowns"]
    assert (entry["pairs"], entry["dropped"]) == (4, 4)
    assert funnel(out)["fetch"]["failed"] == COUNT - LOST - 1
    assert funnel(out)["fetch"]["hosts"][0]["failed"] == COUNT - LOST - 1
    check_dataset(out)
    again = tmp_path / "again"
    succeed(out, again, *HELD, "--min_words=2", "--also_rejected=all")
    assert not {fate.url for fate in kept(again)} & set(urls)
    web = finished.web
    web.files |= {f"/t/{n}": photo(n) for n in range(LOST, COUNT)}
    try:
        succeed(finished.source, out, *HELD, "--retry_failed=all")
    finally:
        for n in range(LOST, COUNT):
            del web.files[f"/t/{n}"]
    assert {url for url, _ in gone(out)} == set(urls)
    assert len(stored(out)) == manifest(out)["pairs"] == COUNT + 1 - 4 - 1
    assert len(manifest(out)["takedowns"]) == 1


def test_a_set_of_texts_alone(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "set"
    flags = [flag for flag in FLAGS if "_images_per" in flag or "_texts_per" in flag]
    succeed(finished.source, out, "--text_only", *flags)
    count = len(fates(out))
    entries = (f"url:{finished.url(7)}", "text:garden")
    assert taken(out, tmp_path, *entries, flags=("--forget_blocked",)) == 0
    left = kept(out)
    assert left
    assert not any(f.url == finished.url(7) or "garden" in f.caption for f in left)
    check_dataset(out)
    assert len(left) + len(rows(out, "rejected")) == count
    assert not any(row["url"] == finished.url(7) for row in rows(out, "rejected"))


def test_a_shard_that_is_not_written_as_it_should_be_is_not_published(
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    class Damaged(TarWriter):
        """Of other bytes than a disk then has."""

        def finish(self) -> str:
            return super().finish()[::-1]

    class Late(TarWriter):
        """Of a worker that is paused until the command has ended."""

        def finish(self) -> str:
            shutil.rmtree(out / "_temporary" / "leaving")
            return super().finish()

    def data_of(out: Path) -> dict[str, str]:
        return {name: digest for name, digest in digests(out).items() if "_temporary" not in name}

    why = {Late: "for a command that has ended meanwhile", Damaged: "was not written as it should"}
    for writer, said in why.items():
        out = finished.copy(tmp_path)
        before, entry = data_of(out), f"url:{finished.url(in_company(out))}"
        with monkeypatch.context() as patched:
            patched.setattr(rewrite_shards, "TarWriter", writer)
            assert taken(out, tmp_path, entry) == 1
        assert said in capsys.readouterr().err
        assert data_of(out) == before
    assert taken(out, tmp_path, f"url:{finished.url(41)}") == 2
    said = capsys.readouterr().err
    assert "by other entries of take.txt was stopped; resume it with the lists as they were" in said

    def full(_: Path, path: str) -> None:
        raise OSError(28, "the disk is full", path)

    with monkeypatch.context() as patched:  # its row is in rejected/, and not out of the shard
        patched.setattr(rewrite_shards, "publish", full)
        assert taken(out, tmp_path, entry) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert data_of(out) != before
    assert taken(out, tmp_path, entry) == 0
    check_dataset(out)


def test_what_cannot_be_done_is_one_line(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = finished.copy(tmp_path)
    (tmp_path / "bad.txt").write_text("example.com\n")
    (tmp_path / "good.txt").write_text("host:a.example\n")
    good = f"--blocklist={tmp_path}/good.txt"
    assert main([str(out), good]) == 0
    assert capsys.readouterr().out == "nothing in the dataset is on the list; nothing was changed\n"
    for args, said in (
        ([str(out), f"--blocklist={tmp_path}/bad.txt"], "does not begin with any of host:"),
        ([str(out), "--blocklist="], "--blocklist is empty"),
        ([str(tmp_path / "none"), good], "is not a dataset"),
        ([str(out), good, "--min_blocked_phash_distance=99"], "must be from 0 to 64"),
    ):
        assert main(args) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    assert digests(out) == digests(finished.out)
    (out / "manifest.json").unlink()  # or the counts of its documents would stay
    assert main([str(out), good]) == 2
    assert "manifest.json is missing: bring it back" in capsys.readouterr().err


def test_a_dataset_of_the_version_before_is_changed(finished: Finished, tmp_path: Path) -> None:
    """It has files of an earlier report, `responses/` has another name, and no page tells of
    edits."""
    out = finished.copy(tmp_path)
    shutil.rmtree(out / "_generated")
    (out / "responses").rename(out / "answers")
    for path in out.glob("answers/*"):
        path.rename(path.with_name(path.name.replace("_responses", "_answers")))
    shown = {row["url"] for row in examples_of(out / "README.md")}
    assert taken(out, tmp_path, *(f"url:{url}" for url in shown)) == 0
    assert not shown & {*stored(out).values()}
    assert not (out / "answers").exists()
    check_dataset(out)
    assert examples_of(out / "README.md")
    assert not examples_of(out / "README.md.before")


def examples_of(page: Path) -> list[dict]:
    """The pairs that a card shows."""
    return [json.loads(line) for line in page.read_text().splitlines() if line[:7] == '{"key":']
