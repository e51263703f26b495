"""Several shards of a worker, each as long as it takes (a whole run: test_shards_at_once.py)."""

import threading
import time
from collections.abc import Callable

import pytest

from alignset.transforms.shards.shard_stats import ShardStats, shard_stats
from alignset.transforms.shards.shards_under_way import (
    FEW_SHARDS,
    MOST_PAIRS,
    Beginning,
    ShardsUnderWay,
)
from alignset.transforms.workers.threads import check_stopped


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
