"""Runs an evaluation task in this process, with an embedder of colours and words whose vectors can
be worked out by hand."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from unittest import mock

import numpy as np
import torch
from PIL import Image

from alignset.train.evaluate.__main__ import main
from tests.support.train_shards import COLOURS, encoded


class WordEmbedder:
    """Eight numbers, one for each of COLOURS: how near an image's mean is to it, and whether a text
    has its word. A text or an image that has none is the last one's opposite."""

    name, kind, digest, width, devices = "words", "test", "d" * 64, len(COLOURS), 1
    torch_threads: ClassVar = set[
        int
    ]()  # that those which prepare images may start, in all instances

    def __init__(self) -> None:
        self.images_seen = self.texts_seen = 0

    def prepare(self, image: Image.Image, name: str) -> Image.Image:
        self.torch_threads.add(torch.get_num_threads())
        return image

    prepare_whole = prepare

    def embed_prepared(self, images: Sequence[Image.Image]) -> np.ndarray:
        return self.embed_images(images)

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


class ConfusedEmbedder(WordEmbedder):
    """Its red images are green, and its green ones red."""

    name, digest = "confused", "e" * 64

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return super().embed_images(images)[:, [1, 0, *range(2, self.width)]]


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def evaluated(capsys, task: str, *flags: object) -> dict:
    """What a task prints; fails where it does not end well."""
    capsys.readouterr()
    assert run(task, *flags) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys, task: str, *flags: object) -> str:
    """The one line of a task that ends with exit status 2."""
    capsys.readouterr()
    assert run(task, *flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def run(task: str, *flags: object) -> int:
    def open_embedder(name: str) -> WordEmbedder:
        return ConfusedEmbedder() if "confused" in name else WordEmbedder()

    with mock.patch("alignset.train.model.embed.open_embedder", open_embedder):
        return main([task, "--model=words", *map(str, flags)])


def colour_folders(root: Path, each: int = 3, first: int = 0) -> Path:
    """A folder for each of COLOURS, with images that are nearly of its colour.

    Args:
      first: the number of the first image; no two numbers have the same pixels.
    """
    for name, (red, green, blue) in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(first, first + each):
            near = (max(red - i, 0), abs(green - 2 * i), blue)
            (root / name / f"{i}.png").write_bytes(encoded(Image.new("RGB", (12, 9), near)))
    return root
