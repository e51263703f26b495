"""The networks of a classifier: any in float, and the usual one's equal in integers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.onnx_networks import GPU, open_session
from alignset.transforms.safety.model_files import OPEN_NSFW, ModelInput

_BORDER = 3  # px around an image, of the mean colour: what the first convolution reads there
_PLACES = OPEN_NSFW.wanted.size // 2 + _BORDER
_EDGES = _BORDER, _BORDER, _BORDER, _BORDER
_MEAN = [round(value) for value in OPEN_NSFW.wanted.mean]
_IN_ORDER = np.repeat(np.arange(6), 2).tolist()  # of channels: from, to


class FloatNetwork:
    """A network in float, with one input of images. For all threads.

    Args:
      model_bytes: its file. form: what that takes and gives.

    Attributes:
      session: of onnxruntime.
      on_gpu: whether it runs on one.

    Raises:
      Exception: as `open_session`.
    """

    def __init__(self, model_bytes: bytes, form: ModelInput) -> None:
        self.session, self._form = open_session(model_bytes, may_use_gpu=True), form
        self.on_gpu = GPU in self.session.get_providers()
        self._is_scaled = any(factor != 1 for factor in form.scale)
        self._mean, self._scale = (
            np.tile(np.array(values, np.float32), form.size) for values in (form.mean, form.scale)
        )

    def probabilities(self, pictures: list[Pixels]) -> npt.NDArray[np.float32]:
        """float32[n, classes] for uint8[size, size, 3] each, in the model's order of channels."""
        form, size = self._form, self._form.size
        values = np.empty((len(pictures), size, size * 3), np.float32)
        for row, pixels in zip(values, pictures, strict=True):
            row[:] = pixels.reshape(size, size * 3)
            row -= self._mean
            if self._is_scaled:
                row *= self._scale
        tensor = values.reshape(-1, size, size, 3)
        if form.layout == "NCHW":
            tensor = np.ascontiguousarray(tensor.transpose(0, 3, 1, 2))
        name, outputs = self.session.get_inputs()[0].name, [form.output] if form.output else None
        output = np.asarray(self.session.run(outputs, {name: tensor})[0], np.float32)
        output = output.reshape(len(pictures), -1)
        if form.activation == "sigmoid":
            return np.float32(1) / (np.float32(1) + np.exp(-output))
        if form.activation == "softmax":
            powers = np.exp(output - output.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        return output

    def scores(self, pictures: list[Pixels]) -> list[float]:
        """How likely each is unsafe, 0 to 1, to 4 digits: its bits do not depend on the others."""
        if not pictures:
            return []
        output = self.probabilities(pictures)
        unsafe = output[:, list(self._form.unsafe_classes)].sum(axis=1, dtype=np.float64)
        return [round(min(float(score), 1.0), 4) for score in unsafe]


class IntegerNetwork:
    """The usual network in integers: equal scores on every CPU, for half the time or less.

    `benchmarks/nsfw_model.py` made its file, and docs/safety.md says how near its scores are. For
    all threads.
    """

    def __init__(self, model_bytes: bytes) -> None:
        self._session = open_session(model_bytes)

    def scores(self, pictures: Sequence[Pixels]) -> list[float]:
        """How likely each is unsafe, 0 to 1, to 4 digits.

        Its sums are sums of integers, so their bits depend neither on the CPU nor on the others.

        Args:
          pictures: uint8[224, 224, 3], as `model_pixels` gives them.
        """
        if not pictures:
            return []
        (logits,) = self._session.run(None, {"input:0": space_to_depth(pictures)})
        return [round(1 / (1 + math.exp(-logit)), 4) for logit in logits[:, 0].tolist()]


def space_to_depth(pictures: Sequence[Pixels]) -> npt.NDArray[np.uint8]:
    """uint8[n, 115, 115, 12]: the samples of 2x2 px are the channels of one place.

    A convolution of 12 channels takes a quarter of the time of one of 3 channels and 4 times the
    places.

    Args:
      pictures: uint8[224, 224, 3].
    """
    tensor = np.empty((len(pictures), _PLACES, _PLACES, 12), np.uint8)
    for places, picture in zip(tensor, pictures, strict=True):
        # Two samples at once, as words of 16 bits: three of a pixel pair, of a row and of the next.
        framed = cv2.copyMakeBorder(picture, *_EDGES, cv2.BORDER_CONSTANT, value=_MEAN)
        pairs = framed.reshape(_PLACES, -1).view(np.uint16).reshape(_PLACES, 2, _PLACES, 3)
        cv2.mixChannels([pairs[:, 0], pairs[:, 1]], [places.view(np.uint16)], _IN_ORDER)
    return tensor
