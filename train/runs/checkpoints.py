"""Checkpoints: whole or not at all, the last few kept, a damaged one passed over by name."""

import hashlib
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NotRequired, TypedDict

import msgspec
import torch
from torch import Tensor

from alignset.train.data.position import Position, position_of
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import TrainingError
from alignset.train.runs import processes


class ProcessState(TypedDict):
    position: dict[str, Any]  # a Position as plain values, which any torch.load reads
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
    """Every process has to call it: each has its own position in the data, while the weights are
    the same everywhere. Random numbers are not in it: a step's follow from the seed.

    Args:
      averaged: whether BatchNorm's statistics are all processes' by now, or each one's own.
    """
    mine: ProcessState = {"position": msgspec.to_builtins(position)}
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
    data.

    Raises:
      TrainingError: the processes have read checkpoints of different steps.
    """
    steps = processes.gather(state["step"])
    if len(set(steps)) > 1:
        raise TrainingError(
            f"the processes see different last checkpoints (of the steps {steps}): "
            "pass all of them the same --run folder"
        )
    rank, states = processes.rank(), state["processes"]
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if len(states) == processes.count():
        own = states[rank].get("statistics", {})
        model.load_state_dict(own, strict=False)
    elif "statistics" in states[0]:  # of a stop, where each process had its own
        model.load_state_dict(_means([of["statistics"] for of in states]), strict=False)
    positions = [msgspec.convert(process["position"], Position) for process in states]
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
    path = folder / f"step_{state['step']:09d}.pt"

    def write(file: IO[bytes]) -> None:
        sink = _Hashed(file)
        torch.save(state, sink)  # type: ignore[arg-type]  # it only writes and flushes
        # Before the checkpoint has its name: one without its sum would be passed over.
        write_whole(_sum_path(path), f"{sink.digest.hexdigest()}  {path.name}\n")

    write_whole(path, write)
    paths = [one for one in sorted(folder.glob("step_*.pt")) if one <= path][-keep:]
    names = {one.name for one in paths} | {_sum_path(one).name for one in paths}
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


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread. Its errors, such as a full disk, are raised by
    the next call; leaving it waits for the last one."""

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[Path] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._pool.shutdown()
        if error is None:
            self.wait()

    def save(self, state: Checkpoint) -> None:
        """Copies `state`, which may change behind this call, and begins to write it."""
        self.wait()
        copy = _on_cpu(state)
        self._last = self._pool.submit(save_checkpoint, self._folder, copy, keep=self._keep)

    def wait(self) -> None:
        """Until the last one is on disk."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def check(self) -> None:
        """Raises what the last one has met so far; waits for nothing."""
        if self._last is not None and self._last.done():
            self.wait()


def _on_cpu(value: Any) -> Any:
    """A copy of all tensors in dictionaries and lists of each other."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: _on_cpu(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_on_cpu(part) for part in value]
    return value
