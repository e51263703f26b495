"""The nearest rows, exactly and by cells, against numpy; filters; duplicates folded into one."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from alignset.train.search.index_files import (
    CELL_SHARE,
    Neighbours,
    faiss,
    make_faiss_index,
    measured_recall,
)
from alignset.train.search.query import SearchQuery, Term, find_results
from tests.support.closeness import close

pytestmark = pytest.mark.numeric

SEED, WIDTH = 11, 32
CELLS = "IVF64,SQfp16"
QUERY = SearchQuery((Term("text", "a"),))


def unit(random: np.random.Generator, count: int) -> np.ndarray:
    centres = np.random.default_rng(SEED).normal(size=(30, WIDTH))
    rows = centres[random.integers(0, 30, count)] + 0.7 * random.normal(size=(count, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    print(f"seed {SEED}")
    return unit(np.random.default_rng(SEED), 4000).astype(np.float16)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return unit(np.random.default_rng(SEED + 1), 40)


@pytest.mark.parametrize(
    ("factory", "share"), [("SQfp16", CELL_SHARE), (CELLS, 1.0)], ids=["exact", "all cells"]
)
def test_the_nearest_rows_are_numpys(
    rows: np.ndarray, queries: np.ndarray, factory: str, share: float
) -> None:
    every = Neighbours(make_faiss_index(rows, factory), share)
    assert np.array_equal(every.vectors_of(np.array([3999, 0])), rows[[3999, 0]].astype(np.float32))
    scores = queries @ rows.astype(np.float32).T
    row_mask = np.arange(4000) % 7 == 3
    for query, line in zip(queries, scores, strict=True):
        near = every.nearest(query, 10)
        # Neighbours are 6e-6 apart with this seed, more than the rounding of 32 terms.
        assert np.array_equal(near[1], np.argsort(-line, kind="stable")[:10])
        assert close(near[0], line[near[1]], terms=WIDTH)
        filtered = every.nearest(query, 10, row_mask)[1]
        assert set(filtered) == set(np.argsort(-np.where(row_mask, line, -2))[:10])
    assert len(every.nearest(queries[0], 5000)[1]) == 4000
    assert len(every.nearest(queries[0], 10, np.zeros(4000, bool))[1]) == 0


def test_few_cells_find_what_all_find(rows: np.ndarray, queries: np.ndarray) -> None:
    index, again = (make_faiss_index(rows, CELLS) for _ in range(2))
    assert np.array_equal(faiss.serialize_index(index), faiss.serialize_index(again))
    assert 0.9 < measured_recall(index) <= 1
    noise = np.random.default_rng(SEED).normal(size=(3000, WIDTH)).astype(np.float16)
    assert 0.1 < measured_recall(make_faiss_index(noise, CELLS)) < 0.8
    assert len({*Neighbours(index).nearest(queries[0], 100)[1].tolist()}) == 100
    # Those that pass may lie far from what is looked for, all of them.
    row_mask = np.isin(np.arange(4000), np.argsort(rows.astype(np.float32) @ queries[0])[:400])
    found = Neighbours(index).nearest(queries[0], 100, row_mask)[1]
    assert (len(found), row_mask[found].all()) == (100, True)


@dataclass
class MadeIndex:
    """An index in memory, of unit vectors and hashes."""

    neighbours: Neighbours
    phashes: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.phashes)
        texts = [str(row) for row in range(n)]
        self.rows = pa.table(
            dict.fromkeys(("key", "caption", "url", "host"), texts)
            | dict.fromkeys(("width", "height"), [9] * n)
            | {"unsafe_score": pa.nulls(n, pa.float32())}
        )

    def row_mask(self, query: SearchQuery) -> None:
        return None


def test_the_first_of_more_are_the_first_of_fewer(rows: np.ndarray, queries: np.ndarray) -> None:
    hashes = np.random.default_rng(5).integers(0, 1 << 63, 4000).astype(np.uint64)
    index = MadeIndex(Neighbours(make_faiss_index(rows, CELLS), cell_share=0.5), hashes)
    for vector in queries[:20]:
        few, most = (
            [result["key"] for result in find_results(vector, QUERY, index, count)]  # type: ignore[arg-type]
            for count in (100, 1000)
        )
        assert [len(few), len(most), len(set(most))] == [100, 1000, 1000]
        assert most[:100] == few


def folded(angles: list[float], hashes: list[int], count: int = 10) -> list[tuple[int, int]]:
    """(row, copies) of the results of a query at the angle 0."""
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    neighbours = Neighbours(make_faiss_index(vectors, "SQfp16"))
    index = MadeIndex(neighbours, np.array(hashes, np.uint64))
    results = find_results(np.array([1, 0], np.float32), QUERY, index, count)  # type: ignore[arg-type]
    return [(int(result["key"]), result["folded"]) for result in results]


def test_duplicates_are_near_by_their_hash_and_their_embedding() -> None:
    assert np.cos(0.31) > 0.95 > np.cos(0.33)
    for angles, hashes, expected in (
        ([0.1, 0.2], [0, 0b111111], [(0, 1)]),
        ([0.1, 0.2], [0, 0b1111111], [(0, 0), (1, 0)]),
        ([0.0, 0.31], [5, 5], [(0, 1)]),
        ([0.0, 0.33], [5, 5], [(0, 0), (1, 0)]),
        # 2 is near 1 and not 0, by its hash; 1 is near 0.
        ([0.0, 0.1, 0.2, 0.3], [0, 0b1111, 0b11111111, 0xFFFF << 40], [(0, 2), (3, 0)]),
        # 1 is near 2 and not 0, by its embedding; 2 is near 0.
        ([0.0, 0.33, 0.17], [0, 0, 0], [(0, 2)]),
        # 3 is near 1 and 2, which are two images: it is the nearer one's to the query.
        (
            [0.0, 0.5, 0.8, 0.81],
            [1 << 60, 0, 0b1111111, 0b1111],
            [(0, 0), (1, 1), (2, 0)],
        ),
    ):
        assert folded(angles, hashes) == expected, (angles, hashes)
    # Few results are as many as are wanted beside many duplicates.
    assert folded([0.0] * 50 + [0.5, 1.0, 1.5], [7] * 53, 3) == [(0, 49), (50, 0), (51, 0)]


ROWS = pa.table(
    {
        "host": ["a.example", "img.a.example", "ba.example", ""],
        "caption": ["A Dog", "a cat", "dogs", ""],
        "width": pa.array([100, 200, 300, 400], pa.int32()),
        "height": pa.array([90, 300, 300, 50], pa.int32()),
        "unsafe_score": pa.array([0.9, 0.5, None, 0.1], pa.float32()),
    }
)


def test_rows_have_to_pass_all_filters() -> None:
    assert SearchQuery().row_mask(ROWS).all()
    for filters, rows in (
        (SearchQuery(host="A.example."), [0, 1]),
        (SearchQuery(caption="DOG"), [0, 2]),
        (SearchQuery(min_side=90, max_side=200), [0, 1]),
        (SearchQuery(safe=True), [1, 2, 3]),
        (SearchQuery(safe=True, caption="dog"), [2]),
    ):
        row_mask = filters.row_mask(ROWS)
        assert row_mask.nonzero()[0].tolist() == rows
