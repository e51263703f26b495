"""The task as a user runs it, and its votes against scikit-learn's."""

from pathlib import Path

import numpy as np
import pytest

from alignset.train.evaluate.tasks import knn as module
from alignset.train.evaluate.tasks.knn import neighbours, votes
from tests.support.closeness import close
from tests.support.evaluations import colour_folders, evaluated, refused
from tests.support.word_embedder import kept, unit


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return colour_folders(tmp_path_factory.mktemp("knn") / "colours")


@pytest.mark.parametrize("k", [1, 5])
def test_colours_are_near_their_like(folders: Path, tmp_path: Path, capsys, k: int):
    test = colour_folders(tmp_path / "test", each=1, first=5)
    (test / "red" / "1.png").write_bytes((folders / "blue" / "2.png").read_bytes())
    page = tmp_path / "page.html"
    flags = (f"--data={folders}", f"--test={test}", f"--k={k}", f"--page={page}")
    result = evaluated(capsys, "knn", *flags)
    assert (result["n"], result["labelled"], result["classes"], result["k"]) == (9, 24, 8, k)
    assert result["also_labelled"] == 1  # the blue one
    # One neighbour votes for one class: what is next best of it is not known.
    assert ("top5" in result, "top5" in result["chance"]) == (k == 5, k == 5)
    assert result["top1"] == pytest.approx(100 * 8 / 9, abs=1e-3)
    assert result["mean_per_class"] == pytest.approx(100 * 7.5 / 8, abs=1e-3)
    assert page.read_text().count("taken for blue") == 1
    # R@K of the paper's table 10: is the class among the K nearest images'?
    assert result["R@1"] == result["R@5"] == pytest.approx(100 * 8 / 9, abs=1e-3)
    assert result["R@10"] >= result["R@5"]
    assert result["intervals"]["R@10"][1] <= 100


def test_bad_input_is_one_line(folders: Path, tmp_path: Path, capsys):
    other = colour_folders(tmp_path / "test", each=1)
    (other / "red").rename(other / "violet")
    both = (f"--data={folders}", f"--test={colour_folders(tmp_path / 'apart', each=1, first=9)}")
    for flags, says in (
        ((*both, "--k=0"), "k must be at least 1"),
        ((*both, "--k=25"), "k must be at most the 24 images"),
        ((*both, "--temperature=0"), "temperature above 0"),
        ((*both, "--temperature=nan"), "temperature above 0"),
        ((f"--data={folders}", f"--test={other}"), "'violet' of --data is not a class"),
        ((f"--data={folders}",), "--test"),
        ((f"--data={folders}", f"--test={folders}"), "all images of --test are in --data"),
    ):
        assert says in refused(capsys, "knn", *flags)


@pytest.mark.numeric
@pytest.mark.parametrize(("k", "blocks"), [(1, (64, 16)), (9, (1 << 24, 1 << 16)), (9, (64, 16))])
def test_they_vote_as_scikit_learns_do(
    tmp_path: Path, k: int, blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    from sklearn.neighbors import KNeighborsClassifier  # 1 s, not for each worker

    monkeypatch.setattr(module, "AT_ONCE", blocks[0])
    monkeypatch.setattr(module, "WIDEST", blocks[1])
    rng = np.random.default_rng(11)
    labelled, queries = (unit(rng.normal(size=(n, 6))) for n in (90, 40))
    labels = rng.integers(0, 7, 90)
    near, cosines = neighbours(kept(tmp_path / "q", queries), kept(tmp_path / "l", labelled), k)
    ranked = votes(near, cosines, labels, 7, 0.07)
    theirs = KNeighborsClassifier(
        k, metric="cosine", weights=lambda away: np.exp((1 - away) / 0.07), algorithm="brute"
    ).fit(labelled, labels)
    shares = np.zeros((40, 7))
    shares[:, theirs.classes_] = theirs.predict_proba(queries)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :5]
    voted = np.take_along_axis(shares, order, axis=1) > 0
    np.testing.assert_array_equal(ranked, np.where(voted, order, -1))
    assert voted.sum(axis=1).max() <= k
    expected = np.sort(queries @ labelled.T, axis=1)[:, ::-1][:, :k]
    assert close(np.sort(cosines, axis=1)[:, ::-1], expected, terms=6, scale=1.0)


@pytest.mark.filterwarnings("error")
def test_a_temperature_of_nearly_none_leaves_the_vote_to_the_nearest():
    near, labels = np.array([[2, 0, 1]]), np.array([0, 0, 1])
    cosines = np.array([[0.9, 0.8, 0.8]], np.float32)
    for temperature in (1e-50, 1e-310):
        assert votes(near, cosines, labels, 2, temperature).tolist() == [[1, -1]]
