"""A query answered: its vector, the nearest rows, and duplicates folded into the first of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from alignset.train.search.filters import UNSAFE_SCORE, Filters
from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.query_terms import Term, added_up, check_terms

MOST_RESULTS = 1000
REACHES = (100, 400, 2 * MOST_RESULTS)  # how many rows a search looks for
# Two pictures are one where their perceptual hashes differ by as few bits and their embeddings are
# as near: of the same bits alone, plain pictures would be; and of embeddings alone, two cats.
_MAX_BITS, _MIN_COSINE = 6, 0.95
EmbedTexts = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
      terms: added up by their weights.
      fold: whether duplicates are one result.
    """

    terms: tuple[Term, ...]
    filters: Filters = field(default_factory=Filters)
    fold: bool = True


class Result(NamedTuple):
    """A row that was found.

    Attributes:
      score: the cosine between the query and the picture.
      folded: how many rows it stands for beside itself, as far as the search went.
    """

    row: int
    key: str
    score: float
    caption: str
    url: str
    host: str
    width: int
    height: int
    unsafe: bool
    folded: int


def query_vector(query: Query, index: OpenedIndex, embed_texts: EmbedTexts) -> np.ndarray:
    """float32[d], unit length.

    Raises:
      SettingsError: the query has no terms, a key is none, or they cancel each other out.
    """
    check_terms(list(query.terms))
    texts = [term.value for term in query.terms if term.kind == "text"]
    embedded = iter(embed_texts(texts) if texts else ())
    vectors = []
    for term in query.terms:
        if term.vector is not None:
            vectors.append(term.vector)
        elif term.kind == "key":
            vectors.append(index.vector_of(term.value))
        else:
            vectors.append(next(embedded))
    return added_up([term.weight for term in query.terms], np.stack(vectors))


def find_results(vector: np.ndarray, query: Query, index: OpenedIndex, count: int) -> list[Result]:
    """Up to `count` results, the nearest first.

    The first of more are the first of fewer: a page after another shows nothing twice. A search for
    more looks into more cells, and may find a row there that is nearer than some of the first; that
    row stands behind them.
    """
    count = min(count, MOST_RESULTS)
    wanted = index.wanted(query.filters)
    scores, rows = _nearest(vector, index, count, wanted)
    if not query.fold:
        return _results(index, scores[:count], rows[:count], np.zeros(len(rows), int))
    first_of = _folded(index, rows)  # int[m]
    heads = np.flatnonzero(first_of == np.arange(len(rows)))
    copies = np.bincount(first_of, minlength=len(rows)) - 1
    kept = heads[:count]
    return _results(index, scores[kept], rows[kept], copies[kept])


def sample_of(index: OpenedIndex, count: int) -> list[Result]:
    """Up to `count` rows from all over the index, none of them scored unsafe; their score is 0."""
    if not index.pictures:
        return []
    rows = np.unique(np.linspace(0, index.pictures - 1, 2 * count).astype(int))
    left = index.wanted(Filters())
    if left is not None:
        rows = np.flatnonzero(left)[rows]
    zeros = np.zeros(len(rows))
    results = _results(index, zeros, rows, zeros.astype(int))
    safe = [result for result in results if not result.unsafe]
    return safe[:: max(1, len(safe) // count)][:count]


def _nearest(
    vector: np.ndarray, index: OpenedIndex, count: int, wanted: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and rows, so many that enough are left when duplicates are folded. A search that
    reaches further begins with what those find that reach less far."""
    scores, rows = np.zeros(0, np.float32), np.zeros(0, np.int64)
    needed = next(reach for reach in REACHES if reach >= 2 * min(count, MOST_RESULTS))
    exact = index.neighbours.index is None
    for reach in (needed,) if exact else REACHES[: REACHES.index(needed) + 1]:
        more_scores, more_rows = index.neighbours.nearest(vector, reach, wanted)
        new = ~np.isin(more_rows, rows)
        scores = np.concatenate([scores, more_scores[new]])
        rows = np.concatenate([rows, more_rows[new]])
    return scores, rows


def _folded(index: OpenedIndex, rows: np.ndarray) -> np.ndarray:
    """int[m]: the place of the first row that shows the same picture; of most, its own."""
    hashes = index.phashes[rows]  # uint64[m]
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None])  # uint8[m, m]
    alike = np.argwhere(np.tril(bits <= _MAX_BITS, -1))  # (later, earlier), in order of later
    first_of = np.arange(len(rows))
    if not len(alike):
        return first_of
    shown, places = np.unique(alike, return_inverse=True)
    vectors = index.vectors.take(rows[shown])  # float32[s, d]
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
    columns = ("key", "caption", "url", "host", "width", "height", "unsafe_score")
    fields = index.rows.select(columns).take(rows).to_pylist()
    return [
        Result(
            row,
            of["key"],
            round(score, 4),
            of["caption"],
            of["url"],
            of["host"],
            of["width"],
            of["height"],
            (of["unsafe_score"] or 0.0) > UNSAFE_SCORE,
            copy,
        )
        for row, score, of, copy in zip(
            rows.tolist(), scores.tolist(), fields, copies[: len(rows)].tolist(), strict=True
        )
    ]
