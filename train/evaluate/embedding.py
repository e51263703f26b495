"""A dataset's images and texts go through a model once; their vectors are kept in `.npz` files.

1. A dataset's images are read in parts; the next part is decoded while one is embedded.
2. Equal files, and those that the dataset's `.npz` has from an earlier task, are not embedded.
3. At the end the `.npz` is written whole: an interrupted evaluation embeds again.
"""

import hashlib
import os
import sys
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from alignset.train.data.images import parts_by_pixels, readable_image
from alignset.train.data.inputs import ahead
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.evaluate.image_sets import Item
from alignset.train.model.embed import DualEmbedder

_TEXTS_AT_ONCE = 256
Vectors = npt.NDArray[np.floating]


@dataclass
class EmbeddedImages:
    """The images that could be decoded, in their order.

    Attributes:
      vectors: float32[n, d], L2-normalised.
      items: what the dataset says of each, with its identity and without its file.
      skipped: how many could not be decoded.
    """

    vectors: Vectors
    items: list[Item]
    skipped: int

    def identities(self) -> list[bytes]:
        return [item.identity for item in self.items]


@dataclass
class Embedding:
    """A model and the folder in which vectors are kept.

    Args:
      batch_size: images of one forward pass.
    """

    embedder: DualEmbedder
    cache: Path
    batch_size: int = 64

    def images(self, items: Iterable[Item], dataset: str) -> EmbeddedImages:
        """Embeds a dataset's images.

        Args:
          dataset: what it is called; its vectors are kept by this name, and found by their files.

        Raises:
          TrainingError: an embedding is not finite. SettingsError: the cache can't be written to.
        """
        path = self._path("images", dataset)
        keys, kept = self._read(path)
        row_of = {key.tobytes(): row for row, key in enumerate(keys)}
        vectors, seen, skipped = [kept], list[Item](), 0

        def decode(part: list[Item]) -> tuple[list[Item], list[Image.Image]]:
            part = [item._replace(identity=hashlib.sha256(item.data).digest()) for item in part]
            files = {item.identity: item.data for item in part if item.identity not in row_of}
            decoded = zip(files, pool.map(readable_image, files.values()), strict=True)
            pictures = {name: picture for name, picture in decoded if picture is not None}
            row_of.update(zip(pictures, count(len(row_of)), strict=False))
            return [item._replace(data=b"") for item in part], [*pictures.values()]

        parts = (part for part in parts_by_pixels(items, self.batch_size, lambda item: item.data))
        with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool, _bar("images") as bar:
            for part, pictures in ahead(parts, decode):
                if pictures:
                    vectors.append(finite(self.embedder.embed_images(pictures)))
                readable = [item for item in part if item.identity in row_of]
                seen += readable
                skipped += len(part) - len(readable)
                bar.update(len(part))
        found = np.concatenate(vectors)
        if len(vectors) > 1:
            keys = np.frombuffer(b"".join(row_of), np.uint8).reshape(-1, 32)
            write_whole(path, lambda file: np.savez(file, keys=keys, vectors=found))
        rows = np.array([row_of[item.identity] for item in seen], np.int64)
        return EmbeddedImages(found[rows], seen, skipped)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """float32[n, d], L2-normalised; equal texts are embedded once."""
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        distinct = [*row_of]
        path = self._path("texts", "\0".join(distinct))
        keys, vectors = self._read(path)
        if len(vectors) < len(distinct):
            parts = []
            with _bar("texts") as bar:
                for start in range(0, len(distinct), _TEXTS_AT_ONCE):
                    part = distinct[start : start + _TEXTS_AT_ONCE]
                    parts.append(finite(self.embedder.embed_texts(part)))
                    bar.update(len(part))
            vectors = np.concatenate(parts)
            write_whole(path, lambda file: np.savez(file, keys=keys, vectors=vectors))
        return vectors[[row_of[text] for text in texts]]

    def _path(self, kind: str, name: str) -> Path:
        folder = self.cache / self.embedder.digest[:32]
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise SettingsError(
                f"embeddings can't be kept in {folder}: name a folder that can be written to with "
                "--cache"
            )
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        return folder / f"{kind}-{digest[:32]}.npz"

    def _read(self, path: Path) -> tuple[npt.NDArray[np.uint8], Vectors]:
        """The SHA-256 of each image, and the vectors; none where there is no such file."""
        try:
            with np.load(path) as file:
                return file["keys"], file["vectors"]
        except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
            return np.zeros((0, 32), np.uint8), np.zeros((0, self.embedder.width), np.float32)


def finite(vectors: Vectors) -> Vectors:
    """The same. Raises TrainingError where they are not all finite numbers."""
    if not np.isfinite(vectors).all():
        raise TrainingError(
            "the model's embeddings are not all finite numbers: it diverged, take an earlier one"
        )
    return vectors


def _bar(unit: str) -> tqdm:
    """On a terminal alone, and gone at its end."""
    return tqdm(unit=f" {unit}", leave=False, disable=not sys.stderr.isatty())
