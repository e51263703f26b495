"""The processes of one run, torchrun's many or just this one, and the device of each."""

import ctypes
import os
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from alignset.signals import end_with_parent
from alignset.train.errors import SettingsError, SharedError
from alignset.train.runs.run_folder import hold_run

T = TypeVar("T")
# gloo gives up on a process after 30 minutes, nccl after 10; the first one reads all shards.
_LONGEST_WAIT = timedelta(days=30)
_LONGEST_STEP = timedelta(minutes=30)
_waiting: dist.ProcessGroup | None = None  # all processes, on the CPU, with that patience


def start_processes(device: str = "cpu") -> None:
    """Joins the group that torchrun announces in the environment; alone, does nothing.

    Args:
      device: what each computes on, "cpu" or "cuda": a GPU of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    end_with_torchrun()
    if device == "cuda":
        # Slurm may let each task see its own GPU alone, as number 0.
        number = int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count()
        gpu = torch.device("cuda", number)
        torch.cuda.set_device(gpu)
        # With its device NCCL connects at once: a wrong network interface is found before shards
        # are read. A store may be away for ten minutes, which the others wait for.
        dist.init_process_group("nccl", device_id=gpu, timeout=_LONGEST_STEP)
    else:
        dist.init_process_group("gloo")
    global _waiting
    group = dist.new_group(backend="gloo", timeout=_LONGEST_WAIT)
    assert isinstance(group, dist.ProcessGroup)  # of all processes, this one too
    _waiting = group


def end_with_torchrun() -> None:
    """Otherwise, where torchrun itself is killed, its processes would train beside the next
    start's. On Linux alone."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(os.getppid())


def stop_processes() -> None:
    global _waiting
    _waiting = None
    if is_grouped():
        dist.destroy_process_group()


def is_grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if is_grouped() else 0


def count() -> int:
    return dist.get_world_size() if is_grouped() else 1


def wait_for_all() -> None:
    """However long one of them takes; the end of one is the end of all, by torchrun."""
    if is_grouped():
        dist.barrier(_waiting)


@contextmanager
def begun_together(run: Path, device: str, begin: Callable[[], T]) -> Iterator[T | None]:
    """Within, torchrun's processes train a run, whose folder the first of them holds.

    Args:
      device: what each computes on, "cpu" or "cuda".
      begin: what the first does alone, however long it takes, while the others wait; they get None.

    Raises:
      SharedError: it failed there, which the first process says.
    """
    # First of all: who waits here for one that reads or fetches gives up after half an hour.
    start_processes(device)
    with ExitStack() as stack:
        stack.callback(stop_processes)
        result = error = None
        try:
            if rank() == 0:
                result = begin()
                stack.enter_context(hold_run(run))
        except BaseException as raised:
            error = raised
        if any_of_all(error is not None):
            raise error or SharedError("another process of the run failed, and says why")
        yield result


def any_of_all(yes: bool) -> bool:
    """Whether any process says yes. All of them have to ask."""
    return bool(greatest_of_all(int(yes)))


def greatest_of_all(number: int) -> int:
    """The greatest number that a process gives. All of them have to ask."""
    if is_grouped():
        greatest = torch.tensor(number)  # on the CPU, whose group it is that waits
        dist.all_reduce(greatest, dist.ReduceOp.MAX, group=_waiting)
        return int(greatest.item())
    return number


def gather(value: T) -> list[T]:
    """Every process's `value`, in rank order."""
    if not is_grouped():
        return [value]
    values = [value] * count()
    dist.all_gather_object(values, value)
    return values


def mean(value: torch.Tensor) -> float:
    """The mean over processes of a scalar tensor."""
    return sum(gather(value.item())) / count()


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """float[b, d] of each process -> float[b * processes, d], in rank order; not differentiable."""
    all_rows = rows.new_empty(len(rows) * count(), *rows.shape[1:])
    dist.all_gather_into_tensor(all_rows, rows.contiguous())
    return all_rows


def sum_rows(rows: torch.Tensor) -> torch.Tensor:
    """float[b * processes, d] of each process -> float[b, d]: this one's rows, summed over all."""
    own = rows.new_empty(len(rows) // count(), *rows.shape[1:])
    dist.reduce_scatter_tensor(own, rows.contiguous())
    return own


@torch.no_grad()
def average_buffers(model: torch.nn.Module) -> None:
    """Each process has moved BatchNorm's running statistics by its own images: all get the mean."""
    if is_grouped() and (floats := [b for b in model.buffers() if b.is_floating_point()]):
        together = torch.cat([buffer.flatten() for buffer in floats])
        dist.all_reduce(together)
        parts = torch.split(together / count(), [buffer.numel() for buffer in floats])
        for buffer, part in zip(floats, parts, strict=True):
            buffer.copy_(part.view_as(buffer))


def replicate(model: torch.nn.Module) -> torch.nn.Module:
    """The model as it is trained: its gradients are averaged over the processes."""
    if not is_grouped():
        return model
    with warnings.catch_warnings():
        # Torch 2.15 has another name for `broadcast_buffers`, which 2.8 does not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        # No buffers: `average_buffers` makes better ones than the first process's.
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def unsynchronised(replica: torch.nn.Module, yes: bool = True) -> AbstractContextManager[None]:
    """Within, gradients only add up on each process; the next pass outside averages them."""
    if yes and isinstance(replica, DistributedDataParallel):
        return replica.no_sync()
    return nullcontext()


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Within, SIGUSR1 and the first SIGTERM ask for a checkpoint; a second signal ends the process
    as before. Slurm warns of a time limit by SIGUSR1, as its --signal says.

    Gives what says whether this process was asked to stop.
    """
    requests: list[int] = []

    def ask(signum: int, _: FrameType | None) -> None:
        requests.append(signum)
        if len(requests) > 1:  # not before: the command's own watch looks who has the signal
            signal.signal(signum, before[signal.Signals(signum)])
            signal.raise_signal(signum)

    is_main = threading.current_thread() is threading.main_thread()  # no other may set handlers
    of_stop = (signal.SIGTERM, signal.SIGUSR1) if is_main else ()
    before = {signum: signal.signal(signum, ask) for signum in of_stop}
    try:
        yield lambda: bool(requests)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


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


def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a GPU; (0, 0) of a CPU."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


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
    """Bytes that a device has; a CPU has the machine's, or what a container may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in CGROUPS:
        with suppress(OSError, ValueError):  # there is no such file, or it says "max"
            limits.append(int(limit.read_text()))
    return min(limits)


def most_used(device: torch.device) -> int:
    """Bytes that this process has used at once so far, at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gpu_peak(device: torch.device) -> dict[str, float]:
    """The most memory that tensors of this process took on a GPU, as metrics have it."""
    if device.type != "cuda":
        return {}
    return {"gpu_peak_gb": round(torch.cuda.max_memory_allocated(device) / 1e9, 2)}


def name_of(device: torch.device) -> str:
    """The model of a GPU, or "the CPU"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


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
