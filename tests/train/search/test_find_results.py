"""Duplicates folded into the first of them."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest

from alignset.train.search.find_results import find_results
from alignset.train.search.neighbours import Neighbours, Vectors, make_faiss_index
from alignset.train.search.query import Filters, SearchQuery, Term

pytestmark = pytest.mark.numeric


@dataclass
class MadeIndex:
    """An index in memory, of unit vectors and hashes."""

    vectors: Vectors
    phashes: np.ndarray
    neighbours: Neighbours = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.phashes)
        self.neighbours = Neighbours(self.vectors, make_faiss_index(self.vectors, "SQfp16"))
        texts = [str(row) for row in range(n)]
        self.rows = pa.table(
            dict.fromkeys(("key", "caption", "url", "host"), texts)
            | dict.fromkeys(("width", "height"), [9] * n)
            | {"unsafe_score": pa.nulls(n, pa.float32())}
        )

    def wanted(self, filters: Filters) -> None:
        return None


def test_the_first_of_more_are_the_first_of_fewer() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(8000, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = Vectors([rows.astype(np.float16)], 16)
    index = MadeIndex(vectors, rng.integers(0, 1 << 63, 8000).astype(np.uint64))
    index.neighbours = Neighbours(vectors, make_faiss_index(vectors, "IVF64,SQ8"), cell_share=0.5)
    query = SearchQuery((Term("text", "a"),))
    for vector in rows[:20].astype(np.float32):
        few, most = (
            [result["key"] for result in find_results(vector, query, index, count)]  # type: ignore[arg-type]
            for count in (100, 1000)
        )
        assert [len(few), len(most), len(set(most))] == [100, 1000, 1000]
        assert most[:100] == few


def folded(angles: list[float], hashes: list[int], count: int = 10) -> list[tuple[int, int]]:
    """(row, copies) of the results of a query at the angle 0."""
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    index = MadeIndex(Vectors([vectors], 2), np.array(hashes, np.uint64))
    query = SearchQuery((Term("text", "a"),))
    results = find_results(np.array([1, 0], np.float32), query, index, count)  # type: ignore[arg-type]
    return [(int(result["key"]), result["folded"]) for result in results]


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


def test_few_results_are_as_many_as_are_wanted_beside_many_duplicates() -> None:
    angles = [0.0] * 50 + [0.5, 1.0, 1.5]
    assert folded(angles, [7] * 53, count=3) == [(0, 49), (50, 0), (51, 0)]


def test_pages_of_equal_hashes_are_told_apart_by_their_embeddings() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2000, 64))
    vectors[1000:] = vectors[:1000]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = MadeIndex(Vectors([vectors.astype(np.float16)], 64), np.zeros(2000, np.uint64))
    query = SearchQuery((Term("text", "a"),))
    results = find_results(vectors[7].astype(np.float32), query, index, 1000)  # type: ignore[arg-type]
    assert results[0]["key"] == "7"
    assert sorted(int(result["key"]) for result in results) == [*range(1000)]
    assert {result["folded"] for result in results} == {1}
