"""Files of images decoded in a child process first, where one is suspected of ending the process
that decodes it."""

from __future__ import annotations

import pickle
from contextlib import suppress
from functools import lru_cache

import numpy as np

from alignset.transforms.images.decode import KNOWN_FORMATS, decoded_picture, turn_of
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.images.resize import Encoder
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.workers.limited_process import (
    CHECKED,
    CrashError,
    Limits,
    OvertimeError,
    call_limited,
)

# More than any decodes take, 3 s each, with what a new process imports and perhaps compiles: 30 s.
AMPLE = Limits(240.0, 1 << 33)
_encoder = lru_cache(Encoder)


def crashes(body: bytes, resize: ResizeSettings) -> bool:
    """Whether a decoder ends its process at a file, or does not end. For all threads.

    Args:
      resize: how images are stored.

    Raises:
      ChildError: no child process can be started, or the work of this thread is to end.
    """
    try:
        look = FileLook(body)
        if look.format in KNOWN_FORMATS:  # others are decoded in a child anyway
            with turn_of(look.size[0] * look.size[1]):
                call_limited(decode_all_ways, pickle.dumps((body, resize)), AMPLE, CHECKED)
    except (CrashError, OvertimeError):
        return True
    except Exception:  # it is judged where it is decoded again
        return False
    return False


def decode_all_ways(request: bytes) -> list[bytes]:
    """Decodes a file in each way in which anything here does: as it is looked at, whole, and by
    what stores it. Returns nothing.

    Args:
      request: pickled, the file and the `ResizeSettings`.
    """
    body, resize = pickle.loads(request)
    image = examine(body)
    if isinstance(image, Image):
        with suppress(Exception):
            decoded_picture(body, image.format, image.width * image.height)
        _encoder(resize)(body, image, np.array([[0.0, 0, 1, 1]]) if resize.blur_boxes else None)
    return []
