"""A query answered: its vector, the nearest rows, and duplicates folded into the first of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.query import UNSAFE_SCORE, Filters, SearchQuery, weighted_sum

MAX_RESULTS = 1000
# Two images are one where their perceptual hashes differ by as few bits and their embeddings are
# as near: plain images have the same bits, and two cats nearly the same embedding.
_MAX_BITS, _MIN_COSINE = 6, 0.95
_MIN_COMPARED = 100  # of which the duplicates of few results are folded
_COLUMNS = ("key", "caption", "url", "host", "width", "height", "unsafe_score")
EmbedTexts = Callable[[list[str]], np.ndarray]
# A row that was found: the columns above but the last; `score`, its cosine with the query;
# `unsafe`, whether its unsafe score is above UNSAFE_SCORE; and `folded`, how many rows beside
# itself it stands for, among those that were compared.
Result = dict[str, Any]


def query_vector(query: SearchQuery, index: OpenedIndex, embed_texts: EmbedTexts) -> np.ndarray:
    """float32[d], unit length.

    Raises:
      SettingsError: the index has no such key, or the terms cancel each other out.
    """
    texts = [term.value for term in query.terms if term.kind == "text"]
    text_vectors = iter(embed_texts(texts) if texts else ())
    vectors = []
    for term in query.terms:
        if term.vector is not None:
            vectors.append(term.vector)
        elif term.kind == "key":
            vectors.append(index.vector_of(term.value))
        else:
            vectors.append(next(text_vectors))
    return weighted_sum([term.weight for term in query.terms], np.stack(vectors))


def find_results(
    vector: np.ndarray, query: SearchQuery, index: OpenedIndex, count: int
) -> list[Result]:
    """Up to `count` results, the nearest first. The first of more are the first of fewer."""
    mask = index.row_mask(query.filters)
    if not query.fold:
        scores, rows = index.neighbours.nearest(vector, count, mask)
        return _results(index, scores, rows, np.zeros(len(rows), int))
    scores, rows = index.neighbours.nearest(vector, max(2 * count, _MIN_COMPARED), mask)
    first_of = _fold(index, rows)  # int[m]
    heads = np.flatnonzero(first_of == np.arange(len(rows)))[:count]
    copies = np.bincount(first_of, minlength=len(rows)) - 1
    return _results(index, scores[heads], rows[heads], copies[heads])


def sample_results(index: OpenedIndex, count: int) -> list[Result]:
    """Up to `count` rows from all over the index, none of them scored unsafe; their score is 0."""
    mask = index.row_mask(Filters(safe=True))
    rows = np.arange(len(index.rows)) if mask is None else np.flatnonzero(mask)
    if len(rows) > count:
        rows = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
    zeros = np.zeros(len(rows), int)
    return _results(index, zeros, rows, zeros)


def _fold(index: OpenedIndex, rows: np.ndarray) -> np.ndarray:
    """int[m]: the place of the first row that shows the same image; of most, its own."""
    hashes = index.phashes[rows]  # uint64[m]
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None])  # uint8[m, m]
    alike = np.argwhere(np.tril(bits <= _MAX_BITS, -1))  # (later, earlier), in order of later
    first_of = np.arange(len(rows))
    if not len(alike):
        return first_of
    distinct, places = np.unique(alike, return_inverse=True)
    vectors = index.neighbours.vectors_of(rows[distinct])  # float32[s, d]
    # Of all at once: of 2,000 equal hashes the pairs' rows take 10 GB.
    cosines = vectors @ vectors.T
    later, earlier = places.reshape(alike.shape).T
    near = alike[cosines[later, earlier] >= _MIN_COSINE]
    for place, at in zip(*np.unique(near[:, 0], return_index=True), strict=True):
        first_of[place] = first_of[near[at, 1]]
    return first_of


def _results(
    index: OpenedIndex, scores: np.ndarray, rows: np.ndarray, copies: np.ndarray
) -> list[Result]:
    results: list[Result] = index.rows.select(_COLUMNS).take(rows).to_pylist()
    for result, score, copy in zip(results, scores.tolist(), copies.tolist(), strict=True):
        result["score"] = round(score, 4)
        result["unsafe"] = (result.pop("unsafe_score") or 0.0) > UNSAFE_SCORE
        result["folded"] = copy
    return results
