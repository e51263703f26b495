"""Two views of each tile: the plane of a picture, and that of a copy which people altered.

The net learns to bring the two together. A copy differs by what the index leaves over: its entries
carry the large crops and the mirror, so the altered view is only zoomed and shifted as far as the
nearest entry may be off. Wider crops taught the net less: recall .83 against .97.

Planes are float32[n, px, px] of 0 to 255, coordinates are -1 to 1 from edge to edge, and whatever
differs from tile to tile is of shape [n, 1, 1].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.overlap.retouching import Draws, coordinates, retouched
from benchmarks.overlap.tiles import PLANE_PX, TILE_PX

# How far the altered view may be off: the nearest of the index's nine crops at .75 is off by a
# twelfth of its side (.167 in coordinates) at worst, and by 7% in scale.
MAX_SHIFT = 0.16
ZOOMS = (0.88, 1.10)
MAX_STRETCH = 0.04  # of one side against the other
MAX_DEGREES = 6.5
MIN_INSTANCE = 0.45  # of a tile's side


class Sampling(NamedTuple):
    """Where each pixel of a view is taken from, in coordinates of the frame that it shows."""

    x: Tensor  # [n, px, px]
    y: Tensor
    is_canvas: Tensor  # bool: beside the picture, on a letterbox or border
    is_rotated: Tensor  # bool[n, 1, 1]


class Instance(NamedTuple):
    """Which part of its tile is the picture that both views show, and whether it is mirrored."""

    scale_x: Tensor  # negative where it is mirrored
    scale_y: Tensor
    shift_x: Tensor
    shift_y: Tensor


def two_views(tiles: Tensor, aspects: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The planes of pictures cut from the tiles, and of altered copies of the same pictures.

    Args:
      tiles: float32[n, 128, 128], grey.
      aspects: float32[n], width / height of each before it was squashed.
      generator: what is drawn from, so that equal seeds give equal views.

    Returns:
      Twice float32[n, 1, 64, 64] of whole numbers, 0 to 255.
    """
    draws = Draws(len(tiles), generator)
    tiles = montages(tiles, draws)
    instance = drawn_instance(draws)
    aspects = aspects.view(-1, 1, 1) * (instance.scale_x / instance.scale_y).abs()
    faithful = _rendered(tiles, _aligned(len(tiles)), instance)
    faithful = faithful + draws.noise(PLANE_PX) * draws.uniform(0, 1.5)
    sampling = misaligned(aspects, draws)
    altered = _rendered(tiles, sampling, instance)
    altered = _with_corners(altered, sampling, instance, draws)
    altered = retouched(altered, draws)
    altered = torch.where(sampling.is_canvas, draws.shades(black_or_white=0.75), altered)
    altered = altered + draws.noise(PLANE_PX) * draws.uniform(0, 6) * draws.chance(0.5)
    return tuple(v.clamp(0, 255).round().unsqueeze(1) for v in (faithful, altered))  # type: ignore[return-value]


def montages(tiles: Tensor, draws: Draws) -> Tensor:
    """Tiles of which three in ten have another tile beside them, or within them.

    Such pictures differ only in part, as screenshots of one program and cards of one set do.
    """
    others = draws.permutation()
    rows, some = draws.some(0.3)
    y, x = coordinates(TILE_PX)
    from_x = (x - some.uniform(-0.5, 0.5)).abs() / some.uniform(0.3, 0.6)
    from_y = (y - some.uniform(-0.5, 0.5)).abs() / some.uniform(0.3, 0.6)
    angle = some.uniform(0, 2 * math.pi)
    across = x * angle.cos() + y * angle.sin() - some.uniform(-0.3, 0.3)
    side = torch.sigmoid(across * torch.exp(some.uniform(1, 4)))  # from a soft edge to a sharp one
    ellipse = (from_x**2 + from_y**2 < 1).float()
    rectangle = (torch.maximum(from_x, from_y) < 1).float()
    kind = some.uniform(0, 1)
    share = torch.where(kind < 0.4, side, torch.where(kind < 0.67, ellipse, rectangle))
    mixed = tiles.clone()
    mixed[rows] = tiles[rows] * (1 - share) + tiles[others[rows]] * share
    return mixed


def drawn_instance(draws: Draws) -> Instance:
    """A part of each tile: a quarter of them whole, half of them mirrored."""
    is_cut = draws.chance(0.75)
    width = draws.uniform(0.5, 0.95)
    height = (width + draws.uniform(-0.06, 0.06)).clamp(MIN_INSTANCE, 1)
    width, height = torch.where(is_cut, width, 1.0), torch.where(is_cut, height, 1.0)
    mirror = 1 - 2 * draws.chance(0.5).float()
    return Instance(
        width * mirror,
        height,
        draws.uniform(-1, 1) * (1 - width),
        draws.uniform(-1, 1) * (1 - height),
    )


def misaligned(aspects: Tensor, draws: Draws) -> Sampling:
    """Letterboxed, bordered, zoomed, shifted and rotated, each in a part of the views.

    Args:
      aspects: float32[n, 1, 1], width / height: a squashed picture rotates along an ellipse.
    """
    sampling = _aligned(len(aspects))
    x, y = sampling.x, sampling.y
    kind = draws.uniform(0, 1)
    letterbox, border = draws.uniform(0.6, 0.97), draws.uniform(0.86, 0.99)
    is_bordered = (kind > 0.08) & (kind < 0.18)
    shown_x = torch.where(kind < 0.04, letterbox, torch.where(is_bordered, border, 1.0))
    is_letterboxed = (kind >= 0.04) & (kind < 0.08)
    shown_y = torch.where(is_letterboxed, letterbox, torch.where(is_bordered, border, 1.0))
    is_off_center = draws.chance(0.3)
    x = (x - draws.uniform(-1, 1) * (1 - shown_x) * is_off_center) / shown_x
    y = (y - draws.uniform(-1, 1) * (1 - shown_y) * is_off_center) / shown_y
    is_canvas = (x.abs() > 1) | (y.abs() > 1)
    is_moved = draws.chance(0.85).float()
    zoom, stretch = draws.uniform(*ZOOMS), draws.uniform(-MAX_STRETCH, MAX_STRETCH)
    shift_x, shift_y = (draws.uniform(-MAX_SHIFT, MAX_SHIFT) for _ in range(2))
    x = x * (1 + is_moved * (zoom - 1 + stretch)) + is_moved * shift_x
    y = y * (1 + is_moved * (zoom - 1 - stretch)) + is_moved * shift_y
    is_rotated = draws.chance(0.4)
    angle = torch.deg2rad(draws.uniform(-MAX_DEGREES, MAX_DEGREES)) * is_rotated
    turned_x = x * angle.cos() - y * angle.sin() / aspects
    turned_y = x * angle.sin() * aspects + y * angle.cos()
    return Sampling(turned_x, turned_y, is_canvas, is_rotated)


def _aligned(count: int) -> Sampling:
    y, x = coordinates(PLANE_PX)
    x, y = x.expand(count, -1, -1), y.expand(count, -1, -1)
    nowhere = torch.zeros(count, 1, 1, dtype=torch.bool)
    return Sampling(x, y, nowhere.expand_as(x), nowhere)


def _in_tile(sampling: Sampling, instance: Instance) -> tuple[Tensor, Tensor]:
    x = sampling.x * instance.scale_x + instance.shift_x
    return x, sampling.y * instance.scale_y + instance.shift_y


def _rendered(tiles: Tensor, sampling: Sampling, instance: Instance) -> Tensor:
    grid = torch.stack(_in_tile(sampling, instance), -1)
    planes = F.grid_sample(tiles.unsqueeze(1), grid, padding_mode="border", align_corners=False)
    return planes.squeeze(1)


def _with_corners(planes: Tensor, sampling: Sampling, instance: Instance, draws: Draws) -> Tensor:
    """Black, or one grey, where a rotated view reaches beyond its tile."""
    x, y = _in_tile(sampling, instance)
    is_beyond = sampling.is_rotated & ((x.abs() > 1) | (y.abs() > 1))
    fill = draws.uniform(0, 255) * draws.chance(0.3)
    return torch.where(is_beyond, fill, planes)
