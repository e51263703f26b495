"""Checkpoints: whole or not at all, the last few kept, a damaged one passed over by name."""

import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import torch

from alignset.train.data.order import Position, resume_position
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import TrainingError
from alignset.train.runs import processes


class Checkpoint(TypedDict):
    """All that the next step depends on."""

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    processes: list[dict[str, Any]]  # "position" of each, in rank order, as plain values
    skipped_steps: int


def capture(
    step: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    skipped_steps: int = 0,
) -> Checkpoint:
    """Every process has to call it: each has its own position in the data, while all else is the
    same everywhere. Random numbers are not in it: a step's follow from the seed."""
    return {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "processes": processes.gather({"position": msgspec.to_builtins(position)}),
        "skipped_steps": skipped_steps,
    }


def restore(
    state: Checkpoint, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, Position]:
    """The reverse of `capture`; returns the steps done and where this process's data continues, as
    `resume_position` has it.

    Raises:
      TrainingError: the processes have read checkpoints of different steps.
    """
    steps = processes.gather(state["step"])
    if len(set(steps)) > 1:
        raise TrainingError(
            f"the processes see different last checkpoints (of the steps {steps}): "
            "pass all of them the same --output folder"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    positions = [msgspec.convert(process["position"], Position) for process in state["processes"]]
    return state["step"], resume_position(processes.rank(), positions, processes.count())


def save_checkpoint(folder: Path, state: Mapping[str, Any], *, keep: int) -> Path:
    """Writes `state` under its step's name, then removes all but the last `keep` up to this step,
    and later steps' checkpoints, from which the run did not resume."""
    path = folder / f"step_{state['step']:09d}.pt"
    write_whole(path, lambda file: torch.save(state, file))
    kept = [one for one in sorted(folder.glob("step_*.pt")) if one <= path][-keep:]
    for old in {*folder.glob("step_*")} - {*kept}:
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
            with zipfile.ZipFile(path) as file:  # torch reads its sums, and checks none
                if damaged := file.testzip():
                    raise ValueError(f"{damaged} in it is not what was written")
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever its unpickler met
            print(f"passed over the damaged checkpoint {path}: {error!s:.200}", file=sys.stderr)
    if paths:
        raise TrainingError(
            f"no checkpoint in {folder} is whole ({', '.join(p.name for p in paths)}): put a whole "
            "one there, or start anew in a new --output"
        )
    return None


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
            self.check(wait=True)

    def save(self, state: Checkpoint) -> None:
        """Copies `state`, which may change behind this call, and begins to write it."""
        self.check(wait=True)
        copy = _copy_to_cpu(state)
        self._last = self._pool.submit(save_checkpoint, self._folder, copy, keep=self._keep)

    def check(self, *, wait: bool = False) -> None:
        """Raises what the last one has met so far, or with `wait` until it is on disk."""
        if self._last is not None and (wait or self._last.done()):
            last, self._last = self._last, None
            last.result()


def _copy_to_cpu(value: Any) -> Any:
    """A copy of all tensors in dictionaries and lists of each other."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: _copy_to_cpu(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_copy_to_cpu(part) for part in value]
    return value
