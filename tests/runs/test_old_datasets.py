"""A dataset that version 0.2 made, with `--duplicates=exact`, a takedown and what it recorded for
its report: every command opens it, and what changes it leaves a dataset of this version."""

import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignset.train.data.samples import shard_samples
from tests.support.agreement import check_dataset, rows, stored, words_of
from tests.support.command import digests, funnel, manifest
from tests.support.described_sets import main
from tests.support.root import ROOT
from tests.support.serving import serving
from tests.support.small_web import SmallWeb

# Where its images are from: a port that no system gives to whoever asks for any.
ADDRESS = ("127.83.52.7", 18652)
LOST = (20, 21)  # whose images were not there
FLAGS = (
    *("--allow_private_addresses", "--max_unsafe_score=1", "--min_image_side=30", "--retries=0"),
    *("--samples_per_shard=8", "--vocabulary_size=60", "--min_words=2", "--timeout_s=5"),
)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `set/`, `texts/`, which has the same pairs, and their input."""
    with tarfile.open(ROOT / "tests/old_datasets/0.2.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def web() -> Iterator[SmallWeb]:
    while True:
        try:
            server = SmallWeb(ADDRESS)
            break
        except OSError:  # another run of this test holds it for a moment
            time.sleep(0.1)
    with serving(server):
        yield server


def words(out: Path) -> bytes:
    """All files of a dataset, and the rows of its Parquet files as text."""
    files = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    return b"\n".join([*files, str(rows(out, "*")).encode()])


def test_it_is_read_as_it_is(at: Path) -> None:
    out, before = at / "set", digests(at)
    assert (manifest(out)["versions"]["alignset"], len([*out.glob("moved/*")])) == ("0.2.0", 1)
    assert main("report", str(out)) == main("report", str(at / "texts")) == 0
    page = words_of(out / "report.html")
    assert " 18 of 31 pairs" in page
    for step in funnel(out)["steps"]:
        for reason, count in step["dropped"].items():
            assert not count or f" {reason} {count} " in page
    assert main("report", "--compare", str(out), str(at / "texts"), f"--output={at}/both.html") == 0
    for flags in ([], ["--reason=duplicate_of_training"]):
        assert main("look", str(out), *flags, f"--output={at}/look.html") == 0
        assert "data:image/jpeg" in (at / "look.html").read_text()
    for name in ("set", "texts"):
        assert main("verify", f"{at}/{name}") == main("card", f"{at}/{name}", "--summary=eu") == 0
    after = digests(at)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed - {name for name in changed if "summary-eu" in name} == {
        *("set/report.html", "texts/report.html", "look.html", "both.html")
    }
    keys = [sample.key for tar in out.glob("*/*.tar") for sample in shard_samples(str(tar))]
    assert sorted(keys) == sorted(stored(out))


def test_it_is_the_input_of_a_run(at: Path) -> None:
    assert main("curate", f"--input={at}/set", f"--output={at}/new", *FLAGS) == 0
    urls = {row["url"] for row in rows(at / "set", "shards")}  # and not those held out
    assert {*stored(at / "new").values()} == urls
    check_dataset(at / "new")
    assert funnel(at / "new")["history"][0]["pairs"] == 18


@pytest.mark.parametrize(
    ("kind", "flags"), [("url", ()), ("prefix", ()), ("url", ("--forget_blocked",))]
)
def test_a_pair_that_moved_is_taken_down_by_its_own_url(
    at: Path, kind: str, flags: tuple[str, ...]
) -> None:
    out = at / "set"
    ((key, url),) = (tuple(row.values()) for row in rows(out, "moved"))
    assert stored(out)[key] != url
    (at / "list.txt").write_text(f"{kind}:{url}\n")
    left = {of: where for of, where in stored(out).items() if of != key}
    assert main("takedown", str(out), f"--blocklist={at}/list.txt", *flags) == 0
    assert stored(out) == left
    assert not any(f"{url}{quote}".encode() in words(out) for quote in "'\"")
    check_dataset(out)
    assert not [*out.glob("moved/*"), *out.glob("report/*")]
    assert main("takedown", str(at / "texts"), f"--blocklist={at}/list.txt", *flags) == 0
    check_dataset(at / "texts")


def test_it_does_not_grow(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("grow", "set", "--input=pairs.parquet", "--output=new") == 2
    assert "is of an earlier version, without images/" in capsys.readouterr().err
    assert not (at / "new").exists()


def test_it_is_deduplicated(at: Path) -> None:
    out, before = at / "set", digests(at / "set")
    assert main("deduplicate", str(out)) == 0
    assert digests(out) == before  # the run did that
    assert main("deduplicate", str(out), "--near") == 0
    assert funnel(out)["pairs"] == 17
    check_dataset(out)


@pytest.mark.parametrize("name", ["takedown", "deduplicate", "base"])
def test_a_change_that_0_2_began_is_ended_by_0_2(
    at: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (at / "set/_temporary").mkdir()
    (at / f"set/_temporary/{name}.json").write_text("{}")
    (at / "list.txt").write_text("key:0123456789abcdef\n")
    before = digests(at)
    for command in (
        ("takedown", "set", "--blocklist=list.txt"),
        ("deduplicate", "set"),
        ("curate", "--input=set", "--output=new", "--text_only"),
    ):
        assert main(*command) == 2, command
        said = capsys.readouterr().err
        assert "a command of an earlier version of alignset was stopped in " in said
        assert said.count("\n") == 1
    assert digests(at, but=["set/_temporary/_lock"]) == before
