"""The pairs of a shard that share an image, which is requested, examined and encoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.hashing import Bools
from alignset.transforms.images.examine import Image, turn_of
from alignset.transforms.images.resize import Encoder
from alignset.transforms.images.resize_settings import Encoded, EncodingError, ResizeSettings
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.workers.threads import in_threads
from alignset.transforms.workers.unexpected import tell_once

Rows = npt.NDArray[np.int64]


class SafeEncoder:
    """Encodes images for a shard. Whatever one makes an encoder raise costs that one alone."""

    def __init__(self, settings: ResizeSettings) -> None:
        self._encode = Encoder(settings)
        # Bytes that stay as they are need no second core.
        self.map = map if settings.resize_mode == "original" else in_threads

    def __call__(self, item: tuple[Image, bytes]) -> Encoded | None:
        image, body = item
        try:
            with turn_of(image.width * image.height):
                return self._encode(body, image)
        except EncodingError:
            return None
        except Exception as error:
            tell_once("encoding an image", error)
            return None


class SharedImages(NamedTuple):
    """The m images of n pairs.

    Fields:
      rows: int64[m], ascending: the pair by which each image is asked for, its first.
      of_pairs: int64[n], the image of each pair; -1 where none is asked for.
    """

    rows: Rows
    of_pairs: Rows

    def spread(self, column: pa.Array) -> pa.Array:
        """A column of images as one of pairs; null where no image was asked for."""
        return column.take(pa.array(self.of_pairs, mask=self.of_pairs < 0))


class DonePairs:
    """Tells how many pairs are done, by how many of their images are."""

    def __init__(self, count: Callable[[int], None], pairs: int, images: int) -> None:
        self._count, self._pairs, self._images = count, pairs, max(1, images)

    def __call__(self, done: int) -> None:
        self._count(done * self._pairs // self._images)


def shared_images(pairs: pa.Table, wanted: Bools) -> SharedImages:
    """Which pairs share an image: those whose URLs have one identity. An image that is stored is
    its pair's own, since sets of earlier versions fetched each.

    Args:
      pairs: columns url, and perhaps source_path: where a stored image is.
      wanted: bool[n], the pairs whose images are asked for.
    """
    identities = url_hashes(pairs["url"].combine_chunks())[0] if len(pairs) else np.zeros(0)
    of_pairs = np.full(len(pairs), -1, np.int64)
    shareable = wanted.copy()
    if "source_path" in pairs.column_names:
        shareable &= pairs["source_path"].is_null().to_numpy()
    own = np.flatnonzero(wanted & ~shareable)
    shared = np.flatnonzero(shareable)
    _, first, image = np.unique(identities[shared], return_index=True, return_inverse=True)
    rows = np.concatenate([shared[first], own])
    order = np.argsort(rows)
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows))
    of_pairs[shared], of_pairs[own] = place[image], place[len(first) :]
    return SharedImages(rows[order], of_pairs)


def encoded_once(
    images: Sequence[int],
    encode: Callable[[Iterable[int]], Iterable[Encoded | None]],
    spool: Spool,
) -> Iterator[Encoded | None]:
    """What images are encoded to, one for each pair. The bytes of an image of several pairs are put
    aside in between.

    Args:
      images: the image of each pair, in the order of the pairs.
      encode: encodes images, each given once, in their order; None where one cannot be.
    """
    uses = Counter(images)
    made = iter(encode(dict.fromkeys(images)))
    aside: dict[int, tuple[Encoded, tuple[int, int]] | None] = {}
    for image in images:
        if image in aside:
            kept = aside[image]
            yield kept and kept[0]._replace(body=spool.get(kept[1]))
            continue
        encoded = next(made)
        if uses[image] > 1:
            aside[image] = encoded and (encoded._replace(body=b""), spool.put(encoded.body))
        yield encoded
