"""Checkpoints that are written beside the training: it waits for a copy in memory alone."""

import threading
from pathlib import Path
from typing import Any

import torch

from alignset.train.runs.checkpoints import Checkpoint, save_checkpoint


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread. What it meets, as a full disk, the next call
    raises; leaving it waits for the last one."""

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
