"""What is taken down is gone from a finished dataset, wherever the command is killed."""

import hashlib
import io
import json
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import imagehash
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from alignset.pipeline.commands import takedown as main
from alignset.transforms.shards import rewrite_shards
from alignset.transforms.shards.shard_files import TarWriter
from tests.support.agreement import check_counts, check_dataset, check_described, rows, stored
from tests.support.command import digests, funnel, grow, manifest, run, samples, succeed
from tests.support.described_sets import LISTS, LOST, DescribedSets, photo
from tests.support.golden import FLAGS, TEXTS
from tests.support.small_web import SmallWeb

# Images with one text and without a copy, by the numbers in their URLs.
ALONE = (13, 19, 20, 21, 22, 23)


class Finished(NamedTuple):
    """A finished dataset, and the web that it is of."""

    described: DescribedSets

    @property
    def web(self) -> SmallWeb:
        return self.described.web

    @property
    def out(self) -> Path:
        return self.described.find("all")

    def url(self, path: object) -> str:
        return f"{self.web.url}/{path}"

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.out, folder / f"set-{len(list(folder.iterdir()))}"))


@pytest.fixture(scope="module")
def finished(described: DescribedSets) -> Finished:
    return Finished(described)


def taken(out: Path, folder: Path, *entries: str, flags: tuple[str, ...] = ()) -> int:
    (folder / "take.txt").write_text("\n".join(entries))
    return main([str(out), f"--blocklist=take.txt={folder}/take.txt", *flags])


def gone(out: Path) -> dict[tuple[str, str], str]:
    return {
        (row["url"], row["caption"]): row["detail"]
        for row in rows(out, "rejected")
        if row["reason"] == "taken_down"
    }


def in_company(out: Path) -> dict[str, Any]:
    """A pair of `ALONE` whose shard holds others too: of another the shard would go, and the last
    get its number. Which are so follows from the URLs, and these from the server's port."""
    shards = [pq.read_table(file).to_pylist() for file in sorted(out.glob("shards/*.parquet"))]
    ends = tuple(f"/{n}" for n in ALONE)
    pairs = [row for of in shards if len(of) > 1 for row in of if row["url"].endswith(ends)]
    return next(row for row in pairs if row["url"].count("/") == 3)


def test_one_match_rewrites_one_shard(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = finished.copy(tmp_path)
    pair = in_company(out)
    url = pair["url"]
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
    documents = {"README", "manifest", "funnel", "croissant", "datasheet", "report", "uids"}
    assert len({stem.rpartition("-")[2] for stem in stems - documents}) == 1
    assert after.keys() - before.keys() == {"taken_down.u64"}
    assert {"datasheet.md", "_generated/datasheet.md"} <= before.keys() - after.keys()
    rewritten = [path for path, at in times.items() if path.stat().st_mtime_ns != at]
    assert len(rewritten) == 1
    assert url not in stored(out).values()
    assert gone(out) == {(url, pair["caption"]): "take.txt:url"}
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
    assert taken(out, tmp_path, f"url:{finished.url(11)}") == 0  # of which there is a copy
    assert funnel(out)["copies"] == {
        "images": copies["images"] - 2,
        "contents": copies["contents"] - 1,
    }
    assert [entry["pairs"] for entry in manifest(out)["takedowns"]] == [1, 1]
    assert len(np.fromfile(out / "taken_down.u64", "<u8")) == 2
    check_dataset(out)


def test_each_kind_of_entry(finished: Finished, tmp_path: Path) -> None:
    out = finished.copy(tmp_path)
    captions: dict[str, list[str]] = defaultdict(list)
    for row in rows(out, "shards", "holdout"):
        captions[row["url"]].append(row["caption"])
    (key,) = [key for key, url in stored(out).items() if url == finished.url(13)]
    phash = imagehash.phash(PillowImage.open(io.BytesIO(photo(22))))
    entries = {
        13: f"key:{key}",
        19: f"sha256:{hashlib.sha256(photo(19)).hexdigest()}",
        20: f"md5:{hashlib.md5(photo(20)).hexdigest()}",
        21: f"sha1:{hashlib.sha1(photo(21)).hexdigest()}",
        22: f"phash:{phash}",
        23: f"text:{TEXTS[23]}",
        "near/0": f"prefix:{finished.url('near/0')}",
    }
    (other,) = {*captions[finished.url(3)]} - {TEXTS[3]}
    assert taken(out, tmp_path, *entries.values(), f"text:{other}") == 0
    assert gone(out) == {
        (finished.url(n), captions[finished.url(n)][0]): f"take.txt:{entry.partition(':')[0]}"
        for n, entry in entries.items()
    } | {(finished.url(3), other): "take.txt:text"}
    assert finished.url(3) in stored(out).values()  # with its other text
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
    both = ("host:127.0.0.1", "host:localhost")
    assert taken(out, tmp_path, *both, flags=("--forget_blocked", "--yes")) == 0
    assert stored(out) == {}
    assert {row["reason"] for row in rows(out, "rejected")} == {"taken_down"}
    assert all(row["url"] is row["caption"] is None for row in rows(out, "rejected"))
    assert all(row["also_reasons"] is row["thumbnail"] is None for row in rows(out, "rejected"))
    check_counts(out, whole=True)
    check_described(out)
    already = len(finished.web.requests)
    described = finished.described
    lists = f"{LISTS.format(at=described.at)},take.txt={tmp_path}/take.txt"
    ended = run(out, tmp_path / "again", *FLAGS, lists, "--holdout=0.2")
    assert ended.status != 0
    assert grow(out, tmp_path / "more", lists, "--retry_failed=all").status != 0
    assert finished.web.requests[already:] == []


@pytest.mark.slow
def test_other_pairs_of_an_image_that_is_taken_down_go_too(
    finished: Finished, tmp_path: Path
) -> None:
    """Pairs that other rules had dropped go too: a looser rule would bring the image back."""
    out, described = finished.copy(tmp_path), finished.described
    urls = {finished.url(n) for n in (7, 8, 9, LOST[0])}
    entries = [f"sha256:{hashlib.sha256(photo(n)).hexdigest()}" for n in (7, 8, 9)]
    failed = funnel(out)["fetch"]["failed"]
    assert taken(out, tmp_path, *entries, f"url:{finished.url(LOST[0])}") == 0
    assert {url for url, _ in gone(out)} == urls
    of_urls = [row["reason"] for row in rows(out, "rejected") if row["url"] in urls]
    assert {*of_urls} == {"taken_down"}
    (entry,) = manifest(out)["takedowns"]
    assert entry["pairs"] + entry["dropped"] == len(of_urls) > entry["pairs"] + 3
    assert funnel(out)["fetch"]["failed"] == failed - 1
    check_dataset(out)
    again = tmp_path / "again"
    lists = f"{LISTS.format(at=described.at)},take.txt={tmp_path}/take.txt"
    succeed(out, again, *FLAGS, "--holdout=0.2", "--min_words=2", lists)
    assert not {*stored(again).values()} & urls
    described.set_web("all again")
    grown, of_fetching = tmp_path / "grown", described.words("all again", out)[3:8]
    exam = f"--eval_images=exam={described.at}/exam"
    assert grow(out, grown, *of_fetching, lists, exam, "--retry_failed=all").status == 0
    assert not {*stored(grown).values()} & urls
    assert {f"{finished.web.url}/{n}" for n in LOST[1:]} <= {*stored(grown).values()}


def test_a_shard_that_is_not_written_as_it_should_be_is_not_published(
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    class Damaged(TarWriter):
        """The digest is not the one of the bytes on the disk."""

        def finish(self) -> str:
            return super().finish()[::-1]

    class Late(TarWriter):
        """The worker is paused until the command has ended."""

        def finish(self) -> str:
            shutil.rmtree(out / "_temporary" / "leaving")
            return super().finish()

    def data_of(out: Path) -> dict[str, str]:
        return {name: digest for name, digest in digests(out).items() if "_temporary" not in name}

    why = {Late: "for a command that has ended meanwhile", Damaged: "was not written as it should"}
    for writer, said in why.items():
        out = finished.copy(tmp_path)
        before, entry = data_of(out), f"url:{in_company(out)['url']}"
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
    assert (
        capsys.readouterr().out == "no pair of the dataset is on the list; no shard was changed\n"
    )
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
    """It has files of an earlier report, `answers/` and no ledgers, and no page tells of edits."""
    out = finished.copy(tmp_path)
    shutil.rmtree(out / "_generated")
    shutil.rmtree(out / "images")
    (out / "answers").mkdir()
    for path in out.glob("shards/*.parquet"):
        table = pq.read_table(path, columns=["key", "url"])
        pq.write_table(table, out / f"answers/{path.stem}_answers.parquet")
    shown = {row["url"] for row in examples_of(out / "README.md")}
    assert taken(out, tmp_path, *(f"url:{url}" for url in shown)) == 0
    assert not shown & {*stored(out).values()}
    answered = {row["key"] for row in rows(out, "answers")}
    assert answered == {row["key"] for row in rows(out, "shards")}
    check_dataset(out)
    assert examples_of(out / "README.md")
    assert not examples_of(out / "README.md.before")


def examples_of(page: Path) -> list[dict]:
    """The pairs that a card shows."""
    return [json.loads(line) for line in page.read_text().splitlines() if line[:7] == '{"key":']
