"""The bytes of answers: never more than allowed but for one answer, and all end."""

import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.fetching import body_memory
from alignset.transforms.fetching.body_memory import (
    MOST_HELD,
    BodyMemory,
    TakenBytes,
    memory_for_bodies,
    usable_cores,
    usable_memory,
)


class Transfer:
    """An answer that comes in parts, each as soon as it is let."""

    def __init__(self, memory: BodyMemory, parts: list[int]) -> None:
        self.memory, self.parts, self.had = memory, parts, 0
        self.held_back = False

    def resume(self) -> None:
        self.held_back = False
        self.go_on()

    def go_on(self) -> None:
        if self.parts and not self.held_back:
            if self.memory.admits(self, self.parts[0]):
                self.had += self.parts.pop(0)
            else:
                self.held_back = True


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=9), max_size=30), st.integers(0))
def test_the_bound_holds_and_all_end(answers: list[list[int]], seed: int):
    memory, random = BodyMemory(100), Random(seed)
    transfers = [Transfer(memory, list(parts)) for parts in answers]
    largest = max((sum(parts) for parts in answers), default=0)
    rounds = 0
    while transfers:
        random.choice(transfers).go_on()
        assert memory.held_bytes <= 100 + largest
        for done in [one for one in transfers if not one.parts]:
            memory.note_end(done, done.had)
            transfers.remove(done)
        memory.resume()
        rounds += 1
        assert rounds < 20_000
    assert memory.held_bytes == 0
    assert not memory.holds_back


def test_what_callers_have_taken_counts_together_and_ends_with_each():
    before = TakenBytes.of_all
    with TakenBytes() as one, TakenBytes() as other:
        one.add(50)
        other.add(30)
        one.add(-20)
        assert TakenBytes.of_all == before + 60
    assert TakenBytes.of_all == before
    assert 1 << 20 < memory_for_bodies() <= MOST_HELD


BOUND = len(os.sched_getaffinity(0))


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(body_memory, "CGROUPS", tmp_path)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "memory").mkdir()
    return tmp_path


def test_what_a_container_may_use_is_the_least_of_what_is_said(cgroups: Path):
    assert usable_cores() == BOUND
    for quota, cores in (
        *(("max 100000\n", BOUND), ("50000 100000\n", 0.5), ("nothing of the kind\n", BOUND)),
        (f"{(BOUND + 1) * 100_000} 100000\n", BOUND),
    ):
        (cgroups / "cpu.max").write_text(quota)
        assert usable_cores() == cores
    for quota, cores in (("25000\n", BOUND), ("25000\n", 0.25), ("-1\n", BOUND)):
        (cgroups / "cpu/cpu.cfs_quota_us").write_text(quota)
        assert usable_cores() == cores
        (cgroups / "cpu/cpu.cfs_period_us").write_text("100000\n")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert usable_memory() == whole
    (cgroups / "memory.max").write_text("max\n")
    assert usable_memory() == whole
    (cgroups / "memory/memory.limit_in_bytes").write_text(f"{1 << 20}\n")
    assert usable_memory() == 1 << 20
