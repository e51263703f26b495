"""Retrieval of texts by images and of images by texts: embeddings in, recalls out."""

import math

import numpy as np

KS = (1, 5, 10)


def retrieval_scores(images: np.ndarray, texts: np.ndarray, captions: list[str]) -> dict:
    """Recalls of n pairs in both directions, in percent.

    Args:
      images, texts: float[n, d], L2-normalised; row i of both is one pair.
      captions: the n texts. An equal text is as right as a pair's own.

    Returns:
      n; R@1, R@5, R@10 for image_to_text and text_to_image; and for chance, which is what a random
      order would get.
    """
    scores = images @ texts.T  # float[n, n]
    if not np.isfinite(scores).all():
        raise ValueError("the model's embeddings are not all finite numbers")
    numbers = np.unique(np.array(captions, dtype=object).astype(str), return_inverse=True)[1]
    right = numbers[:, None] == numbers[None, :]  # bool[n, n], symmetric
    return {
        "n": len(captions),
        "image_to_text": recalls(scores, right),
        "text_to_image": recalls(scores.T, right),
        "chance": chance(right),
    }


def recalls(scores: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """R@k in percent: the share of queries with a right candidate among their k best.

    Args:
      scores: float[n, m] of m candidates for each of n queries.
      right: bool[n, m], at least one true in each row. A wrong candidate that ties goes first, so
        that embeddings which are all equal score nothing.
    """
    best = np.where(right, scores, -np.inf).max(axis=1)  # float[n]
    rank = (np.where(right, -np.inf, scores) >= best[:, None]).sum(axis=1)  # int[n], 0 is first
    return {f"R@{k}": round(100 * float((rank < k).mean()), 3) for k in KS}


def chance(right: np.ndarray) -> dict[str, float]:
    """The R@k of a random order, in percent: 1 - C(m - r, k) / C(m, k) for r right of m."""
    m = right.shape[1]
    counts, queries = np.unique(right.sum(axis=1), return_counts=True)
    result = {}
    for k in KS:
        k_ = min(k, m)
        missed = [math.comb(m - r, k_) / math.comb(m, k_) for r in counts.tolist()]
        result[f"R@{k}"] = round(100 * (1 - float(np.average(missed, weights=queries))), 3)
    return result
