"""What whole shards' stats add up to, read within a given time."""

from collections import Counter

from alignset.pipeline.report.shard_tallies import ShardTallies, Tally
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import shard_stats
from alignset.transforms.storage.files import write_atomically

ENDS = [
    *((None, None),) * 6,
    ("fetch_failed", "dns"),
    ("fetch_failed", "http_404"),
    ("fetch_failed", "dns"),
    ("too_small", None),
]


def put(out: str, shard: int) -> None:
    stats = shard_stats(shard, *zip(*ENDS, strict=True), size=5000, sha256="ab")
    path = ShardPlaces(out).stats(shard)
    write_atomically(path, lambda sink: sink.write(stats.encode()))


def test_stats_are_added_up_and_those_of_earlier_starts_apart(folder: str):
    tallies = ShardTallies(folder)
    for shard in (0, 1, 2):
        put(folder, shard)
    tallies.add({0, 1}, earlier=True)
    tallies.add({2})
    tallies.read(60.0)
    one = Tally(10, 6, 7, 5000, Counter(fetch_failed=3, too_small=1), Counter(dns=2, http_404=1))
    assert tallies.of_this_start == one
    assert (tallies.of_all.pairs, tallies.of_all.kept, tallies.of_all.bytes) == (30, 18, 15_000)
    assert tallies.of_all.failures == Counter(dns=6, http_404=3)


def test_what_there_is_no_time_for_is_read_later(folder: str):
    times = iter(range(100))
    tallies = ShardTallies(folder, lambda: float(next(times)))
    for shard in range(6):
        put(folder, shard)
    tallies.add({0, 1, 2}, earlier=True)
    tallies.add({3, 4, 5})
    tallies.read(2.5)  # each look at the clock takes a second
    assert tallies.of_this_start.pairs == tallies.of_all.pairs == 20  # the new ones first
    tallies.read(100.0)
    assert (tallies.of_this_start.pairs, tallies.of_all.pairs) == (30, 60)


def test_stats_that_cannot_be_read_are_left_out(folder: str):
    put(folder, 0)
    write_atomically(ShardPlaces(folder).stats(1), lambda sink: sink.write(b"{"))
    tallies = ShardTallies(folder)
    tallies.add({0, 1, 2})
    tallies.read(60.0)
    assert tallies.of_all.pairs == 10
