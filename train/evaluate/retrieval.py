"""Retrieval of texts by images and of images by texts: embeddings in, recalls out."""

import math
from collections.abc import Hashable, Sequence
from typing import NotRequired, TypedDict

import numpy as np

from train.errors import TrainingError

KS = (1, 5, 10)

Recalls = dict[str, float]  # R@k, in percent


class _Counts(TypedDict):
    n: int
    captions: NotRequired[int]


class _Directions(TypedDict):
    image_to_text: Recalls
    text_to_image: Recalls


class RetrievalScores(_Counts, _Directions):
    chance: _Directions


def retrieval_scores(
    images: np.ndarray,
    texts: np.ndarray,
    captions: list[list[str]],
    *,
    identities: Sequence[Hashable] | None = None,
) -> RetrievalScores:
    """Recalls of n images and their m captions in both directions, in percent.

    Args:
      images: float[n, d], L2-normalised.
      texts: float[m, d], L2-normalised; those of image 0, then those of image 1, and so on.
      captions: the texts of each image, m in all. A text of another image is as right as one of
        the image's own that equals it.
      identities: of the n images, such as hashes of their files. Equal ones are one image, whose
        texts are those of all of them. None: all are different.

    Returns:
      n and, where it is another, captions, their number; R@1, R@5, R@10 for image_to_text and
      text_to_image; and for chance, which is what a random order would get.

    Raises:
      TrainingError: an embedding has a number that is not finite.
    """
    if identities is not None:
        images, texts, captions = _merged(images, texts, captions, identities)
    scores = images @ texts.T  # float[n, m]
    if not np.isfinite(scores).all():
        raise TrainingError(
            "the model's embeddings are not all finite numbers: it diverged, take an earlier one"
        )
    all_captions = np.array([text for own in captions for text in own], dtype=object).astype(str)
    numbers = np.unique(all_captions, return_inverse=True)[1]  # int[m]
    image_of = np.repeat(np.arange(len(captions)), [len(own) for own in captions])  # int[m]
    has = np.zeros((len(captions), numbers.max() + 1), bool)
    has[image_of, numbers] = True
    right = has[:, numbers]  # bool[n, m]
    counts: _Counts = {"n": len(captions)}
    if len(numbers) > len(captions):
        counts["captions"] = len(numbers)
    return {
        **counts,
        "image_to_text": recalls(scores, right),
        "text_to_image": recalls(scores.T, right.T),
        "chance": {"image_to_text": chance(right), "text_to_image": chance(right.T)},
    }


def _merged(
    images: np.ndarray,
    texts: np.ndarray,
    captions: list[list[str]],
    identities: Sequence[Hashable],
) -> tuple[np.ndarray, np.ndarray, list[list[str]]]:
    """The same with each image once, where it comes first, and all its texts there."""
    rows_of: dict[Hashable, list[int]] = {}
    for row, identity in enumerate(identities):
        rows_of.setdefault(identity, []).append(row)
    firsts = [rows[0] for rows in rows_of.values()]
    texts_of = np.split(texts, np.cumsum([len(own) for own in captions])[:-1])
    ordered = [texts_of[row] for rows in rows_of.values() for row in rows]
    merged = [[text for row in rows for text in captions[row]] for rows in rows_of.values()]
    return images[firsts], np.concatenate(ordered), merged


def recalls(scores: np.ndarray, right: np.ndarray) -> Recalls:
    """R@k in percent: the share of queries with a right candidate among their k best.

    Args:
      scores: float[n, m] of m candidates for each of n queries.
      right: bool[n, m], at least one true in each row. A wrong candidate that ties goes first, so
        that embeddings which are all equal score nothing.
    """
    best = np.where(right, scores, -np.inf).max(axis=1)  # float[n]
    rank = (np.where(right, -np.inf, scores) >= best[:, None]).sum(axis=1)  # int[n], 0 is first
    return {f"R@{k}": round(100 * float((rank < k).mean()), 3) for k in KS}


def chance(right: np.ndarray) -> Recalls:
    """The R@k of a random order, in percent: 1 - C(m - r, k) / C(m, k) for r right of m."""
    m = right.shape[1]
    counts, queries = np.unique(right.sum(axis=1), return_counts=True)
    result = {}
    for k in KS:
        k_ = min(k, m)
        missed = [math.comb(m - r, k_) / math.comb(m, k_) for r in counts.tolist()]
        result[f"R@{k}"] = round(100 * (1 - float(np.average(missed, weights=queries))), 3)
    return result
