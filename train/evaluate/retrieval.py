"""Retrieval of texts by images and of images by texts: embeddings in, recalls out.

Nothing here is as large as all queries times all candidates, unless that is small.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from alignset.train.errors import TrainingError
from alignset.train.evaluate.feature_store import Features

KS = (1, 5, 10)
WAYS = ("image_to_text", "text_to_image")
AT_ONCE, WIDEST = 1 << 24, 1 << 17  # scores: of all queries, of one of them

Recalls = dict[str, float]  # R@k, in percent
Rows = npt.NDArray[np.floating] | Features
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Captioned:
    """Images and the texts that are right for them.

    Attributes:
      images: float[n, d], L2-normalised.
      texts: float[m, d], L2-normalised.
      image_of: int64[m], ascending: of each text its image.
      number_of: int64[m]: equal texts have equal numbers, 0 to their count.
    """

    images: Rows
    texts: Rows
    image_of: Ints
    number_of: Ints

    def right(self) -> tuple["RightByText", "RightByText"]:
        """Which texts are right for an image, and which images for a text. A text of another image
        is as right as one of the image's own that equals it."""
        pairs = np.unique(np.stack([self.image_of, self.number_of]), axis=1)  # of image and number
        images_of = Right.of(pairs[1], pairs[0], self.number_of.max() + 1)
        of_texts = RightByText(self.number_of, images_of, len(self.images))
        return replace(of_texts, of_images=True), of_texts


@dataclass(frozen=True)
class Right:
    """For each of several queries the candidates that are right: for query i these are
    candidates[starts[i] : starts[i + 1]]."""

    starts: Ints
    candidates: Ints

    @classmethod
    def of(cls, queries: Ints, candidates: Ints, count: int) -> "Right":
        order = np.argsort(queries, kind="stable")
        starts = np.searchsorted(queries[order], np.arange(count + 1))
        return cls(starts, candidates[order])

    def counts(self) -> Ints:
        return np.diff(self.starts)

    def through(self, other: "Right") -> "Right":
        """The right answers for the candidates, as queries of `other`."""
        lengths = other.counts()[self.candidates]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        # For each of them its place within its candidate's own.
        within = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        candidates = other.candidates[np.repeat(other.starts[self.candidates], lengths) + within]
        return Right(starts[self.starts], candidates)

    def mask(self, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        """bool[rows, columns]: of these queries, which of these candidates are right."""
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
        queries = np.repeat(np.arange(len(mask)), self.counts()[rows])
        candidates = self.candidates[self.starts[rows.start] : self.starts[rows.stop]]
        inside = (candidates >= columns.start) & (candidates < columns.stop)
        mask[queries[inside], candidates[inside] - columns.start] = True
        return mask


@dataclass(frozen=True)
class RightByText:
    """For each text the images that are right, or for each image the texts. The pairs are not held:
    of n images with one and the same caption they would be n * n.

    Attributes:
      number_of: int64[m], of each text; equal texts have equal numbers.
      images_of: of each number its images.
      images: how many there are.
      of_images: the queries are the images, and the candidates the texts.
    """

    number_of: Ints
    images_of: Right
    images: int
    of_images: bool = False

    def counts(self) -> Ints:
        images = self.images_of.counts()
        if not self.of_images:
            return images[self.number_of]
        texts = np.bincount(self.number_of, minlength=len(images))
        counts = np.bincount(self.images_of.candidates, np.repeat(texts, images), self.images)
        return counts.astype(np.int64)

    def mask(self, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        """As `Right.mask`."""
        texts, images = (columns, rows) if self.of_images else (rows, columns)
        numbers, again = np.unique(self.number_of[texts], return_inverse=True)
        each = Right.of(np.arange(len(numbers)), numbers, len(numbers)).through(self.images_of)
        mask = each.mask(slice(0, len(numbers)), images)[again]
        return mask.T if self.of_images else mask


def retrieval_scores(
    images: np.ndarray,
    texts: np.ndarray,
    captions: list[list[str]],
    *,
    identities: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """`recall_scores` of n images and their m captions.

    Args:
      images: float[n, d], L2-normalised.
      texts: float[m, d], L2-normalised; the texts of image 0, then of image 1, and so on.
      captions: the texts of each image, m in all. A text of another image is as right as one of
        the image's own that equals it.
      identities: of the n images, such as hashes of their files. Equal ones are one image, with the
        texts of all of them. None: all are different.

    Raises:
      TrainingError: an embedding has a number that is not finite.
    """
    pairs = captioned(images, texts, captions, identities=identities)
    return recall_scores(pairs, both_ranks(pairs))


def recall_scores(pairs: Captioned, ranked: tuple[Ints, Ints]) -> dict[str, Any]:
    """n and, where it is another, captions, their number; R@1, R@5, R@10 in percent for
    image_to_text and text_to_image; and for chance, which is what a random order would get.

    Args:
      ranked: what `both_ranks` gives.
    """
    n, m = len(pairs.images), len(pairs.texts)
    counts = [right.counts() for right in pairs.right()]
    chances = [chance(own, others) for own, others in zip(counts, (m, n), strict=True)]
    return {
        "n": n,
        **({"captions": m} if m > n else {}),
        **dict(zip(WAYS, map(recalls, ranked), strict=True)),
        "chance": dict(zip(WAYS, chances, strict=True)),
    }


def captioned(
    images: Rows,
    texts: Rows,
    captions: Sequence[Sequence[str]],
    *,
    identities: Sequence[Hashable] | None = None,
) -> Captioned:
    """Images, each once, with all their texts; the arguments are as for `retrieval_scores`."""
    image_of = np.repeat(np.arange(len(captions)), [len(own) for own in captions])
    numbers: dict[str, int] = {}
    number_of = np.array(
        [numbers.setdefault(text, len(numbers)) for own in captions for text in own], np.int64
    )
    if identities is None:
        return Captioned(images, texts, image_of, number_of)
    first_of: dict[Hashable, int] = {}
    merged = np.array([first_of.setdefault(name, len(first_of)) for name in identities], np.int64)
    firsts = np.unique(merged, return_index=True)[1]
    order = np.argsort(merged[image_of], kind="stable")
    return Captioned(
        _taken(images, firsts),
        _taken(texts, order),
        merged[image_of][order],
        number_of[order],
    )


def _taken(rows: Rows, numbers: Ints) -> Rows:
    return rows.take(numbers) if isinstance(rows, Features) else rows[numbers]


def both_ranks(pairs: Captioned) -> tuple[Ints, Ints]:
    """int64[n] of images, int64[m] of texts: how many wrong candidates are before the best right
    one. A wrong one that ties goes first, so that embeddings which are all equal score nothing.

    Raises:
      TrainingError: an embedding has a number that is not finite.
    """
    of_images, of_texts = pairs.right()
    return (
        ranks(pairs.images, pairs.texts, of_images),
        ranks(pairs.texts, pairs.images, of_texts),
    )


def ranks(
    queries: Rows, candidates: Rows, right: Right | RightByText, left_out: Right | None = None
) -> Ints:
    """int64[q]: as `both_ranks`, of one direction.

    Args:
      left_out: for each query the candidates to leave out, such as itself.
    """
    result = np.zeros(len(queries), np.int64)
    for rows in _slices(len(queries), max(1, AT_ONCE // WIDEST)):
        best = np.full((rows.stop - rows.start, 1), -np.inf)
        blocks = _slices(len(candidates), WIDEST)

        def scores_of_block(columns: slice, rows: slice = rows) -> np.ndarray:
            scores = _scores(queries[rows], candidates[columns])
            if left_out is not None:
                scores = np.where(left_out.mask(rows, columns), -np.inf, scores)
            return scores

        only = scores_of_block(blocks[0]) if len(blocks) == 1 else None
        # Twice through all: how good the best right one is, then how many wrong ones are as good.
        for columns in blocks:
            scores = scores_of_block(columns) if only is None else only
            hits = np.where(right.mask(rows, columns), scores, -np.inf)
            best = np.maximum(best, hits.max(axis=1, keepdims=True))
        for columns in blocks:
            scores = scores_of_block(columns) if only is None else only
            wrong = np.where(right.mask(rows, columns), -np.inf, scores)
            result[rows] += (wrong >= best).sum(axis=1)
    return result


def _slices(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _scores(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    scores: np.ndarray = queries @ candidates.T
    if not np.isfinite(scores).all():
        raise TrainingError(
            "the model's embeddings are not all finite numbers: it diverged, take an earlier one"
        )
    return scores


def recalls(ranks: Ints) -> Recalls:
    """R@k in percent: the share of queries with a right candidate among their k best.

    Args:
      ranks: int64[n]: of each query's best right candidate, 0 is first.
    """
    return {f"R@{k}": round(100 * float((ranks < k).mean()), 3) for k in KS}


def chance(counts: Ints, m: int) -> Recalls:
    """The R@k of a random order, in percent: 1 - C(m - r, k) / C(m, k) for r right of m.

    Args:
      counts: int64[n]: of each query, how many candidates are right.
    """
    kinds, queries = np.unique(counts, return_counts=True)
    result = {}
    for k in KS:
        k_ = min(k, m)
        missed = [math.comb(m - r, k_) / math.comb(m, k_) for r in kinds.tolist()]
        result[f"R@{k}"] = round(100 * (1 - float(np.average(missed, weights=queries))), 3)
    return result
