"""Duplicates folded into the first of them."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest

from alignset.train.search.filters import Filters
from alignset.train.search.find_results import Query, find_results
from alignset.train.search.neighbours import Neighbours, add_rows, train_cells
from alignset.train.search.query_terms import Term
from alignset.train.search.vectors import Vectors

pytestmark = pytest.mark.numeric


@dataclass
class MadeIndex:
    """An index in memory, of unit vectors and hashes."""

    vectors: Vectors
    phashes: np.ndarray
    neighbours: Neighbours = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.phashes)
        self.neighbours = Neighbours(self.vectors, None)
        texts = [str(row) for row in range(n)]
        self.rows = pa.table(
            dict.fromkeys(("key", "caption", "url", "host"), texts)
            | dict.fromkeys(("width", "height"), [9] * n)
            | {"unsafe_score": pa.nulls(n, pa.float32())}
        )

    def wanted(self, filters: Filters) -> None:
        return None


def test_the_first_of_more_are_the_first_of_fewer_though_more_cells_are_looked_into() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(8000, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = Vectors([rows.astype(np.float16)], 16)
    index = MadeIndex(vectors, rng.integers(0, 1 << 63, 8000).astype(np.uint64))
    cells = train_cells(vectors)
    add_rows(cells, vectors)
    index.neighbours = Neighbours(vectors, cells, probes=8)
    query = Query((Term("text", "a"),))
    of_few = 0
    for vector in rows[:20].astype(np.float32):
        few, more, most = (
            find_results(vector, query, index, count)  # type: ignore[arg-type]
            for count in (48, 200, 1000)
        )
        assert [len(few), len(more), len(most)] == [48, 200, 1000]
        assert [of.row for of in more[:48]] == [of.row for of in few]
        assert [of.row for of in most[:200]] == [of.row for of in more]
        assert len({of.row for of in most}) == 1000
        of_few += max(of.score for of in most[48:]) > few[-1].score
    assert of_few  # some of these were found only later


def folded(angles: list[float], hashes: list[int], count: int = 10) -> list[tuple[int, int]]:
    """(row, copies) of the results of a query at the angle 0."""
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    index = MadeIndex(Vectors([vectors], 2), np.array(hashes, np.uint64))
    query = Query((Term("text", "a"),))
    results = find_results(np.array([1, 0], np.float32), query, index, count)  # type: ignore[arg-type]
    return [(result.row, result.folded) for result in results]


def test_both_the_hash_and_the_embedding_have_to_be_near() -> None:
    assert folded([0.1, 0.2], [0, 0b111111]) == [(0, 1)]
    assert folded([0.1, 0.2], [0, 0b1111111]) == [(0, 0), (1, 0)]
    assert np.cos(0.31) > 0.95 > np.cos(0.33)
    assert folded([0.0, 0.31], [5, 5]) == [(0, 1)]
    assert folded([0.0, 0.33], [5, 5]) == [(0, 0), (1, 0)]


def test_a_copy_of_a_copy_is_one_of_the_first() -> None:
    # 2 is near 1 and not 0, by its hash; 1 is near 0.
    assert folded([0.0, 0.1, 0.2, 0.3], [0, 0b1111, 0b11111111, 0xFFFF << 40]) == [(0, 2), (3, 0)]
    # 1 is near 2 and not 0, by its embedding; 2 is near 0.
    assert folded([0.0, 0.33, 0.17], [0, 0, 0]) == [(0, 2)]
    # 3 is near 1 and 2, which are two pictures: it is the nearer one's to the query.
    assert folded([0.0, 0.5, 0.8, 0.81], [1 << 60, 0, 0b1111111, 0b1111]) == [
        (0, 0),
        (1, 1),
        (2, 0),
    ]


def test_pages_of_equal_hashes_are_told_apart_by_their_embeddings() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2000, 64))
    vectors[1000:] = vectors[:1000]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = MadeIndex(Vectors([vectors.astype(np.float16)], 64), np.zeros(2000, np.uint64))
    query = Query((Term("text", "a"),))
    results = find_results(vectors[7].astype(np.float32), query, index, 1000)  # type: ignore[arg-type]
    assert results[0].row == 7
    assert sorted(result.row for result in results) == [*range(1000)]
    assert {result.folded for result in results} == {1}
