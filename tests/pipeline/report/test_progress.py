"""The line of progress: its words, and that its numbers are right whatever was done before."""

import re
import time
from pathlib import Path

import pytest

from pipeline.report.progress import (
    Amount,
    Done,
    ImageProgress,
    counted,
    duration,
    progress_line,
    verb_of,
    what_is_left,
)
from tests.support.memory_files import FILES
from transforms.workers.fencing import Fence

ALL = Done(0.0, 40, 400_000)
SIZES = {0: 100, 1: 90, 5: 110}


@pytest.mark.parametrize(
    ("first", "done", "line"),
    [
        (
            Done(0.0, 0, 0),
            Done(100.0, 12, 118_204),
            "12 of 40 shards, 118,204 of 400,000 pairs, 1,182 images/s, 4 min left",
        ),
        (  # after a resume: the rate is of this start alone, and so is what is left
            Done(10.0, 11, 110_000),
            Done(110.0, 12, 118_000),
            "12 of 40 shards, 118,000 of 400,000 pairs, 80 images/s, 59 min left",
        ),
        (
            Done(0.0, 0, 0),
            Done(100.0, 0, 990),
            "0 of 40 shards, 990 of 400,000 pairs, 9.9 images/s, 11 h 12 min left",
        ),
        (
            Done(0.0, 11, 110_000),
            Done(0.0, 11, 110_000),
            "11 of 40 shards, 110,000 of 400,000 pairs, starting",
        ),
        (
            Done(0.0, 0, 0),
            Done(100.0, 39, 400_000),
            "39 of 40 shards, 400,000 of 400,000 pairs, 4,000 images/s, writing the last",
        ),
        (
            Done(0.0, 0, 0),
            Done(100.0, 40, 400_000),
            "40 of 40 shards, 400,000 of 400,000 pairs, 4,000 images/s",
        ),
        (
            Done(0.0, 40, 400_000),
            Done(1.0, 40, 400_000),
            "40 of 40 shards, 400,000 of 400,000 pairs",
        ),
    ],
)
def test_the_line(first: Done, done: Done, line: str):
    assert progress_line(first, done, ALL) == line


@pytest.mark.parametrize(
    ("done", "of_all", "line"),
    [
        (Done(0, 0, 0), ALL, "40 shards, 400,000 pairs to fetch"),
        (Done(0, 0, 0), Done(0, 1, 1), "1 shard, 1 pair to fetch"),
        (
            Done(0, 36, 361_000),
            ALL,
            "4 of 40 shards are left, 39,000 of 400,000 pairs to fetch",
        ),
        (Done(0, 39, 390_000), ALL, "1 of 40 shards is left, 10,000 of 400,000 pairs to fetch"),
        (Done(0, 40, 400_000), ALL, "40 shards, each of them whole: what is left is to add up"),
        (Done(0, 0, 0), Done(0, 0, 0), "no pair is left to fetch"),
    ],
)
def test_what_is_left(done: Done, of_all: Done, line: str):
    assert what_is_left(done, of_all, "fetch") == line


@pytest.mark.parametrize(
    ("formats", "verb"),
    [
        ({"parquet"}, "fetch"),
        ({"webdataset"}, "read"),
        ({"csv", "webdataset"}, "read or fetch"),
        ({"csv", "tsv"}, "fetch"),
        (set(), "fetch"),
    ],
)
def test_stored_images_are_read_and_others_fetched(formats: set[str], verb: str):
    assert verb_of(formats) == verb


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5369, "89 min"),
        (5400, "1 h 30 min"),
        (172_700, "47 h 58 min"),
        (172_800, "2 d 0 h"),
        (1e8, "1,157 d 9 h"),
    ],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_counted():
    assert [counted(number, "pair") for number in (0, 1, 1000)] == [
        "0 pairs",
        "1 pair",
        "1,000 pairs",
    ]


def finish(out: Path, shard: int) -> None:
    (out / "shards").mkdir(parents=True, exist_ok=True)
    (out / "shards" / f"{shard:05d}_stats.json").write_text("{}")


def count(out: Path, attempt: str, shard: int, done: int, token: str = "now") -> None:
    folder = out / "_temporary" / f"shard-{attempt}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "done").write_text(f"{token} {shard} {done}\n")


def amount_of(out: Path) -> Amount:
    return Amount(str(out), f"{out}/_temporary/plan", "now", SIZES)


def test_whole_shards_and_counted_pairs_are_done(tmp_path: Path):
    amount = amount_of(tmp_path)
    assert amount.look(1.0) == Done(1.0, 0, 0)
    finish(tmp_path, 1)
    finish(tmp_path, 9)  # of the run that a retry goes on from
    count(tmp_path, "a", 0, 60)
    count(tmp_path, "b", 9, 50)
    count(tmp_path, "c", 5, 30, token="before")
    assert amount.look(2.0, listing=True) == Done(2.0, 1, 150)


def test_no_pair_is_counted_twice_and_none_is_lost(tmp_path: Path):
    amount = amount_of(tmp_path)
    count(tmp_path, "a", 0, 60)
    assert amount.look(1.0, listing=True).pairs == 60
    count(tmp_path, "a", 0, 20)  # another attempt at it begins
    assert amount.look(2.0, listing=True).pairs == 60
    count(tmp_path, "a", 0, 500)
    assert amount.look(3.0, listing=True).pairs == 100
    finish(tmp_path, 0)  # whole, and its attempt still there
    assert amount.look(4.0, listing=True) == Done(4.0, 1, 100)
    (tmp_path / "_temporary" / "shard-a" / "done").unlink()
    finish(tmp_path, 1)
    assert amount.look(5.0, listing=True) == Done(5.0, 2, 190)


def test_a_shard_that_is_whole_before_a_store_is_listed_stays_counted(tmp_path: Path):
    amount = Amount("mem://bucket/set", f"{tmp_path}/_temporary/plan", "now", SIZES)
    assert amount.look(0.0) == Done(0.0, 0, 0)  # listed, and not again for a while
    count(tmp_path, "a", 5, 110)
    assert amount.look(1.0).pairs == 110
    (tmp_path / "_temporary" / "shard-a" / "done").unlink()
    assert amount.look(2.0) == Done(2.0, 0, 110)
    for path in ("shards/00005_stats.json", "shards/00000_stats.json"):
        FILES[f"mem://bucket/set/{path}"] = b"{}"
    assert amount.look(3.0) == Done(3.0, 0, 110)
    assert amount.look(31.0) == Done(31.0, 2, 210)


def test_a_store_that_does_not_answer_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def unavailable(*_: object) -> set[int]:
        raise OSError("503")

    monkeypatch.setattr("pipeline.report.progress.finished_shards", unavailable)
    with progress_of(tmp_path):
        pass
    assert capsys.readouterr().err == "3 shards, 300 pairs to fetch\n"


def progress_of(out: Path, **how: float) -> ImageProgress:
    fence = Fence(f"{out}/_temporary/start", "now")
    return ImageProgress(str(out), f"{out}/_temporary/plan", fence, SIZES, **how)


def test_lines_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture):
    finish(tmp_path, 1)
    progress = progress_of(tmp_path, line_s=0.0)
    said = ""
    with progress:
        count(tmp_path, "a", 0, 60)
        until = time.monotonic() + 120
        while "images/s" not in said:
            assert time.monotonic() < until
            time.sleep(0.05)
            said += capsys.readouterr().err
        for shard in SIZES:
            finish(tmp_path, shard)
    first, *lines = (said + capsys.readouterr().err).splitlines()
    assert first == "2 of 3 shards are left, 210 of 300 pairs to fetch"
    line = r"image plane: 1 of 3 shards, 150 of 300 pairs, [\d,.]+ images/s, \d+ s left"
    assert any(re.fullmatch(line, told) for told in lines), lines
    end = r"image plane: 3 of 3 shards, 300 of 300 pairs, [\d,.]+ images/s, \d+\.\d s"
    assert re.fullmatch(end, lines[-1]), lines


def test_nothing_is_said_at_the_end_of_what_failed_or_is_still_to_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    with pytest.raises(KeyboardInterrupt), progress_of(tmp_path):
        raise KeyboardInterrupt
    with progress_of(tmp_path):
        pass
    assert capsys.readouterr().err == "3 shards, 300 pairs to fetch\n" * 2
