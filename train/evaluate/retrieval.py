"""Retrieval of texts by images and of images by texts: embeddings in, recalls out.

Nothing here is as large as all queries times all candidates, unless that is small.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

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

    def right(self) -> tuple["Right", "Right"]:
        """Which texts are right for an image, and which images for a text. A text of another image
        is as right as one of the image's own that equals it."""
        numbers = int(self.number_of.max()) + 1
        of_images = table(self.image_of, self.number_of, (len(self.images), numbers))
        of_texts = table(np.arange(len(self.texts)), self.number_of, (len(self.texts), numbers))
        return Right(of_images, of_texts), Right(of_texts, of_images)


@dataclass(frozen=True)
class Right:
    """Which candidates are right for each query: those that share a label with it. One of both has
    a single label each. The pairs are not held: of n images with one caption they would be n * n.

    Attributes:
      queries, candidates: int32[q, labels], int32[c, labels]: 1 where it has a label.
    """

    queries: csr_array
    candidates: csr_array

    @classmethod
    def of(cls, queries: Ints, candidates: Ints, shape: tuple[int, int]) -> "Right":
        """By pairs, of so many queries and candidates: each candidate is a label itself."""
        every = np.arange(shape[1])
        return cls(table(queries, candidates, shape), table(every, every, (shape[1],) * 2))

    def counts(self) -> Ints:
        """int64[q]."""
        counts: Ints = self.queries @ self.candidates.sum(axis=0).astype(np.int64)
        return counts

    def mask(self, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        """bool[rows, columns]: of these queries, which of these candidates are right."""
        counts: Ints = (self.queries[rows] @ self.candidates[columns].T).toarray()
        return counts > 0


def table(rows: Ints, columns: Ints, shape: tuple[int, int]) -> csr_array:
    """int32: 1 at these places, which may repeat."""
    result = csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape)
    result.data[:] = 1  # where one came twice
    return result


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
    pairs = make_captioned(images, texts, captions, identities=identities)
    return recall_scores(pairs, both_ranks(pairs))


def recall_scores(pairs: Captioned, ranks: tuple[Ints, Ints]) -> dict[str, Any]:
    """n and, where it is another, captions, their number; R@1, R@5, R@10 in percent for
    image_to_text and text_to_image; and for chance, which is what a random order would get.

    Args:
      ranks: what `both_ranks` gives.
    """
    n, m = len(pairs.images), len(pairs.texts)
    counts = [right.counts() for right in pairs.right()]
    chances = [chance(own, others) for own, others in zip(counts, (m, n), strict=True)]
    return {
        "n": n,
        **({"captions": m} if m > n else {}),
        **dict(zip(WAYS, map(recalls, ranks), strict=True)),
        "chance": dict(zip(WAYS, chances, strict=True)),
    }


def make_captioned(
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
    image_numbers = np.array(
        [first_of.setdefault(name, len(first_of)) for name in identities], np.int64
    )
    firsts = np.unique(image_numbers, return_index=True)[1]
    order = np.argsort(image_numbers[image_of], kind="stable")
    return Captioned(
        _take(images, firsts),
        _take(texts, order),
        image_numbers[image_of][order],
        number_of[order],
    )


def _take(rows: Rows, numbers: Ints) -> Rows:
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


def ranks(queries: Rows, candidates: Rows, right: Right, left_out: Right | None = None) -> Ints:
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
        misses = [math.comb(m - r, k_) / math.comb(m, k_) for r in kinds.tolist()]
        result[f"R@{k}"] = round(100 * (1 - float(np.average(misses, weights=queries))), 3)
    return result
