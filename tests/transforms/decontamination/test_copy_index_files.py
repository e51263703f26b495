from pathlib import Path

import numpy as np
import pytest

from alignset.transforms.decontamination import copy_index_files
from alignset.transforms.decontamination.copy_index_files import (
    ENTRIES,
    PLANES,
    ROWS,
    SEARCH,
    VECTORS,
    build_copy_index,
)
from alignset.transforms.decontamination.copy_planes import plane_row
from alignset.transforms.decontamination.copy_variants import variants_of
from alignset.transforms.decontamination.copy_vectors import vectors_of
from tests.support.grey_pictures import degenerate_planes, grey_photograph

pytestmark = pytest.mark.numeric


def pairs_of(count: int, first: int = 0) -> np.ndarray:
    """Planes of images, of which each third has borders: uint8[count, 2, 64, 64]."""
    pairs = []
    for seed in range(first, first + count):
        border = 15 * (seed % 3 == 0)
        picture = np.pad(grey_photograph(seed, 80, 60), ((border, border), (0, 0)))
        pairs.append(plane_row(picture))
    return np.stack(pairs)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def built(folder: Path, arrays) -> dict[str, bytes]:
    folder.mkdir()
    build_copy_index(arrays, folder)
    return files_of(folder)


@pytest.mark.parametrize("is_large", [False, True])
def test_the_same_planes_give_the_same_bytes_however_they_are_divided(
    tmp_path, monkeypatch, is_large
):
    if is_large:  # of what takes centres and codes
        monkeypatch.setattr(copy_index_files, "MOST_COMPARED", 100)
    pairs = pairs_of(30)
    expected = built(tmp_path / "one", [pairs])
    assert built(tmp_path / "again", [pairs]) == expected
    assert built(tmp_path / "each", list(pairs[:, np.newaxis])) == expected
    assert built(tmp_path / "some", iter([pairs[:7], pairs[7:7], pairs[7:]])) == expected
    assert SEARCH in expected
    assert len(expected[VECTORS]) == 64 * (20 * 28 + 10 * 30)


def test_the_files_hold_planes_and_the_vectors_of_all_variants(tmp_path):
    pairs = pairs_of(9)
    files = built(tmp_path / "index", [pairs])
    planes = np.frombuffer(files[PLANES], np.uint8).reshape(-1, 64, 64)
    rows = np.frombuffer(files[ROWS], "<i4").reshape(-1, 2)
    assert len(planes) == 12  # once where nothing was trimmed
    assert (planes[rows] == pairs).all()
    entries = np.frombuffer(files[ENTRIES], "<i4").reshape(-1, 2)
    vectors = np.frombuffer(files[VECTORS], np.int8).reshape(len(entries), -1)
    for row in range(9):
        numbers, variants = variants_of(pairs[row])
        assert entries[entries[:, 0] == row, 1].tolist() == numbers.tolist()
        assert (vectors[entries[:, 0] == row] == vectors_of(variants)).all()


def test_images_that_are_all_the_same_or_flat_can_be_indexed(tmp_path, monkeypatch):
    monkeypatch.setattr(copy_index_files, "MOST_COMPARED", 100)
    planes = np.stack([np.stack([plane] * 2) for _, plane in degenerate_planes()] * 2)
    assert build_copy_index([planes], tmp_path) == len(planes)


@pytest.mark.parametrize(
    "array", [np.zeros((1, 6, 64, 64), np.uint8), np.zeros((1, 2, 64, 64)), np.zeros(3, np.uint8)]
)
def test_arrays_of_another_shape_are_refused(tmp_path, array):
    with pytest.raises(ValueError, match="planes to index must be uint8"):
        build_copy_index([array], tmp_path)


@pytest.mark.parametrize(
    ("entries", "lists"), [(10_001, 16), (300_000, 512), (3_000_000, 4096), (30_000_000, 16384)]
)
def test_lists_grow_with_the_entries(entries, lists):
    assert copy_index_files.lists_for(entries) == lists
