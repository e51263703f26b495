"""Logistic regression, against scikit-learn's, and how its strength is chosen."""

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import linear_probe as peer
from clip_benchmark.metrics import zeroshot_classification
from sklearn.linear_model import LogisticRegression

from alignset.train.evaluate.classification import class_answers, class_scores
from alignset.train.evaluate.linear_probe import STRENGTHS, accuracy, choose_strength, fit
from tests.support.word_embedder import kept, unit

pytestmark = pytest.mark.numeric

CLASSES = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, CLASSES, 300)
    rows = unit(rng.normal(size=(CLASSES, 8))[labels] + rng.normal(size=(300, 8)))
    folder = tmp_path_factory.mktemp("probe")
    parts = [slice(0, 150), slice(150, 220), slice(220, 300)]
    return [(kept(folder / str(i), rows[part]), labels[part]) for i, part in enumerate(parts)]


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
def test_it_is_scikit_learns(made, strength: float):
    (features, labels), *_ = made
    probe = fit(features, labels, CLASSES, strength)
    # Theirs is the sum of losses, not the mean, and C weighs it.
    theirs = LogisticRegression(C=1 / (strength * len(labels)), max_iter=10_000, tol=1e-10)
    theirs.fit(features[:].astype(float), labels)
    shares = probe.scores(torch.from_numpy(features[:])).softmax(dim=1).numpy()
    np.testing.assert_allclose(shares, theirs.predict_proba(features[:].astype(float)), atol=2e-4)


@pytest.fixture(autouse=True)
def with_this_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """clip_benchmark 1.6.2 has float() take an array of one number, which numpy 2.4 refuses."""

    def number(value: object) -> float:
        return float(value if isinstance(value, str) else np.asarray(value).item())

    monkeypatch.setattr(zeroshot_classification, "float", number, raising=False)


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their probe is trained where it is, on the CPU."""
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda module: module)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("without_cuda")
def test_it_is_what_clip_benchmarks_own_training_comes_to(made):
    """Theirs begins at random and takes steps of AdamW; without a penalty both have one minimum."""
    (features, labels), _, (others, truth) = made
    labels = np.where(np.arange(len(labels)) % 4, labels, (labels + 1) % CLASSES)  # so it has one
    rows, targets = torch.from_numpy(features[:]), torch.from_numpy(labels)
    batches = [(rows, targets)]
    theirs = peer.train(batches, 8, CLASSES, 0.0, 0.3, 1000, False, "cpu", seed=1)
    tested = [(torch.from_numpy(others[:]), torch.from_numpy(truth))]
    logits, target = peer.infer(theirs, tested, False, "cpu")
    probe = fit(features, labels, CLASSES, 1e-9)
    scores = probe.scores(torch.from_numpy(others[:]))
    torch.testing.assert_close(
        scores.softmax(dim=1), logits.double().softmax(dim=1), atol=1e-3, rtol=0
    )
    answers = class_answers(others, truth, probe.scores, CLASSES)
    (top1,) = peer.accuracy(logits, target, topk=(1,))
    assert float(answers.hits(1).mean()) == pytest.approx(top1, abs=1e-6)


def test_its_scores_are_counted_as_clip_benchmarks_probe_counts_them(made):
    train, _, (features, labels) = made
    probe = fit(*train, CLASSES, 1e-3)
    answers = class_answers(features, labels, probe.scores, CLASSES)
    scores = probe.scores(torch.from_numpy(features[:]))
    (theirs,) = peer.accuracy(scores, torch.from_numpy(labels), topk=(1,))
    assert float(answers.hits(1).mean()) == pytest.approx(theirs, abs=1e-6)
    balanced = peer.balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert class_scores(answers, CLASSES)["mean_per_class"] == pytest.approx(
        100 * balanced, abs=1e-3
    )


@pytest.mark.slow
def test_the_strength_is_that_of_the_validation(made):
    train, validation, test = made
    strength, accuracies = choose_strength(train, validation, CLASSES)
    assert accuracies.keys() == set(STRENGTHS)
    assert accuracies[strength] == max(accuracies.values())
    assert strength == max(s for s in STRENGTHS if accuracies[s] == accuracies[strength])
    assert accuracies[strength] > accuracies[max(STRENGTHS)]
    alone = fit(*train, CLASSES, 1e-2)
    assert accuracy(alone, *validation) == pytest.approx(accuracies[1e-2], abs=0.02)
    assert accuracy(fit(*train, CLASSES, strength), *test) > 0.5
