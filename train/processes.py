"""The processes of one run: torchrun's many, or just this one."""

import os

import torch
import torch.distributed as dist


def start_processes() -> None:
    """Joins the group that torchrun announces in the environment; alone, does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def stop_processes() -> None:
    if grouped():
        dist.destroy_process_group()


def grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if grouped() else 0


def count() -> int:
    return dist.get_world_size() if grouped() else 1


def wait_for_all() -> None:
    if grouped():
        dist.barrier()


def gather(value: object) -> list:
    """Every process's `value`, in rank order."""
    if not grouped():
        return [value]
    values = [None] * count()
    dist.all_gather_object(values, value)
    return values


def mean(value: torch.Tensor) -> float:
    """The mean over processes of a scalar tensor."""
    return sum(gather(value.item())) / count()


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """float[b, d] of each process -> float[b * processes, d], in rank order; not differentiable."""
    parts = [torch.empty_like(rows) for _ in range(count())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
