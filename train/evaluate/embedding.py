"""Evaluation data goes through a model once: streamed, in batches, kept by its content."""

import hashlib
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from alignset.train.data.images import parts_by_pixels, readable_image
from alignset.train.evaluate.feature_store import Features, FeatureStore
from alignset.train.model.embed import DualEmbedder

_TEXTS_AT_ONCE = 256


class SetItem(Protocol):
    """A named tuple of what a dataset says of an image, its file among it."""

    @property
    def data(self) -> bytes: ...
    def _replace(self, *, data: bytes) -> Self: ...


Item = TypeVar("Item", bound=SetItem)


@dataclass
class EmbeddedImages:
    """The images that could be decoded, in their order.

    Attributes:
      places: int64[n]; of each, which of all images it was.
      identities: of each image's file, its SHA-256.
      skipped: how many could not be decoded.
    """

    features: Features
    places: npt.NDArray[np.int64]
    identities: list[bytes]
    skipped: int

    def take(self, rows: npt.NDArray[np.int64]) -> "EmbeddedImages":
        """Some of them."""
        identities = [self.identities[row] for row in rows.tolist()]
        return EmbeddedImages(self.features.take(rows), self.places[rows], identities, self.skipped)


@dataclass
class Embedding:
    """A model and the folder in which its embeddings are kept.

    Args:
      batch_size: images of one forward pass.
    """

    embedder: DualEmbedder
    cache: Path
    batch_size: int = 64
    computed: int = field(default=0, init=False)  # images and texts that went through the model

    def images(self, files: Iterable[bytes]) -> EmbeddedImages:
        """Embeds images by their files. In memory are some of them, and about 0.2
        KB for each embedding of the store.

        Raises:
          TrainingError: an embedding is not finite.
        """
        store = self._store("images")
        rows: list[npt.NDArray[np.int64]] = []
        identities: list[bytes] = []
        with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool, _bar("images") as bar:
            for part in _decoded_ahead(files, store, pool, self.batch_size):
                identities += part.keys
                rows.append(self._rows_of(store, part))
                bar.update(len(part.keys))
        numbers = np.concatenate([np.zeros(0, np.int64), *rows])
        places = np.flatnonzero(numbers >= 0)
        return EmbeddedImages(
            store.rows(numbers[places]),
            places,
            [identities[place] for place in places],
            len(numbers) - len(places),
        )

    def texts(self, texts: Sequence[str]) -> Features:
        """Embeds texts; equal ones once."""
        store = self._store("texts")
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        missing = {keys[i]: texts[i] for i in np.flatnonzero(store.find(keys) < 0).tolist()}
        of_missing = iter(missing.items())
        with _bar("texts") as bar:
            while part := dict(islice(of_missing, _TEXTS_AT_ONCE)):
                store.add([*part], self.embedder.embed_texts([*part.values()]))
                self.computed += len(part)
                bar.update(len(part))
        return store.rows(store.find(keys))

    def items(self, items: Iterable[Item]) -> tuple[EmbeddedImages, list[Item]]:
        """Embeds the images of a dataset; gives those that can be decoded too, without their
        files."""
        rest: list[Item] = []

        def files() -> Iterator[bytes]:
            for item in items:
                rest.append(item._replace(data=b""))
                yield item.data

        images = self.images(files())
        return images, [rest[place] for place in images.places]

    def _store(self, kind: str) -> FeatureStore:
        return FeatureStore(self.cache / self.embedder.digest[:32] / kind, self.embedder.width)

    def _rows_of(self, store: FeatureStore, part: "_Part") -> npt.NDArray[np.int64]:
        """int64[n]; -1 where an image can't be decoded."""
        numbers = store.find(part.keys)  # the part before may have had some of them
        pictures: dict[bytes, Image.Image] = {}
        for place, future in part.futures.items():
            picture = future.result()
            if picture is not None and numbers[place] < 0:
                pictures[part.keys[place]] = picture
        if not pictures:
            return numbers
        store.add([*pictures], self.embedder.embed_images([*pictures.values()]))
        self.computed += len(pictures)
        return store.find(part.keys)


def _bar(unit: str) -> tqdm:
    """On a terminal alone, and gone at its end."""
    return tqdm(unit=f" {unit}", leave=False, disable=not sys.stderr.isatty())


@dataclass
class _Part:
    keys: list[bytes]
    futures: dict[int, "Future[Image.Image | None]"]  # by place, of those that are not stored


def _decoded_ahead(
    files: Iterable[bytes], store: FeatureStore, pool: ThreadPoolExecutor, size: int
) -> Iterator[_Part]:
    """Parts of the images; one is decoded while the one before is embedded."""
    ahead: deque[_Part] = deque()
    for part in parts_by_pixels(files, size, lambda data: data):
        keys = [hashlib.sha256(data).digest() for data in part]
        missing = np.flatnonzero(store.find(keys) < 0).tolist()
        first_of = {keys[i]: i for i in reversed(missing)}
        futures = {i: pool.submit(readable_image, part[i]) for i in sorted(first_of.values())}
        ahead.append(_Part(keys, futures))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead
