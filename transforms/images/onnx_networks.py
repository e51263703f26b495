"""Networks that are shown images: ONNX files in onnxruntime, run by the calling thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alignset.transforms.images.displayed_picture import Pixels

_GPU = "CUDAExecutionProvider"


def open_session(model_bytes: bytes, *, may_use_gpu: bool = False) -> Any:
    """Opens a network's file.

    Raises:
      Exception: it is not a network; onnxruntime has a class of its own for each kind of fault.
    """
    import onnxruntime  # 0.1 s, which a run without networks has no use for

    options = onnxruntime.SessionOptions()
    # Workers have threads of their own: one image after the other on each core takes the least
    # time, and one thread adds in one order.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised
    providers: list[Any] = ["CPUExecutionProvider"]
    if may_use_gpu and _GPU in onnxruntime.get_available_providers():
        providers.insert(0, (_GPU, {"use_tf32": "0"}))  # whose products have 10 bits
    return onnxruntime.InferenceSession(model_bytes, options, providers=providers)


class Network:
    """An opened network with one input, of images as floats. For all threads.

    Args:
      model_bytes: its file.
      size: px a side. layout: "NHWC" or "NCHW".
      mean, scale: for each channel; a sample, 0 to 255, becomes (sample - mean) * scale.
      output: the name of the one that is read; empty for the first.

    Attributes:
      session: of onnxruntime.
      on_gpu: whether it runs on one.

    Raises:
      Exception: as `open_session`.
    """

    def __init__(
        self,
        model_bytes: bytes,
        size: int,
        layout: str,
        mean: Sequence[float],
        scale: Sequence[float],
        output: str = "",
    ) -> None:
        self.session = open_session(model_bytes, may_use_gpu=True)
        self.on_gpu = _GPU in self.session.get_providers()
        self._size, self._layout = size, layout
        self._mean, self._scale = (np.tile(np.array(of, np.float32), size) for of in (mean, scale))
        self._is_scaled = any(factor != 1 for factor in scale)
        self._outputs = [output] if output else None

    def outputs(self, pictures: list[Pixels]) -> npt.NDArray[np.float32]:
        """float32[n, ...] for uint8[size, size, 3] each, in the network's order of channels."""
        size = self._size
        values = np.empty((len(pictures), size, size * 3), np.float32)
        for row, pixels in zip(values, pictures, strict=True):
            row[:] = pixels.reshape(size, size * 3)
            row -= self._mean
            if self._is_scaled:
                row *= self._scale
        tensor = values.reshape(-1, size, size, 3)
        if self._layout == "NCHW":
            tensor = np.ascontiguousarray(tensor.transpose(0, 3, 1, 2))
        name = self.session.get_inputs()[0].name
        return np.asarray(self.session.run(self._outputs, {name: tensor})[0], np.float32)
