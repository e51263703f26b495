"""The protocol of models that embed images and texts, and what all kinds of them share."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

OPEN_CLIP = "open_clip:"
# Of an image's sides: of one that is longer the middle is shown. Resized by its shorter side, as
# CLIP does it, one of 1 x 65,500 px would take 10 GB.
MAX_LENGTH = 64

Embeddings = npt.NDArray[np.float32]


class Embedder(Protocol):
    """A model in evaluation mode, on the GPU where there is one. One thread at a time.

    Attributes:
      name: as the user gave it.
      kind: what it is, such as "AlignModel".
      digest: hex; of its weights and of how it prepares images and texts. Embeddings of equal
        digests may be compared with each other.
      width: of its embeddings.
    """

    name: str
    kind: str
    digest: str
    width: int

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """float32[n, width], L2-normalised, of RGB images of any size."""

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """float32[n, width], L2-normalised. Texts that are too long for the model are cut."""


@runtime_checkable
class DenseEmbedder(Embedder, Protocol):
    """One that also embeds the parts of an image."""

    def embed_parts(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """float32[n, h, w, width], L2-normalised: a map over the whole of each image, which is
        squeezed to a square. Its mean over h and w, before it is normalised, is what embed_images
        has of such a square."""


def not_longer(image: Image.Image, aspect: float = MAX_LENGTH) -> Image.Image:
    """The image or, where a side is more than `aspect` times the other one, its middle."""
    longest = round(min(image.size) * aspect)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
