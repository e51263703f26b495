"""The loss: by hand, against float64 numpy, and part by part."""

import math

import numpy as np
import pytest
import torch

from alignset.train.loss import contrastive_loss
from tests.support.closeness import close

pytestmark = pytest.mark.numeric

TERMS = 100  # products of 5 numbers, sums over at most 7 rows and columns, in both directions


def test_two_pairs_by_hand(device):
    # Cosines: image 0 with texts 0, 1 is 1, 0; image 1 is 0.6, 0.8. Temperature 0.5 doubles them.
    images = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64, device=device)
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, device=device)
    # Without smoothing a softmax of two costs log(1 + exp(other - right)).
    image_to_text = (math.log1p(math.exp(0 - 2)) + math.log1p(math.exp(1.2 - 1.6))) / 2
    text_to_image = (math.log1p(math.exp(1.2 - 2)) + math.log1p(math.exp(0 - 1.6))) / 2
    loss = contrastive_loss(images, texts, torch.tensor(0.5, device=device), label_smoothing=0.0)
    assert close(loss, (image_to_text + text_to_image) / 2, terms=TERMS)
    # Smoothing 0.1 over two classes moves 0.05 of the target to the wrong one: it adds 0.05 times
    # (right - other), averaged over both directions: (2, 0.4) and (0.8, 1.6).
    added = 0.05 * ((2 + 0.4) / 2 + (0.8 + 1.6) / 2) / 2
    smoothed = contrastive_loss(
        images, texts, torch.tensor(0.5, device=device), label_smoothing=0.1
    )
    assert close(smoothed, loss.item() + added, terms=TERMS)


def numpy_loss(images, texts, temperature, smoothing):
    scores = images @ texts.T / temperature
    n = len(scores)
    target = np.full((n, n), smoothing / n) + np.eye(n) * (1 - smoothing)
    total = 0.0
    for s in (scores, scores.T):
        log_softmax = s - np.log(np.exp(s).sum(axis=1, keepdims=True))
        total -= (target * log_softmax).sum(axis=1).mean()
    return total / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_equals_numpy_in_float64(device, smoothing, temperature):
    images, texts = (unit_rows(7, seed=seed).double().to(device) for seed in (1, 2))
    loss = contrastive_loss(
        images, texts, torch.tensor(temperature).double().to(device), label_smoothing=smoothing
    )
    expected = numpy_loss(
        images.cpu().numpy(), texts.cpu().numpy(), np.float32(temperature), smoothing
    )
    # Both add up products of 5 numbers, times 1 / temperature, and 7 exponentials.
    assert close(loss, expected, terms=TERMS, scale=1 / temperature)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_rows_that_are_scored_part_by_part_change_nothing(device, rows: int, monkeypatch):
    whole, parts = leaves(device), leaves(device)
    contrastive_loss(*whole).backward()
    monkeypatch.setattr("alignset.train.loss.ROWS_AT_ONCE", rows)
    loss = contrastive_loss(*parts)
    loss.backward()
    assert close(loss, contrastive_loss(*leaves(device)), terms=TERMS)
    for of_parts, expected in zip(parts, whole, strict=True):
        assert close(of_parts.grad, expected.grad, terms=TERMS)


def leaves(device: torch.device) -> list[torch.Tensor]:
    whole = unit_rows(6, seed=1), unit_rows(6, seed=2), torch.tensor(0.2)
    return [part.double().to(device).requires_grad_() for part in whole]


def unit_rows(n: int, *, seed: int) -> torch.Tensor:
    rows = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)
