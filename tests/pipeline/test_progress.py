"""The live view: that its numbers are right whatever was done before, on a terminal, in a log, with
a store that does not answer; and that it costs next to nothing."""

import re
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.pipeline.progress import Amount, ImageProgress, be_quiet, what_is_left
from alignset.transforms.shards.shard_stats import shard_stats

SIZES = {0: 100, 1: 90, 5: 110}


def finish(out: Path, shard: int) -> None:
    (out / "shards").mkdir(parents=True, exist_ok=True)
    (out / "shards" / f"{shard:05d}_stats.json").write_text("{}")


def count(out: Path, attempt: str, shard: int, done: int) -> None:
    folder = out / "_temporary" / "attempts" / f"{shard:05d}-{attempt}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "count").write_text(str(done))


def amount_of(out: Path) -> Amount:
    return Amount(str(out), f"{out}/_temporary/attempts", SIZES)


def done(amount: Amount, now: float) -> tuple[int, int]:
    """Shards and pairs that are done."""
    amount.look(now, listing=True)
    return amount.shards, amount.pairs


@pytest.mark.parametrize("quiet", [False, True])
def test_a_store_that_does_not_answer_ends_no_run(
    quiet: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    def unavailable(_: str) -> dict[int, bool]:
        raise OSError("503")

    monkeypatch.setattr("alignset.pipeline.progress.shards_there", unavailable)
    monkeypatch.setenv("ALIGNSET_LOG_LEVEL", "INFO")  # or the log would stay quiet
    be_quiet(quiet)
    try:
        with progress_of(tmp_path):
            pass
    finally:
        be_quiet(False)
    assert capsys.readouterr().err == ("" if quiet else "3 shards, 300 pairs to fetch\n")


def progress_of(out: Path) -> ImageProgress:
    return ImageProgress(str(out), f"{out}/_temporary/attempts", SIZES)


def test_lines_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    finish(tmp_path, 1)
    monkeypatch.setattr("alignset.pipeline.progress.LINE_S", 0.0)
    progress = progress_of(tmp_path)
    said = ""
    with progress:
        count(tmp_path, "a", 0, 60)
        until = time.monotonic() + 120
        while "pairs/s" not in said:
            assert time.monotonic() < until
            time.sleep(0.05)
            said += capsys.readouterr().err
        for shard in SIZES:
            finish(tmp_path, shard)
    first, *lines = (said + capsys.readouterr().err).splitlines()
    assert first == "2 of 3 shards are left, 210 of 300 pairs to fetch"
    line = r"image stage: 1 of 3 shards, 150 of 300 pairs, [\d.]+ pairs/s, \d\d:\d\d left"
    assert any(re.fullmatch(line, told) for told in lines), lines
    end = r"image stage: 3 of 3 shards, 300 of 300 pairs, [\d.]+ pairs/s, \d+\.\d s"
    assert re.fullmatch(end, lines[-1]), lines


def write_stats(folder: Path, shard: int, ends: list[tuple[str | None, str | None]]) -> None:
    stats = shard_stats(shard, *zip(*ends, strict=True), size=90_000, sha256="ab")
    (folder / "shards").mkdir(exist_ok=True)
    (folder / "shards" / f"{shard:05d}_stats.json").write_bytes(stats.encode())


def test_the_line_has_what_was_kept_and_what_failed(tmp_path: Path):
    amount = amount_of(tmp_path)
    assert f"{amount}{amount.outcome}" == "0 of 3 shards, 0 of 300 pairs"
    write_stats(tmp_path, 0, [(None, None)] * 60 + [("fetch_failed", "dns")] * 40)
    write_stats(tmp_path, 1, [(None, None)] * 45 + [("image_too_small", None)] * 45)
    finish(tmp_path, 5)  # of another version: what it kept is not known
    amount.look(1.0, listing=True)
    assert str(amount) == "3 of 3 shards, 300 of 300 pairs"
    assert amount.outcome == ", 55.3% kept, 21.1% failed (dns 21.1%)"


@pytest.mark.parametrize(
    ("whole", "under_way", "expected"),
    [
        ([], {}, "3 shards, 300 pairs to fetch"),
        ([], {0: 60}, "3 shards, 240 pairs to fetch"),
        ([1], {}, "2 of 3 shards are left, 210 of 300 pairs to fetch"),
        ([1, 5], {0: 60}, "1 of 3 shards is left, 40 of 300 pairs to fetch"),
        ([0, 1, 5], {}, "3 shards, each of them whole: what is left is to add up"),
    ],
)
def test_what_is_left_is_told_before_it_is_done(
    tmp_path: Path, whole: list[int], under_way: dict[int, int], expected: str
):
    for shard in whole:
        finish(tmp_path, shard)
    for shard, pairs in under_way.items():
        count(tmp_path, str(shard), shard, pairs)
    amount = amount_of(tmp_path)
    amount.look(0.0, listing=True)
    assert what_is_left(amount, "fetch") == expected


@given(st.lists(st.tuples(st.sampled_from([*SIZES, 9]), st.integers(-1, 150)), max_size=12))
def test_no_pair_is_counted_twice_and_none_is_lost(events: list[tuple[int, int]]):
    """Events: a shard is whole (-1), or an attempt at it has counted so many pairs."""
    with tempfile.TemporaryDirectory() as folder:
        amount, most = amount_of(Path(folder)), dict.fromkeys(SIZES, 0)
        whole = set[int]()
        for now, (shard, pairs) in enumerate(events):
            if pairs < 0:
                finish(Path(folder), shard)
                whole |= {shard} & SIZES.keys()
            else:
                count(Path(folder), "a", shard, pairs)
            if shard in SIZES:
                most[shard] = SIZES[shard] if shard in whole else max(most[shard], pairs)
            shown = sum(min(pairs, SIZES[shard]) for shard, pairs in most.items())
            assert done(amount, float(now)) == (len(whole), shown)
