"""The live view; the image stage run again where a worker died; the best share of made shards."""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.pipeline.curate import Places, bucket_count
from alignset.pipeline.curate_images import run_images
from alignset.pipeline.inputs.splits import InputFile
from alignset.pipeline.leaving import rank_pairs
from alignset.pipeline.progress import Amount, ImageProgress, be_quiet, what_is_left
from alignset.pipeline.runs.engine import WorkerDiedError
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.shards.leaving_pairs import leaving_files, read_leaving
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import shard_stats
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.workers.attempts import Attempt

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


def test_progress_may_be_lines_of_json(tmp_path: Path, capsys: pytest.CaptureFixture):
    finish(tmp_path, 5)  # by an earlier start
    amount = amount_of(tmp_path)
    amount.look(0.0, listing=True)
    assert amount.facts(1.0)["seconds_left"] is None
    be_quiet(True, as_json=True)
    try:
        with progress_of(tmp_path):
            write_stats(tmp_path, 0, [(None, None)] * 60 + [("fetch_failed", "dns")] * 40)
    finally:
        be_quiet(False)
    amount.look(1.0, listing=True)
    expected = {
        **{"pairs_done": 210, "pairs": 300, "shards_done": 2, "shards": 3},
        **{"pairs_judged": 100, "kept": 60, "failed": 40},
        **{"pairs_per_s": 25.0, "seconds": 4.0, "seconds_left": 3.6},
    }
    assert amount.facts(4.0) == expected
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert [*last] == [*expected]
    assert (last["pairs_done"], last["failed"]) == (210, 40)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_reader_that_is_gone_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = []
    with suppress(BrokenPipeError), os.fdopen(writing, "w") as gone:  # as the program ends
        monkeypatch.setattr("sys.stderr", gone)
        be_quiet(False, as_json=as_json)
        try:
            with progress_of(tmp_path):
                pass
            ended.append(as_json)
        finally:
            be_quiet(False)
    assert ended == [as_json]


def progress_of(out: Path) -> ImageProgress:
    return ImageProgress(str(out), f"{out}/_temporary/attempts", SIZES)


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


PLANNED = {0: 10, 1: 10, 2: 10}


class Engine:
    """Each of its pipelines writes so many shards; all but the last lose a worker."""

    def __init__(self, out: Path, *written: int) -> None:
        self._out, self._written, self._next = out, list(written), 0

    @contextmanager
    def pipeline(self, *_: object) -> Iterator[None]:
        yield
        for _ in range(self._written.pop(0)):
            (self._out / f"shards/{self._next:05d}_stats.json").touch()
            self._next += 1
        if self._next < len(PLANNED):
            raise WorkerDiedError("a worker process died, and again")


@pytest.mark.parametrize(
    ("written", "helps"),
    [((3,), True), ((0, 1, 2), True), ((0, 0), False), ((1, 1, 0), False)],
)
def test_it_is_run_again_while_shards_are_written(
    tmp_path: Path, written: tuple[int, ...], helps: bool, caplog: pytest.LogCaptureFixture
):
    """What an earlier start may have died of is named, once."""
    (tmp_path / "shards").mkdir()
    work = WorkFolder(str(tmp_path / "_temporary"))
    Path(work.path).mkdir()
    for name in ("00001", "00002", "evaluation-ab"):
        Attempt(work.attempts, name, {})
    places = Places(str(tmp_path), work, Blocks())
    built: list[None] = []
    try:
        run_images(Engine(tmp_path, *written), places, PLANNED, None, built.append, verb="fetch")
        assert helps
    except WorkerDiedError:
        assert not helps
    assert len(built) == len(written)
    named = [line.partition(" under way ")[0] for line in caplog.messages if "under way" in line]
    assert named == ["2 shards", "1 part of the evaluation images"]


NOTHING = (None, math.nan)  # as similarities


def ranked(folder: Path, values: Sequence[float | None], share: float) -> set[int]:
    """The keys that leave two shards, whose pairs' keys are the places of their similarities."""
    for shard in range(2):
        own = range(shard, len(values), 2)
        keys = pa.array([f"{key:016x}" for key in own])
        rows = {"key": keys, "similarity": pa.array([values[key] for key in own], pa.float64())}
        path = Path(ShardPlaces(str(folder)).sidecar(shard))
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(rows), path)
    work = WorkFolder(str(folder / "_temporary"))
    places = Places(str(folder), work, Blocks())
    found = []
    for again in (False, True):  # as by an attempt that was killed before it ended
        rank_pairs([0, 1], places, share)
        names = leaving_files(work.leaving)
        found.append([read_leaving(work.leaving, name).rows.to_pylist() for name in names])
        if not again:
            Path(work.ranking).unlink()
    assert found[0] == found[1]
    rows = [row for of in found[0] for row in of]
    assert {row["reason"] for row in rows} <= {"less_similar"}
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"] for row in rows}


@pytest.mark.parametrize(("share", "kept"), [(0.29, 29), (0.5, 50), (1e-9, 0)])
def test_what_has_no_similarity_stays_and_takes_no_place(
    tmp_path: Path, share: float, kept: int
) -> None:
    values = [*(n / 100 for n in range(100)), *NOTHING * 30]
    assert ranked(tmp_path, values, share) == {*range(100 - kept)}


@pytest.mark.parametrize(("share", "ties"), [(0.5, 0), (0.75, 10), (1.0, 20)])
def test_among_equal_ones_the_smallest_hashes_of_keys_stay(
    tmp_path: Path, share: float, ties: int
) -> None:
    """20 of 40 pairs are better than the others, which are equal; the share is of all."""
    values = [0.5] * 20 + [0.9] * 20
    hashes = key_hashes(np.arange(20, dtype=np.uint64))
    stay = {*np.argsort(hashes)[: int(share * 40) - 20].tolist()}
    assert len(stay) == ties
    assert ranked(tmp_path, values, share) == {*range(20)} - stay


def test_how_a_run_is_cut_up_follows_from_all_files():
    files = [InputFile(f"{n}.parquet", 128 << 20, "parquet") for n in range(9)]
    assert [bucket_count(files[:7]), bucket_count(files)] == [8, 16]
