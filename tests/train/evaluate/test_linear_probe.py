"""Logistic regression, against scikit-learn's, and how its strength is chosen."""

import numpy as np
import pytest
import torch

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
    from sklearn.linear_model import LogisticRegression  # 1 s, not for each worker

    (features, labels), *_ = made
    probe = fit(features, labels, CLASSES, strength)
    # Theirs is the sum of losses, not the mean, and C weighs it.
    theirs = LogisticRegression(C=1 / (strength * len(labels)), max_iter=10_000, tol=1e-10)
    theirs.fit(features[:].astype(float), labels)
    shares = probe.scores(torch.from_numpy(features[:])).softmax(dim=1).numpy()
    np.testing.assert_allclose(shares, theirs.predict_proba(features[:].astype(float)), atol=2e-4)


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
