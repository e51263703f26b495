"""Micro-batches that wait for a second pass."""

import tempfile
from collections.abc import Iterator

import numpy as np
import torch

from alignset.train.data.inputs import Inputs


class KeptInputs:
    """Micro-batches, to be gone through again. Their pixels wait in memory as long as there is
    `memory` for them, and the others in a temporary file, or memory would grow with the batch
    (16,384 crops of 289 px are 4.1 GB).

    Args:
      memory: bytes. Pixels take the next power of two of them, as pinned memory does.
    """

    def __init__(self, memory: int = 0):
        self._left = memory

    def __enter__(self) -> "KeptInputs":
        self._file = tempfile.TemporaryFile()
        self._kept: list[Inputs] = []  # with pixels, or with none that stand for those in the file
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._kept.clear()

    def append(self, inputs: Inputs) -> None:
        self._left -= 1 << (inputs.pixels.nbytes - 1).bit_length()
        if self._left < 0:
            np.save(self._file, inputs.pixels.numpy())
            inputs = inputs._replace(pixels=torch.empty(0))
        self._kept.append(inputs)

    def __iter__(self) -> Iterator[Inputs]:
        self._file.seek(0)
        for inputs in self._kept:
            if inputs.pixels.numel():
                yield inputs
            else:
                yield inputs._replace(pixels=torch.from_numpy(np.load(self._file)))
