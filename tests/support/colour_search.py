"""A model that knows colours by their names, and a small index of plain images by it."""

import contextlib
import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from alignset.train.search.index_files import IndexDocument, make_index
from alignset.train.search.pictures import find_sources
from alignset.train.search.query import OpenedIndex
from alignset.train.search.serve import Server
from tests.support.train_shards import COLOURS

WIDTH = 32


class ColourModel:
    """An embedder: an image is its mean colour, and a text the mean of the colours it names.

    Attributes:
      calls: how many texts were embedded at once, each time.
      image_count: how many images were embedded.
      preparers: the threads that prepared them.
    """

    kind, width, devices = "colours", WIDTH, 1

    def __init__(self, name: str = "colours", seed: int = 0, fast: bool = True):
        self.name, self.digest = name, f"{seed:02x}" * 32
        self.calls: list[int] = []
        self.image_count, self.preparers = 0, set[int]()
        self._axes = np.random.default_rng(seed).normal(size=(3, WIDTH)).astype(np.float32)

    def prepare(self, image: Image.Image, name: str) -> Image.Image:
        self.preparers.add(threading.get_ident())
        return image

    def embed_prepared(self, images: Sequence[Image.Image]) -> np.ndarray:
        return self.embed_images(images)

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.image_count += len(images)
        means = [np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images]
        return self._unit(np.stack(means))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(len(texts))
        rows = []
        for text in texts:
            named = [rgb for name, rgb in COLOURS.items() if name in text.lower()]
            rows.append(np.mean(named or [(90, 90, 91)], axis=0))
        return self._unit(np.array(rows, np.float32))

    def _unit(self, colours: np.ndarray) -> np.ndarray:
        rows = (colours - 127.5) @ self._axes + 1e-3
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(
    colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (120, 90)
) -> Image.Image:
    """A plain image with a few shapes of nearly its colour, which tell images apart."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, colour)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = random.integers(0, size[0] - 20), random.integers(0, size[1] - 20)
        shade = tuple(
            int(v) for v in np.clip(np.array(colour) + random.integers(-40, 40, 3), 0, 255)
        )
        draw.ellipse((x, y, x + 35, y + 25), fill=shade)
    return image


def picture_bytes(image: Image.Image, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def picture_folder(folder: Path, each: int = 6) -> Path:
    """So many images of each colour in folders of their names, with captions beside them."""
    for colour, (name, rgb) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            size = (120, 90) if number % 2 else (80, 130)
            path = folder / name / f"{number}.jpg"
            path.write_bytes(picture_bytes(drawn(rgb, 100 * colour + number, size)))
            path.with_suffix(".txt").write_text(f"a {name} picture, number {number}\nmore\n")
    return folder


# How an index is made.
MAKING: dict[str, Any] = {"batch_size": 8, "thumbnail_px": 64, "threads": 2}


def index_of(data: Path, folder: Path, model: ColourModel | None = None) -> IndexDocument:
    """An index of a folder or of shards, by the model of colours."""
    sources = find_sources(str(data))
    document, _ = make_index(folder, sources, model or ColourModel(), **MAKING)
    return document


@contextlib.contextmanager
def serving(
    index: OpenedIndex,
    *,
    host: str = "127.0.0.1",
    root_path: str = "",
    model: type[ColourModel] = ColourModel,
) -> Iterator[str]:
    """The URL of a server of an index, without the slash at its end."""
    server = Server(index, model(), (host, 0), root_path)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.url.rstrip("/")
    finally:
        server.stop()
        thread.join()


def answer(url: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one request."""
    request = urllib.request.Request(url, **options)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
