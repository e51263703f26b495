"""Recalls as clip_benchmark's own functions have them on the same features, ties included."""

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_retrieval

from alignset.train.evaluate import peer_recalls as module
from alignset.train.evaluate.peer_recalls import peer_recalls

pytestmark = pytest.mark.numeric


class Made(torch.nn.Module):
    """Gives the features that it is given."""

    def encode_image(self, rows: torch.Tensor) -> torch.Tensor:
        return rows

    encode_text = encode_image


def by_clip_benchmark(images: np.ndarray, texts: np.ndarray, image_of: np.ndarray) -> dict:
    rows = [texts[image_of == i] for i in range(len(images))]
    batches = [
        (torch.from_numpy(images[i : i + 7]), [list(own) for own in rows[i : i + 7]])
        for i in range(0, len(images), 7)
    ]
    found = zeroshot_retrieval.evaluate(
        Made(),
        batches,
        lambda own: torch.from_numpy(np.stack(own)),
        "cpu",
        amp=False,
        recall_k_list=[1, 5, 10],
    )
    return {
        way: {f"R@{k}": 100 * found[f"{way}_recall@{k}"] for k in (1, 5, 10)}
        for way in ("text_retrieval", "image_retrieval")
    }


def made_features(ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """40 images and 90 texts; with ties there are six different rows in all, whose products are
    exact: else rounding would decide which of equal ones is first."""
    rng = np.random.default_rng(4)
    image_of = np.sort(np.concatenate([np.arange(40), rng.integers(0, 40, 50)]))
    images = rng.normal(size=(40, 16))
    texts = images[image_of] + rng.normal(size=(90, 16))
    if ties:
        kinds = rng.choice([-0.25, 0.25], (6, 16))
        images, texts = kinds[rng.integers(0, 6, 40)], kinds[rng.integers(0, 6, 90)]
        return np.float32(images), np.float32(texts), image_of
    unit = [
        torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1).numpy()
        for rows in (images, texts)
    ]
    return unit[0], unit[1], image_of


@pytest.mark.parametrize("ties", [False, True])
def test_they_are_clip_benchmarks_own(ties: bool, capsys):
    features = made_features(ties)
    expected, ours = by_clip_benchmark(*features), peer_recalls(*features)
    for way, recalls in expected.items():
        assert ours[way] == pytest.approx(recalls, abs=1e-4)  # percent: 1e-6 of 1
    assert 0 < ours["text_retrieval"]["R@1"] < 100


def test_in_parts_they_are_the_same(monkeypatch):
    features = made_features(False)
    whole = peer_recalls(*features)
    monkeypatch.setattr(module, "WHOLE", 0)
    monkeypatch.setattr(module, "AT_ONCE", 300)
    assert peer_recalls(*features) == whole
