"""Photographs that scikit-image, scikit-learn and matplotlib ship, in many encodings."""

import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from alignset.demo.scenes import encode


@dataclass(frozen=True)
class Photo:
    """Where a photograph lies within its package, and two texts about it."""

    name: str
    package: str
    path: str
    texts: tuple[str, str]

    def open(self) -> Image.Image:
        """The image as RGB, at most 640 px a side, on white where it was transparent.

        Raises:
          FileNotFoundError: the package that ships it is not installed.
        """
        return _opened(self.package, self.path).copy()


@cache  # each is encoded some twenty times
def _opened(package: str, path: str) -> Image.Image:
    spec = importlib.util.find_spec(package)
    file = Path(spec.submodule_search_locations[0]) / path if spec else None
    if file is None or not file.exists():
        raise FileNotFoundError(f"{package} with {path} is missing: install the `dev` extra")
    picture = _on_white(Image.open(file))
    picture.thumbnail((640, 640))
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _of(package: str, folder: str, *photos: tuple[str, str, str]) -> list[Photo]:
    return [Photo(name.split(".")[0], package, folder + name, (a, b)) for name, a, b in photos]


PHOTOS = (
    *_of(
        "skimage",
        "data/",
        (
            "astronaut.png",
            "an astronaut in an orange suit",
            "portrait of a woman who flew into space",
        ),
        ("brick.png", "the wall of an old brick house", "grey bricks in the wall of a house"),
        (
            "camera.png",
            "a black &amp; white photo of a man behind a camera",
            "a man with a camera on a tripod",
        ),
        ("chelsea.png", "a cat that looks at something on the floor", "the face of a young cat"),
        (
            "coffee.png",
            "a cup of coffee on the table of a small caf\u00e9",
            "the spoon beside a cup of coffee",
        ),
        ("coins.png", "old coins from the ruins of Pompeii", "four rows of old coins in a museum"),
        ("grass.png", "the grass on the other side of the fence", "short grass seen from above"),
        (
            "gravel.png",
            "small stones on the path to the house",
            "grey gravel that was seen from above",
        ),
        ("horse.png", "the black shape of a horse on white", "a horse seen from the side"),
        (
            "hubble_deep_field.jpg",
            "there are thousands of galaxies far away",
            "the deep field of a space telescope",
        ),
        (
            "ihc.png",
            "cells of the human body under a microscope",
            "brown and blue cells that were stained",
        ),
        ("moon.png", "craters on the surface of the moon", "the moon as seen from a spacecraft"),
        (
            "motorcycle_left.png",
            "a red motorcycle in a garage",
            "the motorcycle that my father built",
        ),
        ("retina.jpg", "the back of a human eye", "blood vessels in the eye of a patient"),
        (
            "rocket.jpg",
            "a rocket that waits for launch at night",
            "the launch of a rocket was delayed",
        ),
        (
            "color.png",
            "all the colours of the rainbow in a circle",
            "the wheel of colours on black",
        ),
    ),
    *_of(
        "sklearn",
        "datasets/images/",
        (
            "china.jpg",
            "the summer palace by the lake in China",
            "a temple with a view over the lake",
        ),
        (
            "flower.jpg",
            "an orange flower in the garden",
            "the flower of a dahlia before dark leaves",
        ),
    ),
    *_of(
        "matplotlib",
        "mpl-data/sample_data/",
        (
            "grace_hopper.jpg",
            "an officer of the navy who wrote the first compiler",
            "a woman in the navy",
        ),
    ),
)


def _scaled(picture: Image.Image, shorter: int) -> Image.Image:
    scale = shorter / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)))


def _crop(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return _scaled(
        picture.crop((width // 8, height // 6, width - width // 7, height - height // 12)), 256
    )


def _turned(picture: Image.Image) -> bytes:
    """Stored on its side; the EXIF tag says how to hold it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(picture.transpose(Image.Transpose.ROTATE_90), exif=exif)


def _deep(picture: Image.Image) -> bytes:
    """Grey with 16 bits a pixel."""
    grey = np.asarray(_scaled(picture, 220).convert("L"), dtype=np.uint16) * 257
    return encode(Image.fromarray(grey), "PNG")


def _see_through(picture: Image.Image) -> bytes:
    small = _scaled(picture, 230)
    small.putalpha(ImageOps.invert(Image.radial_gradient("L").resize(small.size)))
    return encode(small, "PNG")


def _moving(picture: Image.Image) -> bytes:
    """A GIF of three frames, each further to the right."""
    small = _scaled(picture, 240)
    frames = [
        small.transform(small.size, Image.Transform.AFFINE, (1, 0, 6 * i, 0, 1, 0))
        for i in range(3)
    ]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=200, loop=0)


VARIANTS: dict[str, Callable[[Image.Image], bytes]] = {
    "original.jpg": lambda picture: encode(picture, quality=92),
    "large.jpg": lambda picture: encode(_scaled(picture, 900), quality=75),
    "progressive.jpg": lambda picture: encode(picture, progressive=True),
    "cropped.jpg": lambda picture: encode(_crop(picture)),
    "grey.jpg": lambda picture: encode(picture.convert("L")),
    "print.jpg": lambda picture: encode(picture.convert("CMYK")),
    "turned.jpg": _turned,
    "medium.png": lambda picture: encode(_scaled(picture, 250), "PNG"),
    "palette.png": lambda picture: encode(_scaled(picture, 260).quantize(64), "PNG"),
    "see-through.png": _see_through,
    "deep.png": _deep,
    "medium.webp": lambda picture: encode(_scaled(picture, 280), "WEBP", quality=80),
    "lossless.webp": lambda picture: encode(_scaled(picture, 224), "WEBP", lossless=True),
    "moving.gif": _moving,
    "plain.bmp": lambda picture: encode(_scaled(picture, 210), "BMP"),
    "medium.avif": lambda picture: encode(_scaled(picture, 250), "AVIF", speed=9),
}
VARIANTS_PER_PHOTO = 8


def variants(index: int) -> list[str]:
    """Which half of the variants the photograph of this index has: the even or the odd ones."""
    return list(VARIANTS)[index % 2 :: 2]


def fitted(index: int, size: tuple[int, int]) -> Image.Image:
    """The photograph cropped and scaled to this size in px: banners, thumbnails, single pixels."""
    return ImageOps.fit(PHOTOS[index % len(PHOTOS)].open(), size)


def views(data: bytes) -> list[Image.Image]:
    """Variants that decoders may show: stored or upright; alpha dropped or on white; 16 bits or
    8."""
    picture = Image.open(io.BytesIO(data))
    if picture.mode.startswith("I"):
        scaled = Image.fromarray((np.asarray(picture) / 257).astype(np.uint8))
        return [picture.convert("RGB"), scaled]
    upright = ImageOps.exif_transpose(picture)
    return [picture.convert("RGB"), upright.convert("RGB"), _on_white(picture)]
