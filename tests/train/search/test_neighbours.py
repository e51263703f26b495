"""The nearest rows, exactly and by cells, against numpy."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from alignset.train.errors import TrainingError
from alignset.train.search.neighbours import (
    CELL_SHARE,
    Neighbours,
    Vectors,
    factory_for,
    make_faiss_index,
    measured_recall,
    read_faiss_index,
    write_faiss_index,
)
from tests.support.closeness import close

pytestmark = pytest.mark.numeric

SEED = 11
CELLS = "IVF64,SQ8"


def unit(random: np.random.Generator, count: int, width: int = 32) -> np.ndarray:
    centres = np.random.default_rng(SEED).normal(size=(30, width))
    rows = centres[random.integers(0, 30, count)] + 0.7 * random.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    print(f"seed {SEED}")
    rows = unit(np.random.default_rng(SEED), 4000).astype(np.float16)
    return Vectors([rows[:1500], rows[1500:1501], rows[1501:]], 32)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return unit(np.random.default_rng(SEED + 1), 40)


def all_of(vectors: Vectors) -> np.ndarray:
    return vectors.take(np.arange(len(vectors)))


@pytest.mark.parametrize(
    ("rows", "factory"),
    [
        (0, "SQfp16"),
        (50_000, "SQfp16"),
        (50_001, "IVF1024,SQ8"),
        (1_000_000, "IVF4096,SQ8"),
        (10**8, "IVF32768,SQ8"),
    ],
)
def test_the_factory_follows_from_the_rows(rows: int, factory: str) -> None:
    assert factory_for(rows) == factory


def test_vectors_are_taken_across_pieces(vectors: Vectors) -> None:
    whole = np.concatenate([*vectors.blocks()])
    assert np.array_equal(all_of(vectors), whole)
    rows = np.array([3999, 0, 1500, 1499, 1501, 0])
    assert np.array_equal(vectors.take(rows), whole[rows])
    assert vectors.take(np.empty(0, int)).shape == (0, 32)


@pytest.mark.parametrize(
    ("factory", "share"), [("SQfp16", CELL_SHARE), (CELLS, 1.0)], ids=["exact", "all cells"]
)
def test_the_nearest_rows_are_numpys(
    vectors: Vectors, queries: np.ndarray, factory: str, share: float
) -> None:
    every = Neighbours(vectors, make_faiss_index(vectors, factory), share)
    scores = queries @ all_of(vectors).T
    wanted = np.arange(4000) % 7 == 3
    for query, line in zip(queries, scores, strict=True):
        near = every.nearest(query, 10)
        # Neighbours are 6e-6 apart with this seed, more than the rounding of 32 terms.
        assert np.array_equal(near[1], np.argsort(-line, kind="stable")[:10])
        assert close(near[0], line[near[1]], terms=32)
        filtered = every.nearest(query, 10, wanted)[1]
        assert set(filtered) == set(np.argsort(-np.where(wanted, line, -2))[:10])


def test_few_cells_find_what_all_find(
    vectors: Vectors, queries: np.ndarray, tmp_path: Path
) -> None:
    index = make_faiss_index(vectors, CELLS)
    write_faiss_index(tmp_path / "a.faiss", index)
    stored = Neighbours(vectors, read_faiss_index(tmp_path / "a.faiss", vectors))
    assert measured_recall(vectors, index) > 0.9
    scores, rows = stored.nearest(queries[0], 100)
    assert close(scores, vectors.take(rows) @ queries[0], terms=32)
    assert (np.diff(scores) <= 0).all()
    assert len(set(rows.tolist())) == len(rows) == 100
    # Those that pass may lie far from what is looked for, all of them.
    wanted = np.isin(np.arange(4000), np.argsort(all_of(vectors) @ queries[0])[:400])
    rows = stored.nearest(queries[0], 100, wanted)[1]
    assert len(rows) == 100
    assert wanted[rows].all()
    with pytest.raises(TrainingError, match="does not hold the 7 rows"):
        read_faiss_index(tmp_path / "a.faiss", Vectors([np.zeros((7, 32), np.float16)], 32))
    with pytest.raises(TrainingError, match="does not hold the 4000 rows"):
        read_faiss_index(tmp_path / "a.faiss", Vectors([np.zeros((4000, 16), np.float16)], 16))
    (tmp_path / "b.faiss").write_bytes((tmp_path / "a.faiss").read_bytes()[:-100])
    with pytest.raises(TrainingError, match="cannot be read"):
        read_faiss_index(tmp_path / "b.faiss", vectors)


def test_too_few_cells_are_told_by_their_recall(vectors: Vectors) -> None:
    index = make_faiss_index(vectors, "IVF1000,SQ8")
    quantizer = faiss.downcast_index(index.quantizer)
    assert quantizer.ntotal == 1000
    some = Neighbours(vectors, index, cell_share=1 / 1000)
    every = Neighbours(vectors, index, cell_share=1.0)
    few = [len(np.intersect1d(n.nearest(q, 10)[1], every.nearest(q, 10)[1]))
           for n in (some,) for q in all_of(vectors)[:50]]  # fmt: skip
    assert np.mean(few) < 9
    assert measured_recall(vectors, index) > np.mean(few) / 10


@pytest.mark.parametrize("width", [1, 7, 20, 64, 100])
def test_few_dimensions_are_found_too(width: int) -> None:
    random = np.random.default_rng(SEED)
    print(f"seed {SEED}")
    rows = random.normal(size=(3000, width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = Vectors([rows.astype(np.float16)], width)
    every = Neighbours(vectors, make_faiss_index(vectors, CELLS), cell_share=1.0)
    some = rows[:20].astype(np.float32)
    if width > 1:  # else half of the rows tie
        exact = np.argsort(-(some @ all_of(vectors).T), axis=1)[:, :10]
        near = [every.nearest(query, 10)[1] for query in some]
        assert np.mean([np.isin(*pair).mean() for pair in zip(near, exact, strict=True)]) >= 0.98
    assert len(every.nearest(some[0], 5000)[1]) == 3000
    assert len(every.nearest(some[0], 10, np.zeros(3000, bool))[1]) == 0


def test_the_same_rows_give_the_same_index(vectors: Vectors, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_faiss_index(tmp_path / name, make_faiss_index(vectors, CELLS))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_rows_are_found_where_there_are_none() -> None:
    none = Vectors([], 32)
    empty = Neighbours(none, make_faiss_index(none, factory_for(0)))
    scores, rows = empty.nearest(np.ones(32, np.float32), 10)
    assert len(scores) == len(rows) == 0
