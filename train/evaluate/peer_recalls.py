"""Recalls as clip_benchmark has them, for tables that were made with it.

There each file is an image of its own, only an image's own captions are right for it, and of
candidates that tie those are taken that torch.topk happens to take.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from alignset.train.evaluate.retrieval import KS, Recalls, Rows

WHOLE = 1 << 27  # scores that are made at once, as there, where memory has room for them
AT_ONCE = 1 << 24
# Of the first of some queries, and what is best for each, int64[q, k]: bool[q, k], which are right.
Hits = Callable[[int, torch.Tensor], torch.Tensor]


def peer_recalls(images: Rows, texts: Rows, image_of: npt.NDArray[np.int64]) -> dict[str, Recalls]:
    """In percent: its text_retrieval_recall@k and image_retrieval_recall@k.

    Args:
      images: float32[n, d], L2-normalised.
      texts: float32[m, d], L2-normalised.
      image_of: int64[m]: of each text its image.
    """
    own = torch.from_numpy(image_of)

    def of_image(first: int, best: torch.Tensor) -> torch.Tensor:
        return own[best] == first + torch.arange(len(best))[:, None]

    def of_text(first: int, best: torch.Tensor) -> torch.Tensor:
        return best == own[first : first + len(best), None]

    pixels, words = _tensor(images), _tensor(texts)
    whole = words @ pixels.T if len(words) * len(pixels) <= WHOLE else None  # float32[m, n]
    return {
        "text_retrieval": _recalls(pixels, words, None if whole is None else whole.T, of_image),
        "image_retrieval": _recalls(words, pixels, whole, of_text),
    }


def _tensor(rows: Rows) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows[:], np.float32))


def _recalls(
    queries: torch.Tensor, candidates: torch.Tensor, whole: torch.Tensor | None, hits: Hits
) -> Recalls:
    counts = dict.fromkeys(KS, 0)
    n, m = len(queries), len(candidates)
    size = max(1, AT_ONCE // m)
    for first in range(0, n, size):
        rows = slice(first, first + size)
        scores = queries[rows] @ candidates.T if whole is None else whole[rows]
        for k in KS:
            best = torch.topk(scores, min(k, m), dim=1)[1]
            counts[k] += int(hits(first, best).any(dim=1).sum())
    return {f"R@{k}": round(100 * count / n, 6) for k, count in counts.items()}
