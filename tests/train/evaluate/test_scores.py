"""Scores against plain loops, cases by hand, clip_benchmark, scipy, scikit-learn and torch."""

from functools import partial

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification

from alignset.train.errors import TrainingError
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.classes import class_weights, logits
from alignset.train.evaluate.tasks import retrieval, segmentation
from alignset.train.evaluate.tasks.crisscrossed import bootstrap_correlation
from alignset.train.evaluate.tasks.probe import STRENGTHS, choose_strength, fit, linear_scores
from alignset.train.evaluate.tasks.retrieval import (
    WAYS,
    find_both,
    hits_of_images,
    make_captioned,
    recall_samples,
    recall_scores,
    scores,
)
from alignset.train.evaluate.tasks.segmentation import mean_iou, overlap, tell_pixels
from alignset.train.evaluate.tasks.zero_shot import class_answers, class_scores
from tests.support.evaluations import unit

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(12)


def retrieved(images, texts, captions: list[list[str]], identities=None) -> dict:
    return recall_scores(find_both(make_captioned(images, texts, captions, identities)))


SIX = [["a", "b"], ["c"], ["d"], ["e"], ["f"], ["g"]]
# Vectors of images and of texts, their captions, the images' identities; and what comes out.
BY_HAND = {
    "equal vectors score nothing": (
        (np.ones((12, 1)), np.ones((12, 1)), [[str(i)] for i in range(12)]),
        {"image_to_text R@1": 0, "image_to_text R@10": 0, "text_to_image R@10": 0},
    ),
    # 5 of 7 texts: one of one right one in 5 of 7 draws, one of two in all but 1 of 21.
    "chance of each direction": (
        (np.eye(6), np.eye(6)[[0, 0, 1, 2, 3, 4, 5]], SIX),
        {
            "chance image_to_text R@5": 100 * (5 * 5 / 7 + 20 / 21) / 6,
            "chance text_to_image R@5": 100 * 5 / 6,
        },
    ),
    # Images 0 and 2 are one file with the texts "a" and "c"; "c" is nearer to image 1.
    "equal images": (
        (
            np.eye(2)[[0, 1, 0]],
            np.array([[1, 0], [0, 1], [0.6, 0.8]]),
            [["a"], ["b"], ["c"]],
            "xyx",
        ),
        {"n": 2, "captions": 3, "image_to_text R@1": 100, "text_to_image R@1": 66.667},
    ),
}


@pytest.mark.parametrize(("given", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_recalls_by_hand(given, expected):
    result = retrieved(*given)
    for path, value in expected.items():
        found = result
        for name in path.split():
            found = found[name]
        assert found == pytest.approx(value, abs=1e-3), path


def test_recalls_are_those_of_all_pairs_one_by_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retrieval, "AT_ONCE", 60)  # blocks of a few queries
    for _ in range(10):
        n = int(RNG.integers(12, 20))
        captions = [[str(t) for t in RNG.integers(0, 8, RNG.integers(1, 4))] for _ in range(n)]
        texts = [text for own in captions for text in own]
        a, b = RNG.normal(size=(n, 5)), RNG.normal(size=(len(texts), 5))
        right = np.array([[text in own for text in texts] for own in captions])
        result = retrieved(a, b, captions)
        for way, cosines, hits in zip(WAYS, (a @ b.T, b @ a.T), (right, right.T), strict=True):
            best = np.where(hits, cosines, -np.inf).max(axis=1, keepdims=True)
            before = ((cosines >= best) & ~hits).sum(axis=1)
            for k in (1, 5, 10):
                assert result[way][f"R@{k}"] == pytest.approx(100 * (before < k).mean(), abs=1e-3)
            assert result["chance"][way]["R@1"] == pytest.approx(100 * hits.mean(), abs=1e-3)
    with pytest.raises(TrainingError, match="finite"):
        retrieved(np.full((2, 2), np.nan), np.eye(2), [["a"], ["b"]])


def test_intervals_of_recalls_are_of_images_with_all_their_captions():
    images, noise = RNG.normal(size=(60, 8)), RNG.normal(size=(180, 8))
    captions = [[f"{i} {j}" for j in range(3)] for i in range(60)]
    pairs = make_captioned(unit(images), unit(images.repeat(3, axis=0) + noise), captions)
    found = find_both(pairs)
    result = scores(found, recall_samples(hits_of_images(pairs, found)))
    low, high = result["intervals"]["text_to_image"]["R@5"]
    assert low < result["text_to_image"]["R@5"] < high
    width = 100 * 1.96 * 2 * (0.25 / 180) ** 0.5
    assert width / 3 < high - low < 2 * width
    for way in WAYS:
        low, high = result["intervals"]["median_rank"][way]
        assert low <= result["median_rank"][way] <= high


PROMPTS = 4


def labelled(ties: bool, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of 60 images, their classes, and vectors of each class's prompts."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes - 1, 60)  # the last class has none
    if ties:  # rows whose products are exact: which of equal ones is first is rounding elsewhere
        kinds = rng.choice([-0.25, 0.25], (2, 16)).astype(np.float32)
        of_classes = kinds[rng.integers(0, 2, classes)]
        images = rng.choice([-0.25, 0.25], (3, 16)).astype(np.float32)[rng.integers(0, 3, 60)]
        return images, labels, of_classes[:, None].repeat(PROMPTS, axis=1)
    of_prompts = rng.normal(size=(classes, PROMPTS, 16))
    images = of_prompts.mean(axis=1)[labels] + rng.normal(size=(60, 16))
    return unit(images), labels, unit(of_prompts)


class Identity(torch.nn.Module):
    def encode_image(self, rows: torch.Tensor) -> torch.Tensor:
        return rows

    encode_text = encode_image


class Loader(list):
    """Batches, and the classes of the dataset that they are of."""

    def __init__(self, batches: list, classes: int):
        super().__init__(batches)
        self.dataset = type("Set", (), {"classes": list(range(classes))})


@pytest.mark.parametrize("classes", [7, 3])
@pytest.mark.parametrize("ties", [False, True])
def test_accuracies_are_clip_benchmarks_own(ties: bool, classes: int, monkeypatch):
    # clip_benchmark 1.6.2 has float() take an array of one number, which numpy 2.4 refuses.
    def number(value: object) -> float:
        return float(value if isinstance(value, str) else np.asarray(value).item())

    monkeypatch.setattr(zeroshot_classification, "float", number, raising=False)
    images, labels, of_prompts = labelled(ties, classes)
    expected = zeroshot_classification.evaluate(
        Identity(),
        Loader(
            [
                (torch.from_numpy(images[i : i + 8]), torch.from_numpy(labels[i : i + 8]))
                for i in range(0, 60, 8)
            ],
            classes,
        ),
        lambda texts: torch.from_numpy(of_prompts[int(texts[0])]),
        [str(i) for i in range(classes)],
        ["{c}"] * PROMPTS,
        "cpu",
        amp=False,
    )
    weights = class_weights(of_prompts.reshape(-1, 16), [PROMPTS] * classes)
    answers = class_answers(images, labels, partial(logits, weights=weights), classes)
    ours = class_scores(answers, [str(i) for i in range(classes)])
    assert float(answers.hits(1).mean()) == pytest.approx(expected["acc1"], abs=1e-6)
    assert ours["top1"] == pytest.approx(100 * expected["acc1"], abs=1e-3)
    assert ours["mean_per_class"] == pytest.approx(
        100 * expected["mean_per_class_recall"], abs=1e-3
    )
    assert ("top5" in ours) == (classes >= 5)
    if classes >= 5:
        assert float(answers.hits(5).mean()) == pytest.approx(expected["acc5"], abs=1e-6)
    for name, (low, high) in ours["intervals"].items():
        assert low <= ours[name] <= high
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, answers.choices), 1)
    np.fill_diagonal(counts, 0)
    most = sorted(counts[counts > 0].tolist(), reverse=True)[:10]
    assert [pair["images"] for pair in ours["confused"]] == most
    for pair in ours["confused"]:
        assert counts[int(pair["class"]), int(pair["taken_for"])] == pair["images"]
    if not ties:
        assert (answers.margins > 0).sum() == (answers.choices != labels).sum()


def test_a_part_is_of_bounded_size_however_few_classes_there_are():
    heights = []

    def score(part: torch.Tensor) -> torch.Tensor:
        heights.append(len(part))
        return part

    vectors = np.zeros((40_000, 2), np.float32)
    assert len(class_answers(vectors, np.zeros(40_000, np.int64), score, 2).choices) == 40_000
    assert max(heights) <= 1 << 14


LEARNED = RNG.integers(0, 4, 300)
ROWS = unit(RNG.normal(size=(4, 8))[LEARNED] + RNG.normal(size=(300, 8)))
TRAIN, VALIDATION, TEST = (
    (ROWS[part], LEARNED[part]) for part in (slice(150), slice(150, 220), slice(220, 300))
)


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
def test_the_probe_is_scikit_learns(strength: float):
    from sklearn.linear_model import LogisticRegression  # 1 s, not for each worker

    rows, labels = TRAIN
    weights = fit(rows, labels, 4, strength)
    # Theirs is the sum of losses, not the mean, and C weighs it.
    theirs = LogisticRegression(C=1 / (strength * len(labels)), max_iter=10_000, tol=1e-10)
    theirs.fit(rows.astype(float), labels)
    shares = linear_scores(weights, torch.from_numpy(rows)).softmax(dim=1).numpy()
    np.testing.assert_allclose(shares, theirs.predict_proba(rows.astype(float)), atol=2e-4)


@pytest.mark.slow
def test_the_strength_is_that_of_the_validation():
    strength, accuracies = choose_strength(TRAIN, VALIDATION, 4)
    assert accuracies.keys() == set(STRENGTHS)
    assert strength == max(s for s in STRENGTHS if accuracies[s] == max(accuracies.values()))
    assert accuracies[strength] > accuracies[max(STRENGTHS)]
    rows, labels = TEST
    told = linear_scores(fit(*TRAIN, 4, strength), torch.from_numpy(rows)).argmax(dim=1).numpy()
    assert (told == labels).mean() > 0.5


def by_rows(statistic, *columns: np.ndarray) -> tuple[float, float]:
    """The plain bootstrap: draw rows, compute, 2,000 times."""
    n = len(columns[0])
    drawn = (RNG.integers(0, n, n) for _ in range(2000))
    values = [statistic(*(column[rows] for column in columns)) for rows in drawn]
    return tuple(np.nanpercentile(values, [2.5, 97.5]))


COUNTS, VALUES = RNG.integers(1, 9, 200), RNG.integers(1, 60, 301).astype(float)
HITS, LABELS = np.where(RNG.random(200) < 0.4, COUNTS, 0), np.repeat([0, 1, 2], [400, 40, 60])
RIGHT = RNG.random(500) < np.array([0.9, 0.2, 0.5])[LABELS]
INTERVALS = {
    bootstrap.ratio: (
        lambda hits, counts: hits.sum() / counts.sum(),
        (HITS, COUNTS),
        0.01,
    ),
    bootstrap.median_interval: (lambda values: np.sort(values)[150], (VALUES,), 1),
    bootstrap.class_mean: (
        lambda labels, right: np.mean([right[labels == c].mean() for c in range(3)]),
        (LABELS, RIGHT),
        0.01,
    ),
}


@pytest.mark.parametrize("ours", INTERVALS)
def test_intervals_are_those_of_resampled_rows(ours):
    plain, columns, within = INTERVALS[ours]
    order = RNG.permutation(len(columns[0]))
    found, again = ours(*columns), ours(*(column[order] for column in columns))
    if isinstance(found, bootstrap.Sample):
        assert found.value() == pytest.approx(plain(*columns))
        found, again = bootstrap.interval(*found), bootstrap.interval(*again)
    assert again == found
    assert found == pytest.approx(by_rows(plain, *columns), abs=within)


def test_a_difference_is_paired():
    first = np.where(RNG.random(400) < 0.5, 1.0, 0)
    second = np.where(RNG.random(400) < 0.05, 1.0, first)  # as good for nearly all images
    samples = (bootstrap.ratio(hits, np.ones(400)) for hits in (first, second))
    more = bootstrap.difference(*samples)
    assert more.value() == pytest.approx((second - first).mean())
    low, high = bootstrap.interval(*more)
    plain = by_rows(lambda a, b: b.mean() - a.mean(), first, second)
    assert (low, high) == pytest.approx(plain, abs=0.004)
    assert 3 * (high - low) < np.diff(bootstrap.mean_interval(second))[0]


def test_correlations_and_their_intervals():
    import scipy.stats  # 1 s, not for each worker

    for kinds in (3, 40, 10_000):
        for a, b in RNG.integers(0, kinds, (5, 2, 60)).astype(float):
            assert bootstrap.spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert np.isnan(bootstrap.spearman(np.ones(5), np.arange(5.0)))
    a = RNG.normal(size=400)
    b = a + RNG.normal(size=400)
    (low, high), (few_low, few_high) = (
        bootstrap.spearman_interval(a[:n], b[:n]) for n in (400, 40)
    )
    assert low < bootstrap.spearman(a, b) < high
    assert few_high - few_low > 2 * (high - low)


def test_bootstrap_correlation_takes_one_item_of_half_of_the_queries():
    queries, judged = np.repeat(np.arange(100), 4), RNG.random(400)
    equal = bootstrap_correlation(queries, judged, judged * 3 - 1)
    assert equal == {"spearman": 100, "deviation": 0, "intervals": {"spearman": [100, 100]}}
    noisy = judged + RNG.normal(size=400) / 2
    found = bootstrap_correlation(queries, judged, noisy)
    low, high = found["intervals"]["spearman"]
    assert low < found["spearman"] < high
    assert found["spearman"] == pytest.approx(100 * bootstrap.spearman(judged, noisy), abs=5)
    assert found["deviation"] == pytest.approx(100 / np.sqrt(50), rel=0.4)  # of 50 pairs
    # Within a query all agree, between queries nothing does: no query is asked twice.
    alike, others = (np.repeat(RNG.random(100), 4) for _ in range(2))
    assert abs(bootstrap_correlation(queries, alike, others)["spearman"]) < 30


def test_pixels_are_told_as_interpolate_does_and_counted_where_the_mask_has_a_class(monkeypatch):
    given = RNG.normal(size=(9, 9, 5)).astype(np.float32)
    for size in ((40, 30), (3, 5), (1, 7), (9, 9)):
        channels = torch.from_numpy(given).permute(2, 0, 1)[None]
        upsampled = torch.nn.functional.interpolate(channels, size=size, mode="bilinear")[0]
        for at_once in (1 << 24, 1):  # then a row at a time
            monkeypatch.setattr(segmentation, "AT_ONCE", at_once)
            told = tell_pixels(given, *size)
            np.testing.assert_array_equal(told, upsampled.argmax(dim=0).numpy())
    answers, truth = RNG.integers(0, 4, (2, 12, 10))
    truth[:3] = -1
    truth[3] = 255
    counts = np.isin(truth, range(4))
    for c, (both, either) in enumerate(zip(*overlap(answers, truth, 4), strict=True)):
        assert both == ((answers == c) & (truth == c) & counts).sum()
        assert either == (((answers == c) | (truth == c)) & counts).sum()
    sums = np.array([[2.0, 0.0, 0.0, 3.0], [4.0, 5.0, 0.0, 3.0]])  # one that does not occur
    assert mean_iou(sums) == pytest.approx((0.5 + 0 + 1) / 3)
    np.testing.assert_allclose(mean_iou(np.stack([sums, 0 * sums])), [0.5, np.nan])
