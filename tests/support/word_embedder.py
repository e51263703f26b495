"""An embedder whose embeddings can be worked out by hand: of colours and words."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from alignset.train.evaluate.feature_store import Features, FeatureStore
from tests.support.train_shards import COLOURS


class WordEmbedder:
    """Eight numbers, one for each of COLOURS: how near an image's mean is to it, and whether a text
    has its word. A text or an image that has none is the last one's opposite."""

    name, kind, digest, width = "words", "test", "d" * 64, len(COLOURS)

    def __init__(self) -> None:
        self.images_seen = self.texts_seen = 0

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.images_seen += len(images)
        means = np.array([np.asarray(image, float).mean(axis=(0, 1)) for image in images])
        return unit(self._near(means))

    def embed_parts(self, images: Sequence[Image.Image]) -> np.ndarray:
        small = [np.asarray(image.resize((8, 8), Image.Resampling.BOX), float) for image in images]
        return unit(self._near(np.array(small)))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts_seen += len(texts)
        rows = np.zeros((len(texts), self.width), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = [colour in re.findall(r"\w+", text) for colour in COLOURS]
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
            row += np.frombuffer(digest[: self.width], np.uint8) / 25_500  # no two are equal
        return unit(rows)

    @staticmethod
    def _near(means: np.ndarray) -> np.ndarray:
        away = np.linalg.norm(means[..., None, :] - np.array(list(COLOURS.values())), axis=-1)
        return np.exp(-away / 20)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def kept(folder: Path, rows: np.ndarray) -> Features:
    """float32[n, d] as features on disk."""
    store = FeatureStore(folder, rows.shape[1])
    keys = [i.to_bytes(8, "big") * 4 for i in range(len(rows))]
    return store.rows(store.add(keys, rows.astype(np.float32)))
