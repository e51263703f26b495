"""What is whole of an output, and what attempts on this machine have counted of the rest."""

from pathlib import Path

import pytest

from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_progress import (
    COUNT_S,
    LINE_S,
    ShardCount,
    shards_there,
    shards_under_way,
)
from alignset.transforms.storage.files import write_atomically
from alignset.transforms.workers.attempts import Attempt, PublishedError, end_killed


def test_a_shard_is_whole_where_its_stats_are(tmp_path: Path):
    assert shards_there(str(tmp_path)) == {}
    names = ("00000_stats.json", "00001.tar", "00001.parquet", "123456_stats.json", "x_stats.json")
    for name in (*names, "123456.tar", ".00002_stats.json.0123456789abcdef0123456789abcdef"):
        write_atomically(f"{tmp_path}/shards/{name}", lambda sink: sink.write(b"{}"))
    write_atomically(f"{tmp_path}/holdout/00003_stats.json", lambda sink: sink.write(b"{}"))
    assert shards_there(str(tmp_path)) == {0: False, 123456: True, HOLDOUT + 3: False}


def test_a_count_is_there_while_the_attempt_is(tmp_path: Path):
    attempts, now = f"{tmp_path}/attempts", [0.0]
    loads = iter([(12, "hosts"), (7, "name server"), (1, "hosts"), (1, "hosts")])
    with Attempt(attempts, f"{HOLDOUT}", {}), Attempt(attempts, "00007", {}) as attempt:
        how = (lambda: now[0] >= LINE_S), loads.__next__, lambda: now[0]
        count = ShardCount(attempt.folder, 7, 100, *how)
        count(1)  # too early to write
        assert shards_under_way(attempts) == {7: 0}
        for done, at in ((5, COUNT_S), (6, COUNT_S * 1.5), (9, COUNT_S * 2)):
            now[0] = at
            count(done)
        assert shards_under_way(attempts) == {7: 9}
        assert count.most == 12
        with Attempt(attempts, "00007", {}) as another:  # of two attempts the farthest counts
            ShardCount(another.folder, 7, 100)
            assert shards_under_way(attempts) == {7: 9}
        now[0] = LINE_S  # another is published by then
        with pytest.raises(PublishedError):
            count(10)
        (attempt.folder / "count").write_text("")  # it is just being written
        assert shards_under_way(attempts) == {}
        (attempt.folder / "count").write_text("11")
        end_killed(attempts)  # what an earlier start has counted
        assert shards_under_way(attempts) == {}
    assert shards_under_way(attempts) == {}
    assert shards_under_way("s3://bucket/set/_temporary/attempts") == {}
