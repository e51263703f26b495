"""Images that must not be in a dataset, given as images: a list of their exact bytes, and of what
shows the same by the check of copies, also cropped or mirrored."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alignset.transforms.blocklists.kinds import ListError
from alignset.transforms.decontamination.copy_index import CopyIndex, Nearest, build_copy_index
from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_formats import IMAGE_EXTENSIONS
from alignset.transforms.rules.thresholds import COPY_DISTANCE
from alignset.transforms.storage.files import match, open_to_read

MOST_IMAGES = 10_000  # which take 0.3 GB and 30 s of each worker


def read_images(path: str) -> tuple[list[str], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Reads the image at a path, or those in a folder: paths, uint8[n, 32] SHA-256, and uint8[n, 2,
    64, 64] thumbnails.

    Raises:
      ListError: there is none, or one of them cannot be decoded.
    """
    paths = [file for file, _ in match(path, links=True)]
    if paths != [path]:
        paths = [p for p in paths if p.rpartition(".")[2].lower() in IMAGE_EXTENSIONS]
    if not 1 <= len(paths) <= MOST_IMAGES:
        raise ListError(
            f"the blocklist image:{path} must be an image or a folder of 1 to {MOST_IMAGES:,}; "
            f"got {len(paths):,}"
        )
    digests, thumbnails = [], []
    for file in paths:
        with open_to_read(file) as source:
            body = source.read()
        image = examine(body, keep_grey=True)
        if isinstance(image, Unusable):
            raise ListError(
                f"the blocklist image:{path}: {file} cannot be decoded ({image.detail}), so that "
                "nothing would be found to show it: take it out"
            )
        digests.append(hashlib.sha256(body).digest())
        thumbnails.append(stack_thumbnails([image]))
    whole = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    return paths, whole, np.concatenate(thumbnails)


class ListedImages:
    """The index of a list's images, made once in a process. For all threads."""

    def __init__(self, thumbnails: npt.NDArray[np.uint8], paths: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="alignset-listed-")
        build_copy_index([thumbnails], Path(self._folder.name))
        self._index, self.paths = CopyIndex(Path(self._folder.name)), paths

    def nearest(self, body: bytes, image: Image | None = None) -> Nearest | None:
        """The listed image that a file shows, too.

        Args:
          image: what `examine` said of the file with `keep_grey`.
        """
        look = image or examine(body, keep_grey=True)
        if isinstance(look, Unusable):
            return None
        (nearest,) = self._index.nearest(stack_thumbnails([look]))
        return nearest if nearest and nearest.distance < COPY_DISTANCE else None
