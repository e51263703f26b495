"""A dataset's images and texts go through a model once; their vectors are kept in `.npz` files.

1. A dataset's images are read in parts; the next part is prepared while one is embedded.
2. Equal files, and those that the dataset's `.npz` has from an earlier task, are not embedded.
3. At the end the `.npz` is written whole: an interrupted evaluation embeds again.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from alignset.train.data.images import parts_by_pixels, readable_image
from alignset.train.data.whole_files import read_arrays, write_whole
from alignset.train.errors import SettingsError
from alignset.train.evaluate.image_sets import Item
from alignset.train.model.embed import DualEmbedder, embed_ahead, finite

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
      batch_size: images of one forward pass of each device.
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
        path, width = self._path("images", dataset), self.embedder.width
        arrays = read_arrays(path)
        forms = {name: (array.dtype.str, array.shape[1:]) for name, array in arrays.items()}
        if forms != {"keys": ("|u1", (32,)), "vectors": ("<f4", (width,))}:
            arrays = {"keys": np.zeros((0, 32), np.uint8)}
            arrays["vectors"] = np.zeros((0, width), np.float32)
        kept: Vectors = arrays["vectors"]
        row_of = {key.tobytes(): row for row, key in enumerate(arrays["keys"])}  # by SHA-256
        vectors, seen, skipped = [kept], list[Item](), 0

        def prepared(item: Item) -> torch.Tensor | None:
            picture = readable_image(item.data)
            return None if picture is None else self.embedder.prepare(picture, item.name)

        def read(part: list[Item], pool: Executor) -> tuple[list[Item], list[torch.Tensor]]:
            part = [item._replace(identity=hashlib.sha256(item.data).digest()) for item in part]
            files = {item.identity: item for item in part if item.identity not in row_of}
            every = zip(files, pool.map(prepared, files.values()), strict=True)
            pictures = {name: pixels for name, pixels in every if pixels is not None}
            row_of.update(zip(pictures, count(len(row_of)), strict=False))
            return [item._replace(data=b"") for item in part], [*pictures.values()]

        parts = parts_by_pixels(items, self.batch_size * self.embedder.devices)
        with _bar("images") as bar:
            for part, rows in embed_ahead(self.embedder, parts, read):
                vectors.append(rows)
                readable = [item for item in part if item.identity in row_of]
                seen += readable
                skipped += len(part) - len(readable)
                bar.update(len(part))
        found = np.concatenate(vectors)
        if len(found) > len(kept):
            keys = np.frombuffer(b"".join(row_of), np.uint8).reshape(-1, 32)
            write_whole(path, lambda file: np.savez(file, keys=keys, vectors=found))
        rows = np.array([row_of[item.identity] for item in seen], np.int64)
        return EmbeddedImages(found[rows], seen, skipped)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """float32[n, d], L2-normalised; equal texts are embedded once."""
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        distinct = [*row_of]
        path = self._path("texts", "\0".join(distinct))
        vectors = read_arrays(path).get("vectors", np.zeros(0))
        shape = len(distinct), self.embedder.width
        if vectors.dtype != np.float32 or vectors.shape != shape:
            parts = []
            with _bar("texts") as bar:
                for start in range(0, len(distinct), _TEXTS_AT_ONCE):
                    part = distinct[start : start + _TEXTS_AT_ONCE]
                    parts.append(finite(self.embedder.embed_texts(part)))
                    bar.update(len(part))
            vectors = np.concatenate(parts)
            write_whole(path, lambda file: np.savez(file, vectors=vectors))
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


def _bar(unit: str) -> tqdm:
    """On a terminal alone, and gone at its end."""
    return tqdm(unit=f" {unit}", leave=False, disable=not sys.stderr.isatty())
