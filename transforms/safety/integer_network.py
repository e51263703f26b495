"""The usual classifier's network in integers: equal scores on every CPU, for half the time or less.

`benchmarks/nsfw_model.py` made its file, and docs/safety.md says how near its scores are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.safety.model_files import OPEN_NSFW
from alignset.transforms.safety.network import open_session

FILE = Path(__file__).with_name("open-nsfw-int8.onnx")
_BORDER = 3  # px around a picture, of the mean colour: what the first convolution reads there
_PLACES = OPEN_NSFW.wanted.size // 2 + _BORDER
_FRAME = np.tile(np.array(OPEN_NSFW.wanted.mean, np.uint8), (2 * _PLACES, 2 * _PLACES, 1))


class IntegerNetwork:
    """The opened network. For all threads.

    Args:
      encoded: its file.
    """

    def __init__(self, encoded: bytes) -> None:
        self._session = open_session(encoded, may_use_gpu=False)

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
    framed = np.repeat(_FRAME[None], len(pictures), axis=0)
    for inside, picture in zip(framed, pictures, strict=True):
        inside[_BORDER:-_BORDER, _BORDER:-_BORDER] = picture
    above, below = (framed[:, row::2].reshape(-1, _PLACES, _PLACES, 6) for row in range(2))
    return np.concatenate([above, below], axis=3)
