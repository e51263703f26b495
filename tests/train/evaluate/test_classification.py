"""Zero-shot accuracies as clip_benchmark's own functions have them, ties included."""

from functools import partial

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification

from alignset.train.evaluate.classification import class_answers, class_scores, confusions
from alignset.train.evaluate.zero_shot import logits, mean_weights

pytestmark = pytest.mark.numeric

CLASSES, PROMPTS = 7, 4


def made(ties: bool, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of 60 images, their classes, and features of each class's prompts."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes - 1, 60)  # the last class has none
    if ties:  # rows whose products are exact: which of equal ones is first is rounding elsewhere
        kinds = rng.choice([-0.25, 0.25], (2, 16)).astype(np.float32)
        of_classes = kinds[rng.integers(0, 2, classes)]
        images = rng.choice([-0.25, 0.25], (3, 16)).astype(np.float32)[rng.integers(0, 3, 60)]
        return images, labels, of_classes[:, None].repeat(PROMPTS, axis=1)
    of_prompts = rng.normal(size=(classes, PROMPTS, 16))
    images = of_prompts.mean(axis=1)[labels] + rng.normal(size=(60, 16))
    unit = [
        torch.nn.functional.normalize(torch.tensor(x, dtype=torch.float32), dim=-1).numpy()
        for x in (images, of_prompts)
    ]
    return unit[0], labels, unit[1]


class Made(torch.nn.Module):
    def encode_image(self, rows: torch.Tensor) -> torch.Tensor:
        return rows

    encode_text = encode_image


class Loader(list):
    """Batches, and the classes of the dataset that they are of."""

    def __init__(self, batches: list, classes: int):
        super().__init__(batches)
        self.dataset = type("Set", (), {"classes": list(range(classes))})


@pytest.fixture(autouse=True)
def with_this_numpy(monkeypatch):
    """clip_benchmark 1.6.2 has float() take an array of one number, which numpy 2.4 refuses."""

    def number(value: object) -> float:
        return float(value if isinstance(value, str) else np.asarray(value).item())

    monkeypatch.setattr(zeroshot_classification, "float", number, raising=False)


def by_clip_benchmark(
    images: np.ndarray, labels: np.ndarray, of_prompts: np.ndarray
) -> dict[str, float]:
    batches = [
        (torch.from_numpy(images[i : i + 8]), torch.from_numpy(labels[i : i + 8]))
        for i in range(0, 60, 8)
    ]
    return zeroshot_classification.evaluate(
        Made(),
        Loader(batches, len(of_prompts)),
        lambda texts: torch.from_numpy(of_prompts[int(texts[0])]),
        [str(i) for i in range(len(of_prompts))],
        ["{c}"] * PROMPTS,
        "cpu",
        amp=False,
    )


@pytest.mark.parametrize("classes", [CLASSES, 3])
@pytest.mark.parametrize("ties", [False, True])
def test_they_are_clip_benchmarks_own(ties: bool, classes: int):
    images, labels, of_prompts = made(ties, classes)
    expected = by_clip_benchmark(images, labels, of_prompts)
    weights = mean_weights(of_prompts.reshape(-1, 16), PROMPTS)
    answers = class_answers(images, labels, partial(logits, weights=weights), classes)
    ours = class_scores(answers, classes)
    assert ours["top1"] == pytest.approx(100 * expected["acc1"], abs=1e-3)
    assert float(answers.hits(1).mean()) == pytest.approx(expected["acc1"], abs=1e-6)
    assert ours["mean_per_class"] == pytest.approx(
        100 * expected["mean_per_class_recall"], abs=1e-3
    )
    assert ("top5" in ours) == (classes >= 5)
    if classes >= 5:
        assert float(answers.hits(5).mean()) == pytest.approx(expected["acc5"], abs=1e-6)
    for name, (low, high) in ours["intervals"].items():
        assert low <= ours[name] <= high


def test_which_are_confused():
    images, labels, of_prompts = made(False)
    weights = mean_weights(of_prompts.reshape(-1, 16), PROMPTS)
    answers = class_answers(images, labels, partial(logits, weights=weights), CLASSES)
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (labels, answers.choices), 1)
    np.fill_diagonal(counts, 0)
    pairs = confusions(answers, 4)
    assert [count for *_, count in pairs] == sorted(counts.ravel().tolist(), reverse=True)[:4]
    assert all(counts[right, chosen] == count for right, chosen, count in pairs)
    assert (answers.margins > 0).sum() == (answers.choices != labels).sum()


def test_a_part_is_of_bounded_size_however_few_classes_there_are():
    heights = []

    def score(part: torch.Tensor) -> torch.Tensor:
        heights.append(len(part))
        return part

    features = np.zeros((40_000, 2), np.float32)
    assert len(class_answers(features, np.zeros(40_000, np.int64), score, 2).choices) == 40_000
    assert max(heights) <= 1 << 14
