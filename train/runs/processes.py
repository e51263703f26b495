"""The processes of one run: torchrun's many, or just this one."""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from alignset.signals import end_with_parent
from alignset.train.errors import SharedError
from alignset.train.runs.run_folder import hold_run

T = TypeVar("T")
# gloo gives up on a process after 30 minutes, nccl after 10; the first one reads all shards.
_LONGEST_WAIT = timedelta(days=30)
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
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
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
    if is_grouped():
        flag = torch.tensor(int(yes))  # on the CPU, whose group it is that waits
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=_waiting)
        return bool(flag.item())
    return yes


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
    """Within, the first SIGTERM asks for a checkpoint; the second ends the process as before.

    Gives what says whether to stop, on all processes where one is asked to. All call it each step.
    """
    requests: list[int] = []

    def ask(signum: int, _: FrameType | None) -> None:
        requests.append(signum)
        signal.signal(signal.SIGTERM, before)

    is_main = threading.current_thread() is threading.main_thread()  # no other may set handlers
    before = signal.signal(signal.SIGTERM, ask) if is_main else None
    try:
        yield lambda: any_of_all(bool(requests))
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
