"""Device and precision of a process."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from alignset.train.errors import SettingsError

# Where Linux says how many bytes a container may use: control groups of version 2, and of 1.
CGROUPS = [Path("/sys/fs/cgroup") / file for file in ("memory.max", "memory/memory.limit_in_bytes")]


def gpu_is_there() -> bool:
    return torch.cuda.is_available()


def find_device(name: str) -> torch.device:
    """The device of a name.

    Args:
      name: auto, cpu or cuda; auto: a GPU where there is one.

    Raises:
      SettingsError: a GPU is asked for, and there is none.
    """
    if name == "cuda" and not gpu_is_there():
        raise SettingsError("--device=cuda: torch finds no GPU: mend its driver, or leave that out")
    return torch.device("cuda" if name != "cpu" and gpu_is_there() else "cpu")


def prepare_device(device: torch.device, precision: str) -> None:
    """On a GPU, float32 products are TF32's but with the precision "highest", and cuDNN tries its
    kernels on the first batch, since all batches have one shape. On a CPU nothing is changed."""
    if device.type != "cuda":
        return
    fast = precision != "highest"
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = fast
    torch.set_float32_matmul_precision("high" if fast else "highest")


@contextmanager
def full_precision() -> Iterator[None]:
    """Within, float32 products are float32's on a GPU too, as the loss needs them. With TF32's 10
    bits a cosine may be wrong by 1/2,000, and a score by 1/30 at a temperature of 1/64."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def memory_of(device: torch.device) -> int:
    """Bytes that a device has; of a CPU the machine's, or those that a container may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in CGROUPS:
        with suppress(OSError, ValueError):  # there is no such file, or it says "max"
            limits.append(int(limit.read_text()))
    return min(limits)


# glibc's numbers of what `mallopt` sets (malloc.h), and how its environment variables name it.
_OPTIONS = {
    "MALLOC_ARENA_MAX": (-8, 1),
    "MALLOC_MMAP_THRESHOLD_": (-3, 1 << 30),
    "MALLOC_TRIM_THRESHOLD_": (-1, 1 << 29),
}


def keep_freed_memory() -> None:
    """Has the allocator keep what is freed for the next step. Otherwise large tensors are given
    back and faulted in again, page by page: a step of EfficientNet-B0 + BERT-Mini on the CPU took
    3.16 CPU-seconds, and 2.74 so. Elsewhere than on Linux with glibc, and where the user has set
    these variables, does nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for name, (option, value) in _OPTIONS.items():
        if mallopt and name not in os.environ:
            mallopt(option, value)
