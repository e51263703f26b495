"""The copy descriptor: 64 numbers of a small grey plane, near those of its altered copies.

docs/overlap_descriptor.md says how and from what the file was made.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

PLANE_PX = 64
DESCRIPTOR_SIZE = 64
MODEL_PATH = Path(__file__).with_name("copy_descriptor.onnx")
# Of the file; indexes are named by it, since the numbers of another file mean other things.
DESCRIPTOR_SHA256 = "928782ff7bc9c61ce76e9a0fd41892d16360998e95e599b79fa830ea7e5ad98a"
BATCH = 16  # planes at once: with 128, whose features leave the cache, each takes a tenth longer

_opening = threading.Lock()
_opened: dict[Path, CopyDescriptor] = {}


class CopyDescriptor:
    """A descriptor's file, opened; any number of threads may use it at once."""

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
          OSError: there is no such file.
          ValueError: it is no copy descriptor, or not all of one.
        """
        body = path.read_bytes()
        self.sha256 = hashlib.sha256(body).hexdigest()
        options = onnxruntime.SessionOptions()
        # Workers are processes with threads of their own; one thread also sums in one order.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is told below, once
        try:
            providers = ["CPUExecutionProvider"]
            self._session = onnxruntime.InferenceSession(body, options, providers=providers)
        except Exception as error:  # a class of onnxruntime's for each of its codes
            raise ValueError(f"{path} is cut short or no ONNX model: {error}") from error
        given = [(i.name, i.type, i.shape[1:]) for i in self._session.get_inputs()]
        made = [(o.name, o.type, o.shape[1:]) for o in self._session.get_outputs()]
        if given != [("planes", "tensor(uint8)", [PLANE_PX, PLANE_PX])] or made != [
            ("descriptors", "tensor(float)", [DESCRIPTOR_SIZE])
        ]:
            raise ValueError(f"{path} is no copy descriptor: it makes {made} of {given}")

    def describe(self, planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Unit vectors of grey planes; see the function `describe`."""
        if planes.dtype != np.uint8 or planes.shape[1:] != (PLANE_PX, PLANE_PX):
            raise ValueError(f"planes must be uint8[n, 64, 64]; got {planes.dtype}{planes.shape}")
        described = np.empty((len(planes), DESCRIPTOR_SIZE), np.float32)
        for start in range(0, len(planes), BATCH):
            part = np.ascontiguousarray(planes[start : start + BATCH])
            described[start : start + BATCH] = self._session.run(None, {"planes": part})[0]
        return described


def describe(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Unit vectors of grey planes, near each other by cosine for copies of one picture.

    A plane's vector does not depend on the others', but for its last bits. Any thread may call
    this; the file is opened once a process, at the first call.

    Args:
      planes: uint8[n, 64, 64], pictures squashed to squares.

    Returns:
      float32[n, 64].

    Raises:
      ValueError: the planes are of another shape or type, or the file is not the one shipped.
    """
    return _own_descriptor(MODEL_PATH).describe(planes)


def _own_descriptor(path: Path) -> CopyDescriptor:
    with _opening:
        if path not in _opened:
            descriptor = CopyDescriptor(path)
            if descriptor.sha256 != DESCRIPTOR_SHA256:
                raise ValueError(
                    f"{path} has the SHA-256 {descriptor.sha256}, not {DESCRIPTOR_SHA256} as "
                    "shipped, and an index would mean other things: install alignset again"
                )
            _opened[path] = descriptor
        return _opened[path]
