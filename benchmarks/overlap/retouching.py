"""What people do to the tones of pictures, and what they lay over them, on batches of planes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.overlap.tiles import PLANE_PX

BLUR_RADIUS_PX = 4
TEXT_HALF_HEIGHT = 0.06  # of a banner's line of text, in coordinates


class Draws:
    """Random numbers for the planes of a batch: one a plane, as [n, 1, 1], unless told."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count = count
        self.generator = generator

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self.count, 1, 1, generator=self.generator)

    def chance(self, probability: float) -> Tensor:
        return self.uniform(0, 1) < probability

    def shades(self, *, black_or_white: float) -> Tensor:
        """A grey level each, black or white with this probability."""
        extreme = 255 * self.chance(0.5).float()
        return torch.where(self.chance(black_or_white), extreme, self.uniform(0, 255))

    def noise(self, side: int) -> Tensor:
        return torch.randn(self.count, side, side, generator=self.generator)

    def dashes(self, side: int) -> Tensor:
        """Rows of cells that are black or white, as a line of text is from afar: bool[n, 1, px]."""
        return torch.rand(self.count, 1, side, generator=self.generator) < 0.5

    def some(self, probability: float) -> tuple[Tensor, Draws]:
        """The rows of some of the planes, and draws for these alone."""
        rows = self.chance(probability).view(-1).nonzero().view(-1)
        return rows, Draws(len(rows), self.generator)

    def permutation(self) -> Tensor:
        return torch.randperm(self.count, generator=self.generator)


@cache
def coordinates(side: int) -> tuple[Tensor, Tensor]:
    """Of the pixels' centers, down and across: twice float32[1, px, px], -1 to 1."""
    line = (torch.arange(side) + 0.5) / (side / 2) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return y.unsqueeze(0), x.unsqueeze(0)


def retouched(planes: Tensor, draws: Draws) -> Tensor:
    """The planes with other tones, sharpness, logos and banners, each in a part of them."""
    planes = _toned(planes, draws)
    changes: tuple[tuple[float, Callable[[Tensor, Draws], Tensor]], ...] = (
        (0.35, _softened),
        (0.15, _sharpened),
        (0.25, _with_logo),
        (0.1, _with_logo),
        (0.25, _with_banner),
    )
    for probability, change in changes:
        rows, some = draws.some(probability)
        planes[rows] = change(planes[rows], some)
    return planes


def blurred(planes: Tensor, sigmas: Tensor) -> Tensor:
    """Each plane under a Gaussian blur of its own sigma (px): float32[n, px, px]."""
    count, side = len(planes), planes.shape[-1]
    offsets = torch.arange(-BLUR_RADIUS_PX, BLUR_RADIUS_PX + 1).float()
    weights = torch.exp(-(offsets**2) / (2 * sigmas.reshape(-1, 1) ** 2 + 1e-6))
    weights = weights / weights.sum(1, keepdim=True)
    # The planes stand as channels, so that each has its own weights.
    channels, margin = planes.view(1, count, side, side), BLUR_RADIUS_PX
    down = F.pad(channels, (0, 0, margin, margin), "replicate")
    channels = F.conv2d(down, weights.view(count, 1, -1, 1), groups=count)
    across = F.pad(channels, (margin, margin, 0, 0), "replicate")
    return F.conv2d(across, weights.view(count, 1, 1, -1), groups=count).view_as(planes)


def _toned(planes: Tensor, draws: Draws) -> Tensor:
    """Gamma of .47 to 2.1, contrast of .6 to 1.6, brightness of up to 12%."""
    gammas = torch.exp(draws.uniform(-0.75, 0.75) * draws.chance(0.5))
    levels = (planes / 255).clamp(1e-3, 1) ** gammas
    contrasts = 1 + draws.uniform(-0.4, 0.6) * draws.chance(0.4)
    means = levels.mean((1, 2), keepdim=True)
    offsets = draws.uniform(-0.12, 0.12) * draws.chance(0.3)
    return ((levels - means) * contrasts + means + offsets).clamp(0, 1) * 255


def _softened(planes: Tensor, draws: Draws) -> Tensor:
    return blurred(planes, draws.uniform(0.4, 1.6))


def _sharpened(planes: Tensor, draws: Draws) -> Tensor:
    halos = planes - blurred(planes, torch.full((len(planes), 1, 1), 0.8))
    return (planes + halos * draws.uniform(0.3, 1.5)).clamp(0, 255)


def _with_logo(planes: Tensor, draws: Draws) -> Tensor:
    """An ellipse or a rectangle of one grey, at times translucent, of up to 8% of the plane."""
    y, x = coordinates(PLANE_PX)
    from_x = ((x - draws.uniform(-0.9, 0.9)) / draws.uniform(0.06, 0.28)).abs()
    from_y = ((y - draws.uniform(-0.9, 0.9)) / draws.uniform(0.06, 0.28)).abs()
    ellipse, rectangle = from_x**2 + from_y**2 < 1, torch.maximum(from_x, from_y) < 1
    shape = torch.where(draws.chance(0.6), ellipse, rectangle)
    share = shape * torch.where(draws.chance(0.7), 1.0, draws.uniform(0.4, 1))
    return planes * (1 - share) + draws.uniform(0, 255) * share


def _with_banner(planes: Tensor, draws: Draws) -> Tensor:
    """A strip of 5 to 20% along one edge, mostly below, with what looks like text from afar."""
    y, x = coordinates(PLANE_PX)
    edge = draws.uniform(0, 1)
    sideways = torch.where(edge < 0.9, x, -x)
    toward = torch.where(edge < 0.55, y, torch.where(edge < 0.8, -y, sideways))
    height = draws.uniform(0.1, 0.4)  # in coordinates: twice its share of the side
    is_banner = toward > 1 - height
    shade = draws.shades(black_or_white=0.7)
    on_line = (toward - (1 - height / 2)).abs() < TEXT_HALF_HEIGHT
    is_text = draws.dashes(PLANE_PX) & on_line & draws.chance(0.6)
    return torch.where(is_banner, torch.where(is_text, 255 - shade, shade), planes)
