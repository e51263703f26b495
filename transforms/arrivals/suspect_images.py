"""The images of a shard that was under way when a worker died: each is decoded in a child process
before the worker decodes it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from alignset.transforms.fetching.fetch import Fetched
from alignset.transforms.images.examine import CRASHED_DECODER
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.images.try_decoders import crashes
from alignset.transforms.workers.limited_process import CHECKED
from alignset.transforms.workers.threads import in_threads

LOG = logging.getLogger("alignset")


def screened(
    bodies: Iterable[Fetched], urls: Sequence[str], resize: ResizeSettings
) -> Iterator[Fetched]:
    """Yields images that come; one that crashes its decoder has the detail CRASHED_DECODER, and
    must not be decoded.

    Args:
      urls: of the images, for the log.
    """

    def look(arrival: Fetched) -> Fetched:
        if arrival.body is None or not crashes(arrival.body, resize):
            return arrival
        LOG.warning("a decoder crashes at %s: please report it", urls[arrival.index])
        return replace(arrival, detail=CRASHED_DECODER)

    try:
        yield from in_threads(look, bodies)
    finally:
        CHECKED.end_idle()
