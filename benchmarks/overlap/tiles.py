"""Pictures cut into tiles: what the copy descriptor was trained on, and what crowds its index.

A tile is a piece of an image, or all of it, squashed to a square of `TILE_PX` grey pixels. Cutting
makes many different small images out of a large photograph; each is as hard to tell from others
as an image of its own.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.overlap.pictures import held_out_pictures, training_pictures

UInt8s = npt.NDArray[np.uint8]

TILE_PX = 128
PLANE_PX = 64
CUT_SIZES_PX = (300, 520, 900)  # sides of the pieces
MAX_PIECES = 24  # of one size out of one image, so that no wallpaper outweighs an album
LONGEST_SIDE_PX = 2400  # of an image that is cut; a larger one is halved and more first
MAX_WHOLE_ASPECT = 3.2
ASPECTS = (1.0, 1.0, 0.75, 0.66)  # of the pieces: shorter / longer side
# A tile with less than this has nothing to be recognised by: grey levels of standard deviation, of
# all its pixels and of the edges that a blur of 1.5 px leaves.
MIN_CONTRAST, MIN_EDGES = 9.0, 0.6
MAX_DISTRACTORS = 80_000
NEAR_BITS = 6  # of 64: a tile as near as this to a held-out image may show the same


class Tiles(NamedTuple):
    """Tiles in the order of their images."""

    pixels: UInt8s  # [n, TILE_PX, TILE_PX], grey
    aspects: npt.NDArray[np.float32]  # [n], width / height before they were squashed


def training_tiles(folder: Path) -> Tiles:
    """The distinct tiles of training images, except tiles near a held-out image.

    They are kept in the folder, as `tiles.npz`: cutting takes some minutes.
    """
    kept = folder / "tiles.npz"
    if not kept.exists():
        held_out = np.array(
            [picture_hash(grey) for grey in _planes(held_out_pictures(folder))], np.uint64
        )
        tiles = distinct_tiles(cut_pictures(training_pictures(folder)), held_out)
        np.savez(kept, pixels=tiles.pixels, aspects=tiles.aspects)
    with np.load(kept) as stored:
        return Tiles(stored["pixels"], stored["aspects"])


def tile_planes(tiles: Tiles) -> UInt8s:
    """The tiles as thumbnails: uint8[n, 64, 64]."""
    planes = [squashed(tile, PLANE_PX) for tile in tiles.pixels]
    return np.array(planes, np.uint8).reshape(-1, PLANE_PX, PLANE_PX)


def distractor_planes(tiles: Tiles, most: int = MAX_DISTRACTORS) -> UInt8s:
    """Planes to crowd an index with: the tiles', and their quarters' where these show something.

    Returns:
      uint8[n, 64, 64], n <= most: quarters are left out at random.
    """
    quarters: dict[int, UInt8s] = {}
    for y in (0, PLANE_PX):
        for x in (0, PLANE_PX):
            for tile in tiles.pixels:
                quarter = tile[y : y + PLANE_PX, x : x + PLANE_PX]
                if has_detail(quarter):
                    quarters.setdefault(picture_hash(quarter), quarter)
    chosen = np.array([*quarters.values()], np.uint8).reshape(-1, PLANE_PX, PLANE_PX)
    order = np.random.default_rng(0).permutation(len(chosen))
    return np.concatenate([tile_planes(tiles), chosen[order]])[:most]


def distinct_tiles(cut: Iterable[tuple[UInt8s, float]], held_out: npt.NDArray[np.uint64]) -> Tiles:
    """The first tile of each perceptual hash, but for those near a held-out image's."""
    first: dict[int, tuple[UInt8s, float]] = {}
    for tile, aspect in cut:
        first.setdefault(picture_hash(tile), (tile, aspect))
    chosen = [
        tile
        for hashed, tile in first.items()
        if not np.any(np.bitwise_count(held_out ^ np.uint64(hashed)) <= NEAR_BITS)
    ]
    pixels = np.array([tile for tile, _ in chosen], np.uint8).reshape(-1, TILE_PX, TILE_PX)
    return Tiles(pixels, np.array([aspect for _, aspect in chosen], np.float32))


def cut_pictures(pictures: Iterable[tuple[str, bytes]]) -> Iterator[tuple[UInt8s, float]]:
    """The tiles of each image and their aspects; nothing of those that cannot be decoded."""
    for _, body in pictures:
        grey = grey_picture(body)
        if grey is not None:
            seed = int.from_bytes(hashlib.sha256(body).digest()[:8], "little")
            for piece in pieces(grey, np.random.default_rng(seed)):
                tile = squashed(piece, TILE_PX)
                if has_detail(tile):
                    yield tile, piece.shape[1] / piece.shape[0]


def grey_picture(body: bytes) -> UInt8s | None:
    """An image's luma, uint8[h, w]; None if it cannot be decoded. White shines through it."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(body)) as image:
            warnings.simplefilter("ignore")
            image.draft("L", (LONGEST_SIDE_PX, LONGEST_SIDE_PX))
            if image.has_transparency_data:
                seen = Image.new("RGBA", image.size, (255, 255, 255, 255))
                seen.alpha_composite(image.convert("RGBA"))
                grey = np.asarray(seen.convert("L"))
            else:
                grey = np.asarray(image.convert("L"))
    except Exception:  # packages of test files hold broken ones, and Pillow raises many kinds
        return None
    scale = LONGEST_SIDE_PX / max(grey.shape)
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in grey.shape)
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def pieces(grey: UInt8s, rng: np.random.Generator) -> list[UInt8s]:
    """The image, unless it is a strip, and pieces of it that overlap no other of their size."""
    height, width = grey.shape
    found = [grey] if max(height, width) <= MAX_WHOLE_ASPECT * min(height, width) else []
    for size in CUT_SIZES_PX:
        if min(height, width) < 1.5 * size:
            continue
        rows, columns = height // size, width // size
        top = rng.integers(height - rows * size + 1)
        left = rng.integers(width - columns * size + 1)
        for cell in rng.permutation(rows * columns)[:MAX_PIECES]:
            y, x = top + cell // columns * size, left + cell % columns * size
            shorter = int(size * rng.choice(ASPECTS))
            tall, wide = (size, shorter) if rng.random() < 0.5 else (shorter, size)
            found.append(grey[y : y + tall, x : x + wide])
    return found


def squashed(grey: UInt8s, side: int) -> UInt8s:
    """The thumbnail resized to a square, whatever its aspect."""
    shrinks = min(grey.shape) >= side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, (side, side), interpolation=method), np.uint8)


def has_detail(tile: UInt8s) -> bool:
    """Whether there is anything in the tile that a copy could be recognised by."""
    if float(tile.std()) < MIN_CONTRAST:
        return False
    smooth = cv2.GaussianBlur(tile, (0, 0), 1.5).astype(np.float32)
    return float(cv2.Laplacian(smooth, cv2.CV_32F).std()) >= MIN_EDGES


def picture_hash(grey: UInt8s) -> int:
    """64 bits: which of the 64 lowest cosines of the squashed thumbnail are above their median."""
    cosines = cv2.dct(squashed(grey, 32).astype(np.float32))[:8, :8].ravel()
    return int.from_bytes(np.packbits(cosines > np.median(cosines)).tobytes(), "little")


def _planes(pictures: Iterable[tuple[str, bytes]]) -> Iterator[UInt8s]:
    for _, body in pictures:
        grey = grey_picture(body)
        if grey is not None:
            yield grey
