"""A network in onnxruntime, and what it says of pictures: run by the thread that asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.safety.model_files import ModelInput

_GPU = "CUDAExecutionProvider"


class Network:
    """An opened model. For all threads.

    Args:
      encoded: its file. wanted: what that takes and gives.

    Attributes:
      session: of onnxruntime.
      on_gpu: whether it runs on one.

    Raises:
      Exception: it is no model; onnxruntime has a class of its own for each kind of fault.
    """

    def __init__(self, encoded: bytes, wanted: ModelInput) -> None:
        self.session = open_session(encoded, may_use_gpu=True)
        self.on_gpu = _GPU in self.session.get_providers()
        self._wanted = wanted
        row = [np.tile(np.array(of, np.float32), wanted.size) for of in (wanted.mean, wanted.scale)]
        self._mean, self._scale = row
        self._scaled = any(scale != 1 for scale in wanted.scale)

    def probabilities(self, pictures: list[Pixels]) -> npt.NDArray[np.float32]:
        """float32[n, classes] of uint8[size, size, 3] each, in the model's order of channels."""
        size = self._wanted.size
        values = np.empty((len(pictures), size, size * 3), np.float32)
        for row, pixels in zip(values, pictures, strict=True):
            row[:] = pixels.reshape(size, size * 3)
            row -= self._mean
            if self._scaled:
                row *= self._scale
        shaped = values.reshape(-1, size, size, 3)
        if self._wanted.layout == "NCHW":
            shaped = np.ascontiguousarray(shaped.transpose(0, 3, 1, 2))
        (output,) = self.session.run([self._wanted.output], {self._wanted.input: shaped})
        flat = np.asarray(output, np.float32).reshape(len(pictures), -1)
        return _probabilities(flat, self._wanted.activation)

    def scores(self, pictures: list[Pixels]) -> list[float]:
        """How likely each is unsafe, 0 to 1, to 4 digits: its bits do not depend on the others."""
        if not pictures:
            return []
        output = self.probabilities(pictures)
        unsafe = output[:, list(self._wanted.unsafe_classes)].sum(axis=1, dtype=np.float64)
        return [round(min(float(score), 1.0), 4) for score in unsafe]


def _probabilities(output: npt.NDArray[np.float32], activation: str) -> npt.NDArray[np.float32]:
    if activation == "sigmoid":
        return np.float32(1) / (np.float32(1) + np.exp(-output))
    if activation == "softmax":
        powers = np.exp(output - output.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    return output


def open_session(encoded: bytes, *, may_use_gpu: bool) -> Any:
    """A model's file in onnxruntime, which runs it on the thread that asks."""
    import onnxruntime  # 0.1 s, which a run without scores has no use for

    options = onnxruntime.SessionOptions()
    # Threads of the caller: one picture after the other on each core takes the least time.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised
    providers: list[Any] = ["CPUExecutionProvider"]
    if may_use_gpu and _GPU in onnxruntime.get_available_providers():
        providers.insert(0, (_GPU, {"use_tf32": "0"}))  # whose products have 10 bits
    return onnxruntime.InferenceSession(encoded, options, providers=providers)
