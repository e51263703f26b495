"""What a container may use, as its control group says, in both versions."""

import os
from pathlib import Path

import pytest

from alignset.transforms.workers import usable_machine
from alignset.transforms.workers.usable_machine import usable_cores, usable_memory

BOUND = len(os.sched_getaffinity(0))


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(usable_machine, "CGROUPS", tmp_path)
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
