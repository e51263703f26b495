"""Alterations that people make to images, each at several strengths, made from the full image as
a file."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Picture = Image.Image
Change = Callable[[Picture, random.Random], Picture]
QUALITY = 85  # of the JPEG that an altered image becomes, where its change is no other
WORDS = ("Sale", "Summer", "photo by", "www.example.com", "stock", "The best of", "news", "50% off")


@dataclass(frozen=True)
class Alteration:
    """One change at one strength.

    Attributes:
      change: what is done, as in "crop".
      strength: how much, for people, as in "70 %".
      apply: to an image in mode "RGB"; the random numbers choose a place or a colour.
      is_ordinary: whether the goal counts it.
      quality: of the JPEG that the altered image becomes.
    """

    change: str
    strength: str
    apply: Change
    is_ordinary: bool = True
    quality: int = QUALITY

    @property
    def name(self) -> str:
        return f"{self.change} {self.strength}".strip()

    def file_of(self, picture: Picture, seed: str) -> bytes:
        """The altered image as a JPEG; the same for the same seed."""
        altered = self.apply(picture, random.Random(f"{self.name} {seed}"))
        file = io.BytesIO()
        altered.convert("RGB").save(file, "JPEG", quality=self.quality)
        return file.getvalue()


def _same(picture: Picture, _: random.Random) -> Picture:
    return picture


def _resized(share: float, squeeze: float = 1.0) -> Change:
    def change(picture: Picture, _: random.Random) -> Picture:
        width, height = (max(24, round(side * share)) for side in picture.size)
        return picture.resize((max(24, round(width * squeeze)), height), Image.Resampling.LANCZOS)

    return change


def _enhanced(kind: type, factor: float) -> Change:
    def change(picture: Picture, _: random.Random) -> Picture:
        enhanced: Picture = kind(picture).enhance(factor)
        return enhanced

    return change


def _gamma(exponent: float) -> Change:
    table = [round(255 * (level / 255) ** exponent) for level in range(256)] * 3

    def change(picture: Picture, _: random.Random) -> Picture:
        return picture.point(table)

    return change


def _hue(turn: int) -> Change:
    def change(picture: Picture, _: random.Random) -> Picture:
        hue, saturation, value = picture.convert("HSV").split()
        turned = hue.point([(level + turn) % 256 for level in range(256)])
        return Image.merge("HSV", (turned, saturation, value)).convert("RGB")

    return change


def _sepia(picture: Picture, _: random.Random) -> Picture:
    return ImageOps.colorize(picture.convert("L"), "#201000", "#fff0c0")


def _blurred(share: float) -> Change:
    def change(picture: Picture, _: random.Random) -> Picture:
        return picture.filter(ImageFilter.GaussianBlur(share * min(picture.size)))

    return change


def _sharpened(picture: Picture, _: random.Random) -> Picture:
    return picture.filter(ImageFilter.UnsharpMask(0.005 * min(picture.size), 200, 0))


def _noisy(levels: float) -> Change:
    def change(picture: Picture, rng: random.Random) -> Picture:
        samples = np.asarray(picture, np.float32)
        noise = np.random.default_rng(rng.randrange(2**32)).normal(0, levels, samples.shape)
        return Image.fromarray(np.clip(samples + noise, 0, 255).astype(np.uint8))

    return change


def cropped(share: float) -> Change:
    """A part anywhere in the image whose sides are that share of the image's."""

    def change(picture: Picture, rng: random.Random) -> Picture:
        width, height = (round(side * share) for side in picture.size)
        left, top = rng.randint(0, picture.width - width), rng.randint(0, picture.height - height)
        return picture.crop((left, top, left + width, top + height))

    return change


def _colour(rng: random.Random) -> tuple[int, int, int]:
    if rng.random() < 0.75:
        return rng.choice([(0, 0, 0), (255, 255, 255)])
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def barred(share: float, sides: str = "rows") -> Change:
    """Bars above and below, or left and right, that take the share of what comes of it."""

    def change(picture: Picture, rng: random.Random) -> Picture:
        width, height = picture.size
        if sides == "rows":
            canvas, at = (width, round(height / (1 - share))), (0, 0.5)
        else:
            canvas, at = (round(width / (1 - share)), height), (0.5, 0)
        return ImageOps.pad(picture, canvas, color=_colour(rng), centering=at)

    return change


def bordered(share: float) -> Change:
    """A frame of one colour as wide as the share of the shorter side."""

    def change(picture: Picture, rng: random.Random) -> Picture:
        return ImageOps.expand(picture, max(1, round(share * min(picture.size))), _colour(rng))

    return change


def _flipped(picture: Picture, _: random.Random) -> Picture:
    return ImageOps.mirror(picture)


def rotated(degrees: float) -> Change:
    """Turned either way; the corners are filled with one colour."""

    def change(picture: Picture, rng: random.Random) -> Picture:
        angle = degrees * rng.choice([-1, 1])
        fill = _colour(rng)
        return picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=fill)

    return change


def bannered(share: float) -> Change:
    """A bar with words over the image's upper or lower edge."""

    def change(picture: Picture, rng: random.Random) -> Picture:
        altered = picture.copy()
        width, height = altered.size
        bar = max(6, round(share * height))
        top = rng.choice([0, height - bar, height - bar])
        draw = ImageDraw.Draw(altered)
        colour = _colour(rng)
        draw.rectangle((0, top, width, top + bar), fill=colour)
        ink = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
        text = " ".join(rng.sample(WORDS, 5))
        font = ImageFont.load_default(max(6, bar * 0.5))
        draw.text((width * 0.05, top + bar * 0.2), text, fill=ink, font=font)
        return altered

    return change


def branded(share: float) -> Change:
    """A disc or a plate with a word in a corner, whose width is that share of the shorter side."""

    def change(picture: Picture, rng: random.Random) -> Picture:
        altered = picture.copy()
        side = max(8, round(share * min(altered.size)))
        margin = round(0.03 * min(altered.size))
        left = rng.choice([margin, altered.width - side - margin])
        top = rng.choice([margin, altered.height - side - margin])
        draw = ImageDraw.Draw(altered)
        colour = tuple(rng.randrange(256) for _ in range(3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((left, top, left + side, top + side), fill=colour)
        ink = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
        font = ImageFont.load_default(max(6, side * 0.3))
        at = (left + side * 0.1, top + side * 0.3)
        draw.text(at, rng.choice(WORDS)[:6], fill=ink, font=font)
        return altered

    return change


def both(first: Change, second: Change) -> Change:
    def change(picture: Picture, rng: random.Random) -> Picture:
        return second(first(picture, rng), rng)

    return change


SINGLE = (
    Alteration("the same file again", "", _same, quality=95),
    Alteration("JPEG quality", "50", _same, quality=50),
    Alteration("JPEG quality", "20", _same, quality=20),
    Alteration("JPEG quality", "8", _same, is_ordinary=False, quality=8),
    Alteration("resize", "50 %", _resized(0.5)),
    Alteration("resize", "25 %", _resized(0.25)),
    Alteration("squeeze", "80 %", _resized(0.8, 0.8)),
    Alteration("squeeze", "60 %", _resized(1.0, 0.6)),
    Alteration("grey", "", _enhanced(ImageEnhance.Color, 0.0)),
    Alteration("saturation", "x 2", _enhanced(ImageEnhance.Color, 2.0)),
    Alteration("hue", "+ 30 °", _hue(21)),
    Alteration("hue", "+ 180 °", _hue(128), is_ordinary=False),
    Alteration("sepia", "", _sepia),
    Alteration("gamma", "0.6", _gamma(0.6)),
    Alteration("gamma", "1.7", _gamma(1.7)),
    Alteration("brightness", "x 0.7", _enhanced(ImageEnhance.Brightness, 0.7)),
    Alteration("brightness", "x 1.3", _enhanced(ImageEnhance.Brightness, 1.3)),
    Alteration("contrast", "x 0.6", _enhanced(ImageEnhance.Contrast, 0.6)),
    Alteration("contrast", "x 1.6", _enhanced(ImageEnhance.Contrast, 1.6)),
    Alteration("blur", "0.4 %", _blurred(0.004)),
    Alteration("blur", "1 %", _blurred(0.01)),
    Alteration("blur", "2 %", _blurred(0.02), is_ordinary=False),
    Alteration("sharpen", "", _sharpened),
    Alteration("noise", "10", _noisy(10)),
    Alteration("noise", "25", _noisy(25), is_ordinary=False),
    Alteration("crop", "95 %", cropped(0.95)),
    Alteration("crop", "90 %", cropped(0.9)),
    Alteration("crop", "80 %", cropped(0.8)),
    Alteration("crop", "70 %", cropped(0.7)),
    Alteration("crop", "60 %", cropped(0.6), is_ordinary=False),
    Alteration("letterbox", "12 %", barred(0.12)),
    Alteration("letterbox", "25 %", barred(0.25)),
    Alteration("pillarbox", "25 %", barred(0.25, "columns")),
    Alteration("border", "3 %", bordered(0.03)),
    Alteration("border", "8 %", bordered(0.08)),
    Alteration("flip", "", _flipped),
    Alteration("rotate", "2 °", rotated(2)),
    Alteration("rotate", "5 °", rotated(5)),
    Alteration("rotate", "10 °", rotated(10), is_ordinary=False),
    Alteration("banner", "10 %", bannered(0.1)),
    Alteration("banner", "15 %", bannered(0.15)),
    Alteration("banner", "25 %", bannered(0.25), is_ordinary=False),
    Alteration("logo", "15 %", branded(0.15)),
    Alteration("logo", "25 %", branded(0.25)),
    Alteration("logo", "35 %", branded(0.35), is_ordinary=False),
)
PAIRS = (
    Alteration("crop 90 % and", "JPEG quality 30", cropped(0.9), quality=30),
    Alteration("crop 90 % and", "gamma 0.6", both(cropped(0.9), _gamma(0.6))),
    Alteration("crop 90 % and", "flip", both(cropped(0.9), _flipped)),
    Alteration("crop 90 % and", "logo 15 %", both(cropped(0.9), branded(0.15))),
    Alteration("crop 80 % and", "resize 50 %", both(cropped(0.8), _resized(0.5))),
    Alteration("crop 80 % and", "flip", both(cropped(0.8), _flipped)),
    Alteration("flip and", "grey", both(_flipped, _enhanced(ImageEnhance.Color, 0.0))),
    Alteration("flip and", "border 3 %", both(_flipped, bordered(0.03))),
    Alteration("letterbox 12 % and", "blur 0.4 %", both(_blurred(0.004), barred(0.12))),
    Alteration("border 3 % and", "contrast x 1.6", both(bordered(0.03), SINGLE[18].apply)),
    Alteration("banner 10 % and", "resize 50 %", both(bannered(0.1), _resized(0.5))),
    Alteration("logo 15 % and", "sepia", both(branded(0.15), _sepia)),
    Alteration("rotate 2 ° and", "crop 90 %", both(rotated(2), cropped(0.9))),
    Alteration("squeeze 80 % and", "JPEG quality 30", _resized(0.8, 0.8), quality=30),
)
ALTERATIONS = SINGLE + PAIRS
