import json
import shutil
import threading
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards import plan_shards
from alignset.transforms.shards import renumber_shards as module
from alignset.transforms.shards.plan_shards import (
    PlanShards,
    group_count,
    plan_path,
    shard_count,
    shards_of,
)
from alignset.transforms.shards.renumber_shards import new_numbers, renumber_shards
from alignset.transforms.shards.shard_places import (
    COUNT_S,
    HOLDOUT,
    ShardCount,
    ShardPlaces,
    shards_under_way,
)
from alignset.transforms.shards.shard_stats import ShardStats, shard_stats
from alignset.transforms.shards.write_shards import (
    FEW_SHARDS,
    MOST_PAIRS,
    Beginning,
    ShardsUnderWay,
)
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.workers.attempts import Attempt
from alignset.transforms.workers.threads import check_stopped
from tests.support.command import digests
from tests.support.made_batches import run_in_beam

TOP = 2**64 - 1
SCHEMES = ("http", "HTTP", "hTTp")


def test_the_number_of_shards_and_groups() -> None:
    sizes = [(0, 0), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)]
    assert [(pairs, shard_count(pairs, 10)) for pairs, _ in sizes] == sizes
    groups = {
        (10, 1): 1,
        (10_240_000, 1024): 1024,
        (10_240_001, 1025): 1024,
        (1_536_000_000, 153_600): 1024,
        (1_536_000_001, 153_601): 1025,
        (5_650_000_000, 1000): 1000,
    }
    assert {counts: group_count(*counts) for counts in groups} == groups


@given(st.lists(st.integers(0, TOP)), st.integers(1, 2**32 - 1))
def test_shards_are_equal_parts_of_all_hashes(keys: list[int], shards: int) -> None:
    numbers = shards_of(np.array(keys, np.uint64), shards).tolist()
    assert numbers == [(key >> 32) * shards >> 32 for key in keys]
    assert all(0 <= shard < shards for shard in numbers)


@pytest.mark.parametrize("by_reference", [False, True])
@pytest.mark.parametrize("groups", [2, 1024])
def test_plans_in_beam(tmp_path: Path, monkeypatch, by_reference: bool, groups: int) -> None:
    monkeypatch.setattr(plan_shards, "MAX_GROUPS", groups)  # neighbours that share a block
    (tmp_path / "blocks").mkdir()
    blocks = Blocks(str(tmp_path / "blocks") if by_reference else None)
    keys = np.random.default_rng(2).integers(0, TOP, 45, np.uint64)
    # Every image has three pairs, whose URLs differ to the eye alone.
    urls = [
        f"{scheme}://h{at // 3}.example/#{at}"
        for at, scheme in zip(range(45), cycle(SCHEMES), strict=False)
    ]
    # The second of an image's pairs comes from a shard, and so does one image alone.
    paths = ["x.tar" if at in (1, 4, 5) else None for at in range(45)]
    rows = pa.record_batch({"key": keys, "url": urls, "source_path": paths})
    places = shards_of(url_hashes(rows["url"])[0], 5)
    sizes = np.bincount(places, minlength=5).tolist()
    kept = [(split, rows.slice(at, 9)) for split, at in enumerate(range(0, 45, 9))]

    def build(pipeline: beam.Pipeline) -> None:
        total = pipeline | "Kept" >> beam.Create([len(rows)])
        plan = PlanShards(str(tmp_path / "plan"), 10, total, blocks)
        written = pipeline | "Pairs" >> beam.Create(kept) | plan
        assert_that(written.shards, equal_to([item for item in enumerate(sizes) if item[1]]))
        assert_that(written.stored | beam.CombineGlobally(sum), equal_to([6]), label="stored")

    run_in_beam(build)
    filled = [shard for shard in range(5) if sizes[shard]]
    for shard in filled:
        expected = pa.Table.from_batches([rows]).filter(pa.array(places == shard)).sort_by("key")
        assert pq.read_table(plan_path(str(tmp_path / "plan"), shard)).equals(expected)
        images = {url.lower().partition("#")[0] for url in expected["url"].to_pylist()}
        assert len(expected) == 3 * len(images)
    assert len(list((tmp_path / "plan").iterdir())) == len(filled) > 2


# What is whole of an output, and what attempts on this machine have counted of the rest.


# Several shards of a worker, each as long as it takes (a whole run: test_shards_at_once.py).


class Writing:
    """Writes shards, each as long as it is not let go."""

    def __init__(self, pairs: int = 1_000) -> None:
        self.pairs = pairs
        self.let_go = threading.Event()
        self.beginnings: dict[int, Beginning] = {}

    def __call__(self, shard: int, beginning: Beginning) -> ShardStats:
        beginning.pairs = self.pairs
        self.beginnings[shard] = beginning
        while not self.let_go.wait(0.01):
            check_stopped()
        return shard_stats(shard, [None], [None], size=1, sha256="00")


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)


def begun(under_way: ShardsUnderWay, writing: Writing, shard: int) -> None:
    under_way.begin(shard)
    until(lambda: shard in writing.beginnings)


@pytest.mark.parametrize(("pairs", "more"), [(MOST_PAIRS // FEW_SHARDS, False), (1_000, True)])
def test_of_large_shards_few_are_under_way_in_all_bundles_of_a_process(pairs: int, more: bool):
    """Each bundle may have one, whatever the others have."""
    writing = Writing(pairs)
    bundles = [ShardsUnderWay(writing) for _ in range(3)]
    for shard in range(FEW_SHARDS):
        begun(bundles[shard % 2], writing, shard)
        assert not bundles[shard % 2].has_room, "most of its URLs are left"
        writing.beginnings[shard].nearly_taken.set()
    assert [bundle.has_room for bundle in bundles] == [more, more, True]
    writing.let_go.set()
    assert sum(len(list(bundle.finish())) for bundle in bundles) == FEW_SHARDS
    assert all(bundle.has_room for bundle in bundles)


@pytest.mark.parametrize("error", [OSError, InterruptedError])
def test_what_one_raises_is_raised_and_the_others_are_stopped(error: type[Exception]):
    """InterruptedError: a worker that ends stops its shards on another thread than that which waits
    for them, which are not taken for written."""
    writing = Writing()

    def write(shard: int, beginning: Beginning) -> ShardStats:
        if shard and error is OSError:
            raise OSError
        return writing(shard, beginning)

    under_way = ShardsUnderWay(write)
    begun(under_way, writing, 0)
    under_way.begin(1)
    if error is InterruptedError:
        threading.Timer(0.2, under_way.stop).start()
    with pytest.raises(error):
        list(under_way.finish())
    under_way.stop()  # would wait without end for the first, which nobody lets go
    assert not writing.let_go.is_set()


# Shards that hold something get numbers without a gap, wherever it is stopped on the way.

NUMBERS = st.integers(0, 60) | st.integers(HOLDOUT, HOLDOUT + 60)


@given(st.dictionaries(NUMBERS, st.booleans()))
def test_no_gap_and_no_number_twice(kept: dict[int, bool]):
    """The last take the places of the empty, which take theirs; in each split by itself."""
    new = new_numbers(kept)
    for first in (0, HOLDOUT):
        of_split = [shard for shard in sorted(kept) if first <= shard < first + HOLDOUT]
        full = [shard for shard in of_split if kept[shard]]
        filled = range(first, first + len(full))
        assert sorted(new.get(shard, shard) for shard in full) == [*filled]
        assert {shard for shard in full if shard in new} == {*full} - {*filled}
    assert len({new.get(shard, shard) for shard in kept}) == len(kept)


KEPT = {0: 0, 1: 3, 2: 0, 4: 2, 6: 1}


def made(folder: Path) -> Path:
    """An output with these shards, each of whose files names the shard that it was made for."""
    for name in ("shards", "rejected"):
        (folder / name).mkdir(parents=True)
    places = ShardPlaces(str(folder))
    for shard, samples in KEPT.items():
        reasons = ["too_small", *[None] * samples]
        stats = shard_stats(shard, reasons, reasons, size=shard, sha256=f"of {shard}")
        Path(places.stats(shard)).write_bytes(stats.encode())
        Path(places.rejected(shard)).write_text(f"dropped from {shard}")
        if samples:
            Path(places.tar(shard)).write_text(f"tar {shard}")
            Path(places.sidecar(shard)).write_text(f"sidecar {shard}")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("_stats.json")
    }


def test_each_shard_keeps_all_that_is_its_own(tmp_path: Path):
    out = made(tmp_path / "set")
    work = str(tmp_path / "work")
    renumber_shards(str(out), work)
    numbers = {0: 4, 1: 1, 2: 6, 4: 0, 6: 2}
    expected = {
        f"rejected/images-{new:05d}.parquet": f"dropped from {old}" for new, old in numbers.items()
    }
    for new, old in numbers.items():
        stats = json.loads((out / f"shards/{new:05d}_stats.json").read_text())
        assert (stats["shard"], stats["bytes_downloaded"]) == (new, old)
        assert stats["successes"] == KEPT[old]
        if KEPT[old]:
            expected |= {
                f"shards/{new:05d}.parquet": f"sidecar {old}",
                f"shards/{new:05d}.tar": f"tar {old}",
            }
    assert contents(out) == expected


def test_what_is_missing_leaves_nothing_under_an_old_number(tmp_path: Path):
    out = made(tmp_path / "set")
    for path in [*out.rglob("*00000*"), *out.glob("rejected/images-00006*")]:
        path.unlink()  # shard 0 was given no pair; a downloaded dataset lacks rejects
    renumber_shards(str(out), str(tmp_path / "work"))
    assert not list(out.rglob("*00004*"))
    assert contents(out / "rejected") == {
        "images-00000.parquet": "dropped from 4",
        "images-00001.parquet": "dropped from 1",
        "images-00006.parquet": "dropped from 2",
    }


class StoppedError(Exception):
    pass


def test_stopped_before_any_change_it_is_done_again_to_the_same_end(tmp_path: Path, monkeypatch):
    made(tmp_path / "made")
    whole = shutil.copytree(tmp_path / "made", tmp_path / "whole")
    renumber_shards(str(whole), str(tmp_path / "work"))
    changing = ("copy_file", "move", "remove", "write_atomically", "write_document")
    for calls in range(1, 1000):
        out = shutil.copytree(tmp_path / "made", tmp_path / "set", dirs_exist_ok=False)
        work, left = tmp_path / f"work-{calls}", [calls]

        def counted(function, left=left):
            def call(*args):
                left[0] -= 1
                if left[0] < 1:
                    raise StoppedError
                return function(*args)

            return call

        with monkeypatch.context() as patched:
            for name in changing:
                patched.setattr(module, name, counted(getattr(module, name)))
            try:
                renumber_shards(str(out), str(work))
                break
            except StoppedError:
                pass
        renumber_shards(str(out), str(work))
        assert digests(out) == digests(whole)
        shutil.rmtree(out)
    assert calls > 15  # changes that it was stopped before


def test_of_several_attempts_at_a_shard_the_farthest_counts(tmp_path: Path):
    attempts = f"{tmp_path}/attempts"
    with Attempt(attempts, "00007", {}) as one, Attempt(attempts, "00007", {}) as other:
        now = [0.0]
        count = ShardCount(one.folder, 7, 100, clock=lambda: now[0])
        ShardCount(other.folder, 7, 100)
        now[0] = COUNT_S
        count(9)
        assert shards_under_way(attempts) == {7: 9}
        (one.folder / "count").write_text("")  # it is just being written
        assert shards_under_way(attempts) == {7: 0}
    assert shards_under_way(attempts) == {}
    assert shards_under_way("s3://bucket/set/_temporary/attempts") == {}
