"""Of several starts of a command only the newest publishes, and of two attempts only one."""

import threading
from pathlib import Path

import pytest

from alignset.transforms.workers.fencing import Fence, SupersededError


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "00000.parquet"
    path.write_bytes(b"pairs")
    return path


def test_the_newest_start_publishes_and_older_ones_do_not(tmp_path: Path, plan: Path):
    older, newer = (Fence(str(tmp_path / "start"), token) for token in ("older", "newer"))
    assert older.newest() == ""
    older.take()
    with older.publishing(str(plan)):
        assert newer.newest() == "older"
    newer.take()
    older_may = False
    with pytest.raises(SupersededError), older.publishing(str(plan)):
        older_may = True
    assert not older_may
    with pytest.raises(SupersededError):
        older.check()
    newer.check()
    with newer.publishing(str(plan)):
        assert plan.read_bytes() == b"pairs"


def test_after_the_run_nobody_publishes(tmp_path: Path, plan: Path):
    fence = Fence(str(tmp_path / "start"), "one")
    fence.take()
    plan.unlink()
    (tmp_path / "start").unlink()
    with pytest.raises(SupersededError), fence.publishing(str(plan)):
        pass


def test_what_is_being_published_is_waited_for(tmp_path: Path, plan: Path):
    """By an attempt at the same shard, and by the next start; not by another shard."""
    fence = Fence(str(tmp_path / "start"), "one")
    fence.take()
    other_plan = tmp_path / "00001.parquet"
    other_plan.write_bytes(b"pairs")
    done: list[str] = []

    def publish(path: Path, name: str) -> None:
        with fence.publishing(str(path)):
            done.append(name)

    def take() -> None:
        Fence(fence.path, "two").take()
        done.append("taken")

    waiting = [
        threading.Thread(target=publish, args=(plan, "same shard")),
        threading.Thread(target=take),
    ]
    other = threading.Thread(target=publish, args=(other_plan, "other shard"))
    with fence.publishing(str(plan)):
        waiting[0].start()
        other.start()
        other.join(10)
        assert done == ["other shard"]
        waiting[1].start()
        waiting[1].join(0.2)
        assert done == ["other shard"]
        assert fence.newest() == "one"
    for thread in waiting:
        thread.join(10)
    assert set(done) >= {"other shard", "taken"}
    assert fence.newest() == "two"
