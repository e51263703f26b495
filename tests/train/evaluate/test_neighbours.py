"""Nearest neighbours, against scikit-learn's."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from alignset.train.evaluate import neighbours as module
from alignset.train.evaluate.feature_store import Features
from alignset.train.evaluate.neighbours import neighbours, votes
from tests.support.closeness import close
from tests.support.word_embedder import kept, unit

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(11)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Features, Features, np.ndarray]:
    labelled, queries = unit(RNG.normal(size=(90, 6))), unit(RNG.normal(size=(40, 6)))
    return kept(tmp_path / "q", queries), kept(tmp_path / "l", labelled), RNG.integers(0, 7, 90)


@pytest.mark.parametrize("blocks", [(1 << 24, 1 << 16), (64, 16)])
@pytest.mark.parametrize("k", [1, 9])
def test_they_vote_as_scikit_learns_do(made, k: int, blocks: tuple[int, int], monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", blocks[0])
    monkeypatch.setattr(module, "WIDEST", blocks[1])
    queries, labelled, labels = made
    near, cosines = neighbours(queries, labelled, k)
    ranked = votes(near, cosines, labels, 7, 0.07)
    theirs = KNeighborsClassifier(
        k, metric="cosine", weights=lambda away: np.exp((1 - away) / 0.07), algorithm="brute"
    ).fit(labelled[:], labels)
    shares = np.zeros((40, 7))
    shares[:, theirs.classes_] = theirs.predict_proba(queries[:])
    assert ranked[:, 0].tolist() == shares.argmax(axis=1).tolist()
    order = np.argsort(-shares, axis=1, kind="stable")[:, :5]
    voted = np.take_along_axis(shares, order, axis=1) > 0
    np.testing.assert_array_equal(ranked, np.where(voted, order, -1))
    assert voted.sum(axis=1).max() <= k
    expected = np.sort(queries[:] @ labelled[:].T, axis=1)[:, ::-1][:, :k]
    assert close(np.sort(cosines, axis=1)[:, ::-1], expected, terms=6, scale=1.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-50, 1e-310])
def test_a_temperature_of_nearly_none_leaves_the_vote_to_the_nearest(temperature: float):
    near, labels = np.array([[2, 0, 1]]), np.array([0, 0, 1])
    cosines = np.array([[0.9, 0.8, 0.8]], np.float32)
    assert votes(near, cosines, labels, 2, temperature).tolist() == [[1, -1]]
