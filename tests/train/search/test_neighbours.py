"""The nearest rows, exactly and by cells, against numpy."""

import re
from pathlib import Path
from unittest import mock

import faiss
import numpy as np
import pytest

from alignset.train.errors import TrainingError
from alignset.train.search.neighbours import (
    Index,
    Neighbours,
    add_rows,
    cells_for,
    choose_probes,
    kind_for,
    read_neighbours,
    recall_at_10,
    train_cells,
    write_neighbours,
)
from alignset.train.search.vectors import Vectors, nearest_of_all
from tests.support.closeness import close

pytestmark = pytest.mark.numeric

SEED = 11


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
    ("rows", "kind"),
    [
        (0, "exact"),
        (20_000, "exact"),
        (20_001, "cells"),
        (10**9, "cells"),
    ],
)
def test_the_kind_follows_from_the_count(rows: int, kind: str) -> None:
    assert kind_for(rows) == kind


@pytest.mark.parametrize(("rows", "cells"), [(40, 1), (300, 4), (1_000_000, 4096), (10**10, 65536)])
def test_cells_are_as_many_as_can_be_trained(rows: int, cells: int) -> None:
    assert cells_for(rows) == cells


def test_vectors_are_taken_across_pieces(vectors: Vectors) -> None:
    whole = np.concatenate([block for _, block in vectors.blocks()])
    assert np.array_equal(all_of(vectors), whole)
    rows = np.array([3999, 0, 1500, 1499, 1501, 0])
    assert np.array_equal(vectors.take(rows), whole[rows])
    later = [(first, len(block)) for first, block in vectors.blocks(1600)]
    assert later == [(1600, 2400)]
    assert vectors.take(np.empty(0, int)).shape == (0, 32)


def test_the_exact_search_is_numpys(vectors: Vectors, queries: np.ndarray) -> None:
    scores = queries @ all_of(vectors).T
    # Neighbours are 6e-6 apart with this seed, more than the rounding of 32 terms.
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    assert np.array_equal(nearest_of_all(vectors, queries, 10)[1], expected)
    exact = Neighbours(vectors, None)
    for query, rows in zip(queries, expected, strict=True):
        near = exact.nearest(query, 10)
        assert np.array_equal(near[1], rows)
        assert close(near[0], all_of(vectors)[rows] @ query, terms=32)
    wanted = np.arange(4000) % 7 == 3
    masked = np.where(wanted, scores, -2)
    for query, line in zip(queries, masked, strict=True):
        assert set(exact.nearest(query, 10, wanted)[1]) == set(np.argsort(-line)[:10])


def test_cells_find_what_the_exact_search_finds(
    vectors: Vectors,
    queries: np.ndarray,
    tmp_path: Path,
) -> None:
    index = train_cells(vectors)
    assert cells_for(4000) == 64
    add_rows(index, vectors)
    add_rows(index, vectors)  # which it has
    assert index.ntotal == 4000
    probes, recall = choose_probes(vectors, index, queries)
    assert recall >= 0.96
    write_neighbours(tmp_path / "a.faiss", index)
    found = Neighbours(vectors, read_neighbours(tmp_path / "a.faiss", vectors, 4000), probes)
    right = nearest_of_all(vectors, queries, 10)[1]
    assert recall_at_10(found, queries, right) == pytest.approx(recall)
    scores, rows = found.nearest(queries[0], 100)
    assert close(scores, vectors.take(rows) @ queries[0], terms=32)
    assert (np.diff(scores) <= 0).all()
    assert len(set(rows.tolist())) == len(rows)
    searched = mock.patch.object(Index, "search", autospec=True, side_effect=Index.search)
    for share in (2, 100):  # one rows' choice is looked up in the cells, the other row by row
        wanted = np.arange(4000) % share == 0
        with searched as search:
            near = found.nearest(queries[0], 10, wanted)[1]
        assert search.called == (share == 2)
        assert wanted[near].all()
        assert len(near) == 10
    # Those that pass may lie far from what is looked for, all of them.
    far = np.argsort(vectors.take(np.arange(4000)) @ queries[0])[:400]
    wanted = np.isin(np.arange(4000), far)
    near = Neighbours(vectors, index, 1).nearest(queries[0], 100, wanted)[1]
    assert len(near) == 100
    assert wanted[near].all()
    with pytest.raises(TrainingError, match="does not hold the 7 rows"):
        read_neighbours(tmp_path / "a.faiss", vectors, 7)
    (tmp_path / "b.faiss").write_bytes((tmp_path / "a.faiss").read_bytes()[:-100])
    with pytest.raises(TrainingError, match="cannot be read"):
        read_neighbours(tmp_path / "b.faiss", vectors, 4000)


@pytest.mark.parametrize("width", [1, 7, 20, 64, 100])
def test_few_dimensions_are_found_too(width: int) -> None:
    random = np.random.default_rng(SEED)
    print(f"seed {SEED}")
    rows = random.normal(size=(3000, width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = Vectors([rows.astype(np.float16)], width)
    index = train_cells(vectors)
    add_rows(index, vectors)
    every = Neighbours(vectors, index, cells_for(3000))
    some = rows[:20].astype(np.float32)
    if width > 1:  # else half of the rows tie
        assert recall_at_10(every, some, nearest_of_all(vectors, some, 10)[1]) >= 0.98
    assert len(every.nearest(some[0], 5000)[1]) == 3000
    assert len(every.nearest(some[0], 10, np.zeros(3000, bool))[1]) == 0


def test_unequal_axes_are_found_too() -> None:
    """As of trained towers: most spread along few axes, and some with a mean far from 0."""
    random = np.random.default_rng(SEED)
    print(f"seed {SEED}")
    rows = random.normal(size=(3000, 256)) * np.arange(1, 257) ** -0.7
    rows[:, :3] += 3.0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = Vectors([rows.astype(np.float16)], 256)
    index = train_cells(vectors)
    add_rows(index, vectors)
    every, some = Neighbours(vectors, index, cells_for(3000)), rows[:40].astype(np.float32)
    assert recall_at_10(every, some, nearest_of_all(vectors, some, 10)[1]) >= 0.97


def test_rows_that_are_no_numbers_and_numbers_of_no_rows_are_not_near(vectors: Vectors) -> None:
    rows = all_of(vectors).astype(np.float16)
    rows[5] = np.nan
    broken = Vectors([rows], 32)
    near = broken.nearest(rows[0].astype(np.float32), np.arange(20), 20)
    assert sorted(near[1]) == [n for n in range(20) if n != 5]
    index = train_cells(vectors)
    add_rows(index, vectors)
    fewer = Vectors([rows[:3000]], 32)  # as after a byte of the file has changed
    assert (Neighbours(fewer, index, 64).nearest(rows[0].astype(np.float32), 100)[1] < 3000).all()


@pytest.mark.parametrize("other", ["IVF16,Flat", "RR32,Flat", "RR16,IVF16,RaBitQfs"])
def test_the_index_of_something_else_is_refused(
    vectors: Vectors, tmp_path: Path, other: str
) -> None:
    width = 16 if "16,IVF" in other else 32
    index = faiss.index_factory(width, other, faiss.METRIC_INNER_PRODUCT)
    rows = all_of(vectors)[:, :width].copy()
    index.train(rows)
    index.add(rows)
    write_neighbours(tmp_path / "a.faiss", index)
    with pytest.raises(TrainingError, match="does not hold the 4000 rows"):
        read_neighbours(tmp_path / "a.faiss", vectors, 4000)


def test_the_same_rows_give_the_same_index(vectors: Vectors, tmp_path: Path) -> None:
    for name in ("a", "b"):
        index = train_cells(vectors)
        add_rows(index, vectors)
        write_neighbours(tmp_path / name, index)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_rows_are_found_where_there_are_none() -> None:
    empty = Neighbours(Vectors([], 32), None)
    scores, rows = empty.nearest(np.ones(32, np.float32), 10)
    assert len(scores) == len(rows) == 0


def resident_kib(path: Path) -> int:
    """Of a mapped file, how much is in this process's page tables."""
    areas = re.split(r"\n(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text())
    of_file = [area for area in areas if str(path) in area.partition("\n")[0]]
    return sum(int(re.search(r"^Rss: +(\d+)", area, re.M)[1]) for area in of_file)  # type: ignore[index]


def test_all_pieces_of_an_index_are_mapped_at_once(tmp_path: Path, vectors: Vectors) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.tile(all_of(vectors).astype(np.float16), (8, 1)))
    mapped = Vectors([np.load(path, mmap_mode="r")], 32)
    assert resident_kib(path) < 1000
    mapped.map_all()
    assert resident_kib(path) >= 2000
    assert np.array_equal(mapped.take(np.arange(4000)), all_of(vectors))
    vectors.map_all()  # those that are in memory are left as they are
