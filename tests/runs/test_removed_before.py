"""What was taken down from a dataset stays out of all that is made of it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import report, takedown
from alignset.pipeline.datasets.set_files import read_set
from alignset.pipeline.runs.work_folder import Change
from alignset.transforms.storage.documents import write_document
from tests.support.agreement import check_dataset, rows
from tests.support.command import funnel, run, succeed

TEXT_ONLY = ("--text_only", "--language=", "--min_words=2")
NAMES = ("dog", "cat", "house", "bridge", "garden", "river")


def url(name: str) -> str:
    return f"http://{name}.example/{name}-photo.jpg"


def pairs(path: Path, names: tuple[str, ...]) -> Path:
    texts = [f"a {name} of somebody" if name != "short" else "short" for name in names]
    pq.write_table(pa.table({"url": [*map(url, names)], "caption": texts}), path)
    return path


def kept(out: Path) -> set[str]:
    return {row["url"] for row in rows(out, "pairs")}


def removed(out: Path) -> list[tuple]:
    names = ("url", "caption", "step", "detail")
    found = [row for row in rows(out, "rejected") if row["reason"] == "removed_before"]
    return [tuple(row[name] for name in names) for row in found]


def files_with(out: Path, *words: str) -> list[str]:
    """The files that hold one of some words, also where Parquet compresses them."""
    found = []
    for path in filter(Path.is_file, out.rglob("*")):
        body = path.read_bytes()
        if path.suffix == ".parquet":
            body += str(pq.read_table(path).to_pylist()).encode()
        if any(word.encode() in body for word in words):
            found.append(str(path.relative_to(out)))
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset from which a kept pair and a dropped pair were taken down, and forgotten."""
    folder = tmp_path_factory.mktemp("first")
    succeed(pairs(folder / "first.parquet", (*NAMES, "short")), folder / "set", *TEXT_ONLY)
    lines = f"url:{url('dog')}\nurl:{url('short')}\n"
    (folder / "list.txt").write_text(lines)
    flags = [f"--blocklist={folder}/list.txt", "--forget_blocked"]
    assert takedown([str(folder / "set"), *flags]) == 0
    return folder / "set"


def test_the_next_crawl_does_not_bring_it_back(first: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    crawl = pairs(tmp_path / "crawl.parquet", ("dog", "cat", "moon", "short"))
    flags = (*TEXT_ONLY, "--min_words=1")
    ended = run(f"{first},{crawl}", out, *flags)
    assert ended.status == 2
    assert "would come back: pass the same files as --blocklist" in ended.err
    (tmp_path / "new.txt").write_text("url:http://nowhere.example/\n")
    flags += (f"--blocklist={tmp_path}/new.txt", "--lists_changed")
    succeed(f"{first},{crawl}", out, *flags)
    assert kept(out) == {url(name) for name in (*NAMES[1:], "moon")}
    assert removed(out) == [(None, None, "blocklist", None)] * 2
    keys = np.fromfile(first / "taken_down.u64", "<u8")
    assert len(keys) == 2
    assert np.array_equal(np.fromfile(out / "taken_down.u64", "<u8"), keys)
    # And from there it is carried on.
    third = tmp_path / "third"
    succeed(f"{out},{crawl}", third, *flags)
    assert kept(third) == kept(out)
    assert np.array_equal(np.fromfile(third / "taken_down.u64", "<u8"), keys)
    for folder in (first, out, third):
        assert files_with(folder, "dog-photo", "a dog of", "short-photo") == []
        check_dataset(folder)
    # Its keys are a blocklist too.
    succeed(crawl, tmp_path / "alone", *TEXT_ONLY, f"--blocklist=removed={first}/taken_down.u64")
    assert kept(tmp_path / "alone") == {url("cat"), url("moon")}


def test_a_dataset_of_another_version_keeps_its_list(first: Path, tmp_path: Path) -> None:
    crawl, old = pairs(tmp_path / "crawl.parquet", ("dog", "moon")), tmp_path / "old"
    (old / "pairs").mkdir(parents=True)
    pairs(old / "pairs" / "0.parquet", ("cat",))
    (old / "manifest.json").write_text("{}")
    body = (first / "taken_down.u64").read_bytes()
    (old / "taken_down.u64").write_bytes(body[:-1])
    ended = run(f"{old}/pairs,{crawl}", tmp_path / "out", *TEXT_ONLY)
    assert ended.status == 2
    assert "old/taken_down.u64 has 15 bytes, and 8 for each key" in ended.err
    (old / "taken_down.u64").unlink()
    (old / "taken_down.u64").symlink_to("/dev/zero")
    ended = run(f"{old}/pairs,{crawl}", tmp_path / "out", *TEXT_ONLY)
    assert "old/taken_down.u64 is not a file" in ended.err
    (old / "taken_down.u64").unlink()
    (old / "taken_down.u64").write_bytes(body)
    succeed(f"{old}/pairs,{crawl}", tmp_path / "out", *TEXT_ONLY)
    assert kept(tmp_path / "out") == {url("cat"), url("moon")}


def test_what_is_to_be_forgotten_is_in_no_file(tmp_path: Path) -> None:
    source = pairs(tmp_path / "a.parquet", (*NAMES, "short"))
    first, out = tmp_path / "a", tmp_path / "b"
    succeed(source, first, *TEXT_ONLY)
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert files_with(first, "short-photo") != []
    # Where it is not forgotten, its row counts once more, and is dropped without contents.
    (tmp_path / "river.txt").write_text(f"url:{url('river')}\n")
    known, again = shutil.copytree(first, tmp_path / "known"), tmp_path / "again"
    lists = f"--blocklist={tmp_path}/river.txt"
    assert takedown([str(known), lists]) == 0
    assert files_with(known, "river-photo") != []
    succeed(known, again, *TEXT_ONLY, lists)
    assert (removed(again), funnel(again)["steps"][0]["seen"]) == (
        [(None, None, "blocklist", None)],
        7,
    )
    assert files_with(again, "river-photo", "a river of") == []
    (tmp_path / "list.txt").write_text(f"url:{url('short')}\nurl:{url('dog')}\n")
    forget = (f"--blocklist={tmp_path}/list.txt", "--forget_blocked")
    succeed(first, out, *TEXT_ONLY, "--min_words=1", *forget)
    assert kept(out) == {url(name) for name in NAMES[1:]}
    assert files_with(out, "dog-photo", "short-photo") == []
    # The first dataset is another one, whose files stay.
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before


def test_what_its_person_said_of_a_dataset_is_said_of_the_next_one(tmp_path: Path) -> None:
    source, first, out = pairs(tmp_path / "a.parquet", NAMES), tmp_path / "a", tmp_path / "b"
    about = ("--title=Dogs", "--license=cc-by-4.0", "--contact=me@dogs.example")
    succeed(source, first, *TEXT_ONLY, *about)
    told = run(
        f"{first},{pairs(tmp_path / 'c.parquet', ('moon',))}", out, *TEXT_ONLY, "--title=Cats"
    )
    assert (
        "the card has the license, contact of the input's dataset; a flag gives another" in told.err
    )
    card = (out / "README.md").read_text()
    for said in ('pretty_name: "Cats"', 'license: "cc-by-4.0"', "me@dogs.example"):
        assert said in card
    assert "Dogs" not in card.partition("history")[0]
    # The card says what all of several datasets say.
    other = tmp_path / "other"
    succeed(
        pairs(tmp_path / "d.parquet", ("sun",)), other, *TEXT_ONLY, "--license=cc0-1.0", about[2]
    )
    both = tmp_path / "both"
    assert "has the contact of" in run(f"{first},{other}", both, *TEXT_ONLY).err
    assert "license: unknown" in (both / "README.md").read_text()


def test_a_takedown_that_was_stopped_keeps_its_dataset_from_being_read(
    first: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = Path(shutil.copytree(first, tmp_path / "set"))
    (out / "_temporary").mkdir()
    change = Change("takedown", ["--blocklist=list"], read_set(str(out))[0])
    write_document(str(out / "_temporary/change.json"), change)
    for source in (out, f"{out}/pairs/*.parquet"):
        ended = run(source, tmp_path / "again", *TEXT_ONLY)
        assert ended.status == 2
        said = "takedown --blocklist=list was stopped on .*; run it again as it was, and then run"
        assert re.search(said, ended.err)
        assert not (tmp_path / "again").exists()
    assert report([str(out), f"--output={tmp_path}/report.html"]) == 0
    assert "was stopped: what is shown may hold pairs that leave" in caplog.text


def test_a_pair_that_was_taken_down_can_be_forgotten_later(tmp_path: Path, capsys) -> None:
    out = tmp_path / "set"
    succeed(pairs(tmp_path / "first.parquet", (*NAMES, "short")), out, *TEXT_ONLY)
    (tmp_path / "list.txt").write_text(f"url:{url('dog')}\nurl:{url('short')}\n")
    flags = [str(out), f"--blocklist={tmp_path}/list.txt"]
    words = "dog-photo", "a dog of", "short-photo"
    assert takedown(flags) == 0
    before = funnel(out)
    assert files_with(out, *words)
    capsys.readouterr()
    assert takedown([*flags, "--forget_blocked"]) == 0
    assert "2 pairs dropped before" in capsys.readouterr().out
    assert files_with(out, *words) == []
    assert funnel(out)["steps"] == before["steps"]
    assert takedown([*flags, "--forget_blocked"]) == 0
    assert "no shard was changed" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pairs/00000.parquet", "pairs", "shards/00000.tar", "rejected"])
def test_a_link_whose_target_would_keep_the_pair_is_refused(
    first: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(first, tmp_path / "set"))
    if (out / name).exists():
        (out / name).rename(tmp_path / "elsewhere")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "list.txt").write_text(f"url:{url('cat')}\n")
    assert takedown([str(out), f"--blocklist={tmp_path}/list.txt"]) == 2
    said = capsys.readouterr().err
    assert f"{out / name} is a link" in said
    assert said.count("\n") == 1
    assert (out / "taken_down.u64").read_bytes() == (first / "taken_down.u64").read_bytes()
