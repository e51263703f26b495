"""Retrieval of texts by images and of images by texts: vectors in, recalls out.

1. Equal images become one image, with the texts of all; equal texts get one number.
2. A block of queries is scored against all candidates: float[queries, candidates], at most AT_ONCE.
3. A query's rank is how many wrong candidates score as well as its best right one, or better.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.train.errors import TrainingError

KS = (1, 5, 10)
WAYS = ("image_to_text", "text_to_image")
AT_ONCE = 1 << 24  # scores of a block

Recalls = dict[str, float]  # R@k, in percent
Vectors = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Captioned:
    """Images, each once, and the texts that are right for them.

    Attributes:
      images: float[n, d], L2-normalised.
      texts: float[m, d], L2-normalised.
      image_of: int64[m], ascending: of each text its image.
      number_of: int64[m]: equal texts have equal numbers, 0 to their count.
      image_rows: int64[n]: which of the given images each is, the first of equal ones.
      text_rows: int64[m]: which of the given texts each is.
    """

    images: Vectors
    texts: Vectors
    image_of: Ints
    number_of: Ints
    image_rows: Ints
    text_rows: Ints


class Found(NamedTuple):
    """What one direction found.

    Attributes:
      ranks: int64[q]: how many wrong candidates are before each query's best right one. A wrong one
        that ties goes first, so that vectors which are all equal score nothing.
      right: int64[q]: how many candidates are right for each query.
      candidates: how many there are.
    """

    ranks: Ints
    right: Ints
    candidates: int


def make_captioned(
    images: Vectors,
    texts: Vectors,
    captions: Sequence[Sequence[str]],
    *,
    identities: Sequence[Hashable] | None = None,
) -> Captioned:
    """Images, each once, with all their texts.

    Args:
      images: float[n, d], L2-normalised.
      texts: float[m, d], L2-normalised; the texts of image 0, then of image 1, and so on.
      captions: the texts of each image, m in all.
      identities: of the n images, such as hashes of their files. Equal ones are one image, with the
        texts of all of them. None: all are different.
    """
    numbers: dict[str, int] = {}
    number_of = [numbers.setdefault(text, len(numbers)) for own in captions for text in own]
    number_of_image: dict[Hashable, int] = {}
    image_numbers = np.array(
        [
            number_of_image.setdefault(name, len(number_of_image))
            for name in (range(len(images)) if identities is None else identities)
        ],
        np.int64,
    )
    image_of = np.repeat(image_numbers, [len(own) for own in captions])
    image_rows = np.unique(image_numbers, return_index=True)[1]
    text_rows = np.argsort(image_of, kind="stable")
    return Captioned(
        images[image_rows],
        texts[text_rows],
        image_of[text_rows],
        np.array(number_of, np.int64)[text_rows],
        image_rows,
        text_rows,
    )


def find_both(pairs: Captioned) -> dict[str, Found]:
    """What images find among texts and texts among images, by WAYS. A text of another image is as
    right as one of the image's own that equals it.

    Raises:
      TrainingError: a vector has a number that is not finite.
    """
    rows = np.arange(len(pairs.texts))
    texts_of_image = group(pairs.image_of, rows, len(pairs.images))
    texts_of_number = group(pairs.number_of, rows, int(pairs.number_of.max()) + 1)

    def right_texts(image: int) -> Ints:
        numbers = np.unique(pairs.number_of[texts_of_image[image]])
        return np.concatenate([texts_of_number[number] for number in numbers])

    def right_images(text: int) -> Ints:
        return np.unique(pairs.image_of[texts_of_number[pairs.number_of[text]]])

    return {
        "image_to_text": find(pairs.images, pairs.texts, right_texts),
        "text_to_image": find(pairs.texts, pairs.images, right_images),
    }


def group(keys: Ints, values: Ints, count: int) -> list[Ints]:
    """The values of each key from 0 to `count`.

    >>> [of.tolist() for of in group(np.array([2, 0, 2]), np.array([7, 8, 9]), 3)]
    [[8], [], [7, 9]]
    """
    order = np.argsort(keys, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(keys, minlength=count))[:-1])


def find(
    queries: Vectors,
    candidates: Vectors,
    right: Callable[[int], Ints],
    itself: Ints | None = None,
) -> Found:
    """One direction.

    Args:
      right: the candidates that are right for a query, one or more, each once.
      itself: int64[q]: of each query the candidate to leave out.

    Raises:
      TrainingError: a vector has a number that is not finite.

    >>> find(np.eye(3), np.eye(3), lambda query: np.array([(query + 1) // 2])).ranks.tolist()
    [0, 0, 2]
    """
    ranks, counts = np.zeros((2, len(queries)), np.int64)
    size = max(1, AT_ONCE // max(1, len(candidates)))
    for start in range(0, len(queries), size):
        scores = queries[start : start + size] @ candidates.T
        if not np.isfinite(scores).all():
            raise TrainingError(
                "the model's embeddings are not all finite numbers: it diverged, take an earlier "
                "one"
            )
        for query, of_query in enumerate(scores, start):
            answers = right(query)
            if itself is not None:
                of_query[itself[query]] = -np.inf
            best = of_query[answers].max()
            of_query[answers] = -np.inf
            ranks[query], counts[query] = (of_query >= best).sum(), len(answers)
    return Found(ranks, counts, len(candidates))


def recall_scores(found: Mapping[str, Found]) -> dict[str, Any]:
    """n, the images; captions, where they are more; R@1, R@5 and R@10 in percent for image_to_text
    and text_to_image; and for chance, which is what a random order would get."""
    m, n = (found[way].candidates for way in WAYS)
    return {
        "n": n,
        **({"captions": m} if m > n else {}),
        **{way: recalls(found[way].ranks) for way in WAYS},
        "chance": {way: chance(found[way].right, found[way].candidates) for way in WAYS},
    }


def recalls(ranks: Ints) -> Recalls:
    """R@k in percent: the share of queries with a right candidate among their k best.

    Args:
      ranks: int64[n]: of each query's best right candidate, 0 is first.
    """
    return {f"R@{k}": round(100 * float((ranks < k).mean()), 3) for k in KS}


def chance(right: Ints, candidates: int) -> Recalls:
    """The R@k of a random order, in percent: 1 - C(m - r, k) / C(m, k) for r right of m candidates.

    Args:
      right: int64[n]: how many candidates are right for each query.

    >>> chance(np.array([2, 2]), 4)
    {'R@1': 50.0, 'R@5': 100.0, 'R@10': 100.0}
    """
    counts, queries = np.unique(right, return_counts=True)
    result = {}
    for k in KS:
        draws = math.comb(candidates, drawn := min(k, candidates))
        misses = [math.comb(candidates - count, drawn) / draws for count in counts.tolist()]
        result[f"R@{k}"] = round(100 * (1 - float(np.average(misses, weights=queries))), 3)
    return result
