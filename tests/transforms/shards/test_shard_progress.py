"""What is whole of an output, and what attempts on this machine have counted of the rest."""

import os
import uuid
from pathlib import Path

from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_progress import (
    COUNT_S,
    ShardCount,
    attempt_folder,
    finished_shards,
    shards_under_way,
)
from alignset.transforms.storage.files import write_atomically


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_shard_is_whole_where_its_stats_are(folder: str):
    planned = {0, 1, 2, 123456, HOLDOUT + 3}
    assert finished_shards(folder, planned) == set()
    names = ("00000_stats.json", "00001.tar", "00001.parquet", "123456_stats.json", "x_stats.json")
    for name in (*names, ".00002_stats.json.0123456789abcdef0123456789abcdef"):
        write_atomically(f"{folder}/shards/{name}", lambda sink: sink.write(b"{}"))
    write_atomically(f"{folder}/holdout/00003_stats.json", lambda sink: sink.write(b"{}"))
    assert finished_shards(folder, planned) == {0, 123456, HOLDOUT + 3}
    assert finished_shards(folder, {0, 1}) == {0}


def test_a_count_is_there_while_the_attempt_is(tmp_path: Path):
    plan, clock = str(tmp_path / "plan"), Clock()
    with attempt_folder(plan) as name:
        count = ShardCount(Path(name), "start", 7, 100, clock)
        count(1)  # too early to write
        assert shards_under_way(plan, "start") == {7: 0}
        for done, at in ((5, COUNT_S), (6, COUNT_S * 1.5), (9, COUNT_S * 2)):
            clock.now = at
            count(done)
        assert shards_under_way(plan, "start") == {7: 9}
        with attempt_folder(plan) as another:  # of two attempts the farthest counts
            ShardCount(Path(another), "start", 7, 100, clock)
            assert shards_under_way(plan, "start") == {7: 9}
        assert shards_under_way(plan, "an earlier start") == {}
    assert shards_under_way(plan, "start") == {}


def test_a_count_knows_the_most_connections(tmp_path: Path):
    plan, clock = str(tmp_path / "plan"), Clock()
    loads = iter([(12, "hosts"), (7, "name server")])
    with attempt_folder(plan) as name:
        count = ShardCount(Path(name), "start", 3, 100, clock, lambda: next(loads))
        for clock.now in (1.0, 2.0):
            count(40)
        assert count.most == 12


def test_what_is_no_count_or_would_block_is_left_out(tmp_path: Path):
    bodies = (b"", b"start 1", b"start x 5", b"start 1 -5", b"\xff\xfe 1 5", b"start 1 5 9")
    for number, body in enumerate((*bodies, b"start 1 x", b"start 1 5 " + b"6" * 200)):
        (tmp_path / f"shard-{number}").mkdir()
        (tmp_path / f"shard-{number}" / "done").write_bytes(body)
    for name in ("shard-a", "shard-b"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "shard-a" / "done")
    (tmp_path / "shard-b" / "done").mkdir()
    assert shards_under_way(str(tmp_path / "plan"), "start") == {}


def test_of_a_plan_in_a_store_attempts_are_in_the_folder_for_temporary_files():
    plan, clock, token = "mem://bucket/set/_temporary/plan", Clock(), uuid.uuid4().hex
    with attempt_folder(plan) as name:
        count = ShardCount(Path(name), token, 0, 10, clock)
        clock.now = 1.0
        count(4)
        assert shards_under_way(plan, token) == {0: 4}
