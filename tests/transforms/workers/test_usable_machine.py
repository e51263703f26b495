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
    return tmp_path


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, BOUND),
        ({"cpu.max": "max 100000\n"}, BOUND),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": f"{(BOUND + 1) * 100_000} 100000\n"}, BOUND),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, BOUND),
        ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.25),
        ({"cpu/cpu.cfs_quota_us": "25000\n"}, BOUND),
        ({"cpu.max": "nothing of the kind\n"}, BOUND),
    ],
)
def test_cores(cgroups: Path, files: dict[str, str], cores: float):
    for name, text in files.items():
        (cgroups / name).parent.mkdir(exist_ok=True)
        (cgroups / name).write_text(text)
    assert usable_cores() == cores


def test_memory(cgroups: Path):
    whole = usable_memory()
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (cgroups / "memory.max").write_text("max\n")
    assert usable_memory() == whole
    (cgroups / "memory").mkdir()
    (cgroups / "memory/memory.limit_in_bytes").write_text(f"{1 << 20}\n")
    assert usable_memory() == 1 << 20
