"""The part of this machine that a process may use: by Linux's control groups, and its binding."""

import os
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> float:
    """Cores that this process may keep busy: those that it is bound to, or the quota of its
    container, which may be a part of one."""
    cores = float(len(os.sched_getaffinity(0)))
    quotas = [
        _numbers("cpu.max"),  # version 2, else version 1
        [*_numbers("cpu/cpu.cfs_quota_us"), *_numbers("cpu/cpu.cfs_period_us")],
    ]
    shares = [quota[0] / quota[1] for quota in quotas if len(quota) == 2 and min(quota) > 0]
    return min(cores, *shares) if shares else cores


def usable_memory() -> int:
    """Bytes that this machine has, or that its container may take."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = _numbers("memory.max") + _numbers("memory/memory.limit_in_bytes")
    return min(memory, *limits) if limits else memory


def _numbers(name: str) -> list[int]:
    """Those in a file of the control group; none where it is not there, or says "max"."""
    with suppress(OSError, ValueError):
        return [int(word) for word in (CGROUPS / name).read_text().split()]
    return []
