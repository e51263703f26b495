"""Checkpoints: whole or not at all, the last few kept, a damaged one passed over by name."""

import hashlib
import os
import random
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from alignset.train.data.position import Position, PositionState, position_of
from alignset.train.errors import TrainingError
from alignset.train.runs import processes


class RandomState(TypedDict):
    """The state of every generator that may be drawn from, as tensors and plain values, which
    `weights_only` reads."""

    torch: Tensor
    numpy: tuple[str, Tensor, int, int, float]
    python: tuple[Any, ...]
    cuda: NotRequired[Tensor]


class ProcessState(TypedDict):
    position: PositionState
    random: RandomState
    statistics: NotRequired[dict[str, Tensor]]  # of BatchNorm, where they aren't all processes'


class Checkpoint(TypedDict):
    """All that the next step depends on."""

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    processes: list[ProcessState]  # in rank order
    skipped_steps: int


def capture(
    step: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    skipped_steps: int = 0,
    *,
    averaged: bool = True,
) -> Checkpoint:
    """Every process has to call it: each has its own position in the data and its own random
    numbers, while the weights are the same everywhere.

    Args:
      averaged: whether BatchNorm's statistics are all processes' by now, or each one's own.
    """
    mine: ProcessState = {"position": position.state(), "random": _random_state()}
    if not averaged:
        mine["statistics"] = {name: buffer.cpu() for name, buffer in model.named_buffers()}
    return {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "processes": processes.gather(mine),
        "skipped_steps": skipped_steps,
    }


def restore(
    state: Checkpoint, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, Position]:
    """The reverse of `capture`; returns the steps done and where this process's data continues.

    Where another number of processes captured it, they share out anew what those have left of the
    data, and no random numbers are restored: a step's follow from the seed anyway.

    Raises:
      TrainingError: the processes have read checkpoints of different steps.
    """
    steps = processes.gather(state["step"])
    if len(set(steps)) > 1:
        raise TrainingError(
            f"the processes see different last checkpoints (of the steps {steps}): "
            "pass all of them the same --run folder"
        )
    rank, captured = processes.rank(), state["processes"]
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if len(captured) == processes.count():
        _set_random_state(captured[rank]["random"])
        own = captured[rank].get("statistics", {})
        model.load_state_dict(own, strict=False)
    elif "statistics" in captured[0]:  # of a stop, where each process had its own
        model.load_state_dict(_means([of["statistics"] for of in captured]), strict=False)
    positions = [Position.from_state(process["position"]) for process in captured]
    return state["step"], position_of(rank, processes.count(), positions)


def _means(statistics: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """All processes' means of BatchNorm's statistics; counts are the first process's."""
    return {
        name: torch.stack([of[name] for of in statistics]).mean(dim=0)
        if first.is_floating_point()
        else first
        for name, first in statistics[0].items()
    }


def save_checkpoint(folder: Path, state: Mapping[str, Any], *, keep: int) -> Path:
    """Writes `state` under its step's name with its SHA-256 beside it (as `sha256sum` does), then
    removes all but the last `keep` up to this step, and later steps' checkpoints, from which the
    run did not resume."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{state['step']:09d}.pt"
    aside = path.with_suffix(".tmp")
    with open(aside, "wb") as file:
        hashed = _Hashed(file)
        torch.save(state, hashed)  # type: ignore[arg-type]  # it only writes and flushes
        _flush(file)
    # First its sum: a checkpoint without one would be passed over.
    sum_aside = _sum_path(path).with_suffix(".tmp")
    with open(sum_aside, "w") as file:
        file.write(f"{hashed.digest.hexdigest()}  {path.name}\n")
        _flush(file)
    os.replace(sum_aside, _sum_path(path))
    os.replace(aside, path)
    _flush_names(folder)
    kept = [saved for saved in sorted(folder.glob("step_*.pt")) if saved <= path][-keep:]
    names = {saved.name for saved in kept} | {_sum_path(saved).name for saved in kept}
    for old in folder.glob("step_*"):
        if old.name not in names:
            old.unlink()
    return path


def load_last_checkpoint(folder: Path) -> Any | None:
    """The newest checkpoint that is whole, as it was saved, or None when there is none at all.

    Raises:
      TrainingError: there are some, and all are damaged.
    """
    paths = sorted(folder.glob("step_*.pt"), reverse=True)
    for path in paths:
        try:
            _check_sum(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever its unpickler met
            print(f"passed over the damaged checkpoint {path}: {error!s:.200}", file=sys.stderr)
    if paths:
        raise TrainingError(
            f"no checkpoint in {folder} is whole ({', '.join(p.name for p in paths)}): put a whole "
            "one there with its .sha256, or start anew in a new --run"
        )
    return None


class _Hashed:
    """A file that is written to, and the hash of what was meant to be written."""

    def __init__(self, file: IO[bytes]):
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _sum_path(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")


def _check_sum(path: Path) -> None:
    expected = _sum_path(path).read_text().split()[0]
    with open(path, "rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise ValueError(f"its SHA-256 is {actual}, and was {expected} when it was written")


def _flush(file: IO[Any]) -> None:
    """Else a power cut may leave a new name on an empty file."""
    file.flush()
    os.fsync(file.fileno())


def _flush_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _random_state() -> RandomState:
    of_numpy = np.random.get_state(legacy=True)
    assert isinstance(of_numpy, tuple)  # numpy's own generator, which nothing here exchanges
    name, keys, place, has_gauss, gauss = of_numpy
    state: RandomState = {
        "torch": torch.get_rng_state(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), place, has_gauss, gauss),
        "python": random.getstate(),
    }
    if _on_a_gpu():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _on_a_gpu() -> bool:
    """Whether this process computes on one: one on a CPU takes no memory there by looking."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # it has no types


def _set_random_state(state: RandomState) -> None:
    torch.set_rng_state(state["torch"])
    name, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, gauss))
    random.setstate(state["python"])
    if "cuda" in state and _on_a_gpu():
        torch.cuda.set_rng_state(state["cuda"])


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread. Its errors, such as a full disk, are raised by
    the next call; leaving it waits for the last one."""

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is None:
            self.wait()
        elif self._thread:
            self._thread.join()

    def save(self, state: Checkpoint) -> None:
        """Copies `state`, which may change behind this call, and begins to write it."""
        self.wait()
        copied = _on_cpu(state)
        self._thread = threading.Thread(target=self._write, args=(copied,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the last one is on disk."""
        if self._thread:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raises what the last one has met so far; waits for nothing."""
        if self._error:
            error, self._error = self._error, None
            raise error

    def _write(self, state: Checkpoint) -> None:
        try:
            save_checkpoint(self._folder, state, keep=self._keep)
        except BaseException as error:  # whatever it is, it belongs to whoever saves
            self._error = error


def _on_cpu(value: Any) -> Any:
    """A copy of all tensors in dictionaries and lists of each other."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: _on_cpu(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_on_cpu(part) for part in value]
    return value
