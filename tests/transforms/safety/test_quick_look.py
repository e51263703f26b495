"""The quick look: what it settles keeps the quick score, and the whole model has all else."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from tests.support.picture_files import encoded, good_files, photograph
from transforms.images.examine import Image, examine
from transforms.safety import classifier as module
from transforms.safety.classifier import Classifier, open_classifier
from transforms.safety.model_files import OPEN_NSFW, OPEN_NSFW_QUICKLY, QuickLook, UnsafeModel
from transforms.safety.model_pixels import model_pixels, smaller
from transforms.safety.unsafe_score import unsafe_scores

LOOK = OPEN_NSFW_QUICKLY.quick_look
# What the whole model gives 0.8 and more, 0.02 and less, and something between.
NUMBERS = (0, 1, 2, 17, 37, 120, 199, 287)


def settling(below: float) -> UnsafeModel:
    return replace(OPEN_NSFW, quick_look=QuickLook(size=LOOK.size, settles_below=below))


@pytest.fixture(scope="module")
def images() -> list[tuple[bytes, Image]]:
    bodies = [encoded(photograph(n, 210 + n, 230), "PNG") for n in NUMBERS]
    return [(body, examine(body)) for body in bodies]


@pytest.fixture(scope="module")
def whole(images: list) -> list[float]:
    return unsafe_scores(images, OPEN_NSFW)


@pytest.fixture(scope="module")
def quick(images: list) -> list[float]:
    """The quick scores: all are settled."""
    return unsafe_scores(images, settling(2.0))


@pytest.fixture
def seen_whole(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures the whole model is given, each time."""
    given: list[int] = []
    network = open_classifier(OPEN_NSFW_QUICKLY).whole
    inner = network.probabilities

    def noted(pictures: list) -> np.ndarray:
        given.append(len(pictures))
        return inner(pictures)

    monkeypatch.setattr(network, "probabilities", noted)
    return given


def test_both_scores_are_apart(whole: list[float], quick: list[float]) -> None:
    """Or the tests below would show nothing."""
    assert all(one != other for one, other in zip(whole, quick, strict=True))
    assert min(quick) < LOOK.settles_below < max(quick)


def test_what_is_below_is_settled_and_all_else_is_not(
    images: list, whole: list[float], quick: list[float], seen_whole: list[int]
) -> None:
    expected = [
        fast if fast < LOOK.settles_below else slow for fast, slow in zip(quick, whole, strict=True)
    ]
    assert unsafe_scores(images, OPEN_NSFW_QUICKLY) == expected
    assert sum(seen_whole) == sum(fast >= LOOK.settles_below for fast in quick)


def test_a_score_at_the_threshold_is_not_settled(
    images: list, whole: list[float], quick: list[float]
) -> None:
    for n in range(3):
        at, above = settling(quick[n]), settling(quick[n] + 1e-4)
        assert unsafe_scores(images[n : n + 1], at) == [whole[n]]
        assert unsafe_scores(images[n : n + 1], above) == [quick[n]]


def test_the_threshold_is_what_was_measured() -> None:
    """docs/safety.md has its loss: another needs other figures there."""
    assert QuickLook(size=160, settles_below=0.01) == LOOK


def test_no_batch_and_no_thread_changes_a_bit(images: list) -> None:
    pictures = [model_pixels(body, image, OPEN_NSFW.wanted) for body, image in images]
    classifier = open_classifier(OPEN_NSFW_QUICKLY)
    together = classifier.scores(pictures)
    assert classifier.scores(pictures[::-1])[::-1] == together
    assert classifier.scores(pictures[:3]) + classifier.scores(pictures[3:]) == together
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda picture: classifier.scores([picture])[0], pictures))
    assert alone == together
    assert classifier.scores([]) == []


def test_what_is_no_number_is_left_to_the_whole_model(
    images: list, whole: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier(OPEN_NSFW_QUICKLY)
    network, _ = classifier.quick
    monkeypatch.setattr(network, "scores", lambda pictures: [float("nan")] * len(pictures))
    monkeypatch.setattr("transforms.safety.unsafe_score.open_classifier", lambda _: classifier)
    assert unsafe_scores(images, OPEN_NSFW_QUICKLY) == whole


def test_a_file_that_cannot_be_decoded_costs_its_own_score_alone(
    images: list, quick: list[float]
) -> None:
    cut = (good_files()["png"][:200], images[0][1])
    assert unsafe_scores([images[0], cut, images[1]], settling(2.0)) == [quick[0], None, quick[1]]


def test_a_smaller_picture_is_the_same_picture() -> None:
    pixels = np.asarray(photograph(3, 224, 224).convert("RGB"))
    small = smaller(pixels, 160)
    assert (small.shape, small.dtype) == ((160, 160, 3), np.uint8)
    assert small.mean(axis=(0, 1)) == pytest.approx(pixels.mean(axis=(0, 1)), abs=1)


def test_the_cost_is_that_of_the_quick_look_and_of_what_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cost_s(network: object, size: int, batch: int) -> float:
        return {LOOK.size: 2.0, 224: 8.0}[size]

    monkeypatch.setattr(module, "least_cpu_s", cost_s)
    assert open_classifier(OPEN_NSFW).cpu_s_an_image() == 8
    assert open_classifier(OPEN_NSFW_QUICKLY).cpu_s_an_image() == 4
