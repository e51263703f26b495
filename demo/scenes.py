"""Rendered scenes of coloured shapes and the sentences that describe them.

A scene has one group of equal shapes ("two large red hearts"), or two groups and where the first
lies ("a green triangle left of three blue stars").
"""

import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 39, 40),
    "green": (34, 150, 60),
    "blue": (40, 80, 220),
    "yellow": (250, 215, 40),
    "purple": (140, 50, 190),
    "orange": (255, 127, 20),
    "white": (252, 252, 252),
    "black": (18, 18, 20),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COUNTS = {"one": 1, "two": 2, "three": 3}
SIZES = {"small": 0.66, "": 0.9, "large": 1.12}
RELATIONS = ("left of", "right of", "above", "below")
PLURALS = {"cross": "crosses"}

_SUPERSAMPLING = 2  # drawn at twice the size, then shrunk: PIL's polygons have hard edges


@dataclass(frozen=True)
class Group:
    """One to three equal shapes."""

    count: str
    size: str
    colour: str
    shape: str

    @property
    def words(self) -> str:
        noun = self.shape
        if self.count != "one":
            noun = PLURALS.get(noun, noun + "s")
        article = self.count
        if self.count == "one":
            article = "an" if (self.size or self.colour)[0] in "aeiou" else "a"
        return " ".join(word for word in (article, self.size, self.colour, noun) if word)


@dataclass(frozen=True)
class Scene:
    """A drawing: the first group and, if there is a second, where the first lies from it."""

    first: Group
    relation: str = ""
    second: Group | None = None

    @property
    def text(self) -> str:
        if self.second is None:
            return self.first.words
        return f"{self.first.words} {self.relation} {self.second.words}"

    @property
    def combination(self) -> tuple[str, ...]:
        """The words in no order: "a left of b" and "b left of a" are the same combination."""
        return tuple(sorted(self.text.split()))


def random_group(rng: random.Random) -> Group:
    """A group whose count, colour and shape are even and whose size is named in two of five."""
    size = rng.choice(("", "", "", "small", "large"))
    return Group(rng.choice(tuple(COUNTS)), size, rng.choice(tuple(COLOURS)), rng.choice(SHAPES))


def random_scene(rng: random.Random, *, single: float = 0.25) -> Scene:
    """A scene; a share of `single` has one group. Two groups differ in colour and in shape."""
    first = random_group(rng)
    if rng.random() < single:
        return Scene(first)
    second = random_group(rng)
    while second.colour == first.colour or second.shape == first.shape:
        second = random_group(rng)
    return Scene(first, rng.choice(RELATIONS), second)


def _outline(shape: str) -> np.ndarray:
    """float[n, 2]: the shape's corners within [-1, 1], y down."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if shape == "circle":
        return np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if shape == "square":
        return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.88
    if shape == "triangle":
        return np.array([(0, -1), (1, 0.85), (-1, 0.85)])
    if shape == "star":
        angle = -np.pi / 2 + np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2, 0.45, 1.1)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    if shape == "cross":
        arm = 0.33
        quarter = np.array([(-arm, -1), (arm, -1), (arm, -arm)])
        turns = [np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        return np.concatenate([quarter @ turn for turn in turns])
    x = 16 * np.sin(turn) ** 3
    y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return np.stack([x, -y], axis=1) / 16


def _places(
    rng: np.random.Generator, count: int, box: tuple[float, float, float, float], *, stacked: bool
) -> list[tuple[float, float, float]]:
    """(x, y, half a side) in px of `count` shapes side by side, or one over the other, in `box`."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    columns, rows = (1, count) if stacked else (count, 1)
    cell_width, cell_height = width / columns, height / rows
    # A lone shape is not larger than one of two, so that size says nothing about the count.
    reach = min(cell_width, cell_height, max(width, height) / 2.4) / 2 * 0.88
    places = []
    for i in range(count):
        slack_x, slack_y = cell_width / 2 - reach, cell_height / 2 - reach
        x = left + cell_width * ((0 if stacked else i) + 0.5) + rng.uniform(-slack_x, slack_x)
        y = top + cell_height * ((i if stacked else 0) + 0.5) + rng.uniform(-slack_y, slack_y)
        places.append((x, y, reach))
    return places


def _boxes(relation: str, width: int, height: int) -> list[tuple[float, float, float, float]]:
    """The first group's and the second group's part of an image of these px."""
    if not relation:
        return [(0, 0, width, height)]
    if relation in ("left of", "right of"):
        boxes = [(0, 0, width / 2, height), (width / 2, 0, width, height)]
    else:
        boxes = [(0, 0, width, height / 2), (0, height / 2, width, height)]
    return boxes if relation in ("left of", "above") else boxes[::-1]


def render(scene: Scene, seed: tuple[int, ...]) -> Image.Image:
    """The scene as RGB, 220 to 300 px by 210 to 270 px, the same for the same seed."""
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(220, 301)), int(rng.integers(210, 271))
    wide, high = width * _SUPERSAMPLING, height * _SUPERSAMPLING
    # Soft clouds of dull colour: their contrast keeps perceptual hashes of scenes apart.
    grey = rng.uniform(70, 200, (5, 5, 1)) + rng.uniform(-18, 18, (5, 5, 3))
    picture = Image.fromarray(grey.astype(np.uint8)).resize((wide, high), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    # Side by side, each group has an upright half; stacked there, its shapes can be larger.
    stacked = scene.relation in ("left of", "right of") or (
        not scene.relation and rng.random() < 0.5
    )
    groups = [scene.first] if scene.second is None else [scene.first, scene.second]
    for group, box in zip(groups, _boxes(scene.relation, wide, high), strict=True):
        colour = tuple(
            int(c) for c in np.clip(np.add(COLOURS[group.colour], rng.normal(0, 5, 3)), 0, 255)
        )
        for x, y, reach in _places(rng, COUNTS[group.count], box, stacked=stacked):
            corners = _outline(group.shape) * (reach * SIZES[group.size] * 0.9) + (x, y)
            draw.polygon([tuple(corner) for corner in corners.tolist()], fill=colour)
    return picture.resize((width, height), Image.Resampling.BOX)


def encode(picture: Image.Image, picture_format: str = "JPEG", **options: object) -> bytes:
    """The image as a file's bytes; JPEG at quality 88 if not told otherwise."""
    if picture_format == "JPEG":
        options = {"quality": 88, **options}
    buffer = io.BytesIO()
    picture.save(buffer, picture_format, **options)
    return buffer.getvalue()
