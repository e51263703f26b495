"""The tutorial's web: parts of real photographs, and rows that a recipe should drop.

`python -m alignset.demo.tutorial` writes it to this folder, and serves it until Control-C.
"""

import argparse
import contextlib
import csv
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from alignset.demo.photos import PHOTOS, Photo
from alignset.demo.serve import HOST, serving

ROWS = {"top": 0.0, "middle": 0.5, "bottom": 1.0}
COLUMNS = {"left": 0.0, "centre": 0.5, "right": 1.0}
ZOOMS = {"": 0.8, "close up of ": 0.55}
EVALUATED = "rocket"  # its photograph is an evaluation image, and the web has a mirrored copy
GERMAN = "Ein Foto aus unserem Museum, das wir sehr gerne zeigen"


def _parts(photo: Photo, picture: Image.Image) -> Iterator[tuple[Image.Image, str]]:
    """Yields 18 parts of a photograph, each with a text of its own."""
    for zoom, side in ZOOMS.items():
        width, height = (round(pixels * side) for pixels in picture.size)
        for row, down in ROWS.items():
            for column, across in COLUMNS.items():
                x, y = (picture.width - width) * across, (picture.height - height) * down
                part = picture.crop((round(x), round(y), round(x) + width, round(y) + height))
                text = photo.texts[len(row + column) % 2]
                yield part, f"{zoom}{text}, {row} {column}"


def _images(photo: Photo) -> Iterator[tuple[Image.Image, str]]:
    """Yields the images of a photograph that the web has, and their texts."""
    picture = photo.open()
    if photo.name == EVALUATED:
        yield ImageOps.mirror(picture), photo.texts[0]
        return
    yield from _parts(photo, picture)
    yield ImageOps.contain(picture, (150, 150)), photo.texts[0]
    yield picture, "click here"
    yield picture, GERMAN


@contextlib.contextmanager
def photo_web(folder: Path, port: int = 0) -> Iterator[int]:
    """Writes `pairs.csv`, `eval/` and `site/`, and serves `site/` while the context lasts.

    Yields:
      How many pairs there are.
    """
    for name in ("site", "eval"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pairs = []
    for photo in PHOTOS:
        if photo.name == EVALUATED:
            photo.open().save(folder / "eval" / f"{photo.name}.png")
        for number, (image, text) in enumerate(_images(photo)):
            image.save(folder / "site" / f"{photo.name}-{number}.jpg", quality=90)
            pairs.append((f"{photo.name}-{number}.jpg", text))
    pairs += [(f"gone-{number}.jpg", "the house of my aunt") for number in range(8)]
    with serving(folder, port) as used:
        with (folder / "pairs.csv").open("w", newline="") as file:
            rows = ((f"http://{HOST}:{used}/{name}", text) for name, text in pairs)
            csv.writer(file).writerows([("url", "caption"), *rows])
        yield len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m alignset.demo.tutorial")
    parser.add_argument("--port", type=int, default=8765)
    port = parser.parse_args().port
    with contextlib.suppress(KeyboardInterrupt), photo_web(Path(), port) as pairs:
        print(f"{pairs} pairs in pairs.csv, served on http://{HOST}:{port}; Control-C ends")
        threading.Event().wait()


if __name__ == "__main__":
    main()
