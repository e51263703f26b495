"""Training learns to find copies, and the same seeds give the same net."""

import cv2
import numpy as np
import pytest
import torch

from benchmarks.overlap.net import copy_loss
from benchmarks.overlap.tiles import Tiles
from benchmarks.overlap.train_descriptor import rate, trained_net
from benchmarks.overlap.views import two_views

pytestmark = pytest.mark.numeric

SEED = 5


def some_tiles(count: int) -> Tiles:
    rng = np.random.default_rng(SEED)
    coarse = rng.integers(0, 256, (count, 10, 10), np.uint8)
    pixels = np.array([cv2.resize(tile, (128, 128)) for tile in coarse], np.uint8)
    return Tiles(pixels, np.full(count, 1.5, np.float32))


def test_equal_seeds_give_equal_nets_that_learn() -> None:
    lines: list[str] = []
    nets = [trained_net(some_tiles(24), 3, lambda line, _: lines.append(line)) for _ in range(2)]
    first, second = (net.state_dict() for net in nets)
    for name, values in first.items():
        assert torch.equal(values, second[name]), name


def test_rate_warms_up_and_falls_to_almost_nothing() -> None:
    assert rate(0, 1000) == pytest.approx(0.01, rel=0.02)
    assert rate(99, 1000) > 0.95
    assert rate(999, 1000) < 0.006


def test_views_are_planes_and_drawn_from_the_generator_alone() -> None:
    tiles = some_tiles(64)
    pixels, aspects = torch.from_numpy(tiles.pixels).float(), torch.from_numpy(tiles.aspects)
    drawn = [two_views(pixels, aspects, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    for faithful, altered in drawn:
        for views in (faithful, altered):
            assert views.shape == (64, 1, 64, 64)
            assert ((views >= 0) & (views <= 255) & (views == views.round())).all()
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][1], drawn[2][1])
    # What is altered stays recognisable: most planes correlate with their pictures.
    faithful, altered = (views.flatten(1) for views in drawn[0])
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(faithful, altered, strict=True)]
    assert np.median(correlations) > 0.3


def test_loss_is_least_where_copies_are_at_their_pictures_and_pictures_apart() -> None:
    apart, past = torch.eye(6), torch.zeros(0, 6)
    together = torch.nn.functional.normalize(torch.ones(6, 6) + 0.01 * torch.eye(6))
    best = copy_loss(apart, apart, past)
    assert best < copy_loss(apart, apart.roll(1, 0), past)
    assert best < copy_loss(together, together, past)
    # A past picture that lies where a copy does makes it harder.
    assert best < copy_loss(apart, apart, apart[:1])
