"""The task as a user runs it; logistic regression against scikit-learn's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alignset.train.evaluate.tasks.probe import STRENGTHS, accuracy, choose_strength, fit
from tests.support.evaluations import colour_folders, evaluated, refused
from tests.support.word_embedder import kept, unit


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return colour_folders(tmp_path_factory.mktemp("probe") / "colours", each=6)


def test_its_strength_is_chosen_on_a_fifth(folders: Path, tmp_path: Path, capsys):
    """Of eight images that would be set aside, three are tested."""
    test = colour_folders(tmp_path / "test", each=2, first=5)
    (test / "red" / "8.png").write_bytes(b"no image")
    result = evaluated(capsys, "probe", f"--data={folders}", f"--test={test}")
    assert (result["n"], result["trained_on"], result["validated_on"]) == (16, 48, 5)
    assert (result["top1"], result["skipped"], result["also_trained_on"]) == (100, 1, 8)
    assert f"{result['strength']:g}" in result["validation"]


def test_its_strength_is_chosen_on_other_images_and_never_on_the_test(
    folders: Path, tmp_path: Path, capsys
):
    many, held = (
        colour_folders(tmp_path / "many", each=7),
        colour_folders(tmp_path / "held", each=1),
    )
    page = tmp_path / "page.html"
    flags = (f"--validation={held}", f"--page={page}")
    test = colour_folders(tmp_path / "test", each=7, first=1)
    result = evaluated(capsys, "probe", f"--data={folders}", f"--test={test}", *flags)
    assert (result["trained_on"], result["validated_on"]) == (48, 8)
    assert page.read_text().count("<img ") == 24
    held = colour_folders(tmp_path / "more", each=2, first=6)
    few, test = (colour_folders(tmp_path / n, each=2, first=i) for n, i in (("a", 0), ("b", 7)))
    for data, of_test, more, says in (
        (folders, test, [f"--validation={held}"], "--validation shares 8 images with --test"),
        (few, many, [], "fewer than 5 images of each class"),
        (many, folders, [], "all images of --test are in --data"),
    ):
        assert says in refused(capsys, "probe", f"--data={data}", f"--test={of_test}", *more)
    # Without --validation an image that is tested is not set aside either.
    for path in [*folders.rglob("0.png"), *folders.rglob("1.png")]:
        (test / path.parent.name / f"of-data-{path.name}").write_bytes(path.read_bytes())
    aside = evaluated(capsys, "probe", f"--data={folders}", f"--test={test}")
    assert aside["also_trained_on"] == 16
    every = evaluated(capsys, "probe", f"--data={folders}", f"--test={held}")
    assert aside["validated_on"] < every["validated_on"] == 8


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
@pytest.mark.numeric
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
@pytest.mark.numeric
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
