"""Tiles out of images: which are made, and which are left out."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.overlap.tiles import (
    TILE_PX,
    cut_pictures,
    distinct_tiles,
    distractor_planes,
    picture_hash,
    pieces,
    tile_planes,
)

NOTHING_HELD_OUT = np.zeros(0, np.uint64)


def scene(width: int, height: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 12), max(2, width // 12)), np.uint8)
    return cv2.resize(coarse, (width, height))


def png(grey: np.ndarray) -> bytes:
    body = io.BytesIO()
    Image.fromarray(grey).save(body, "PNG")
    return body.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [
        (200, 150, 1),  # too small to be cut
        (449, 449, 1),  # one pixel less than is cut
        (450, 450, 2),  # one piece of 300
        (900, 600, 1 + 6),
        (1000, 300, 0),  # a strip, and too low to be cut
        (3000, 2000, 1 + 24 + 15 + 6),
    ],
)
def test_pieces(width: int, height: int, count: int) -> None:
    found = pieces(scene(width, height), np.random.default_rng(0))
    assert len(found) == count
    assert all(min(piece.shape) >= 150 for piece in found)


def test_the_same_pictures_give_the_same_tiles() -> None:
    bodies = [
        ("a", png(scene(700, 500))),
        ("broken", b"no picture"),
        ("flat", png(np.full((300, 300), 9, np.uint8))),
    ]
    once, again = ([tile for tile, _ in cut_pictures(bodies)] for _ in range(2))
    assert len(once) == 3
    np.testing.assert_array_equal(once, again)
    assert once[0].shape == (TILE_PX, TILE_PX)


def test_repeats_and_what_is_near_a_held_out_picture_are_left_out() -> None:
    one, other = scene(128, 128, seed=1), scene(128, 128, seed=2)
    again = cv2.GaussianBlur(one, (0, 0), 0.5)
    tiles = distinct_tiles([(one, 1.0), (other, 1.5), (one, 2.0)], NOTHING_HELD_OUT)
    assert tiles.aspects.tolist() == [1.0, 1.5]
    held_out = np.array([picture_hash(again)], np.uint64)
    np.testing.assert_array_equal(
        distinct_tiles([(one, 1.0), (other, 1.5)], held_out).pixels, [other]
    )
    assert tile_planes(tiles).shape == (2, 64, 64)
    assert distractor_planes(tiles).shape == (2 + 8, 64, 64)  # each whole, and its quarters
    assert distractor_planes(tiles, most=5).shape == (5, 64, 64)
    assert len(distinct_tiles([], held_out).pixels) == 0
