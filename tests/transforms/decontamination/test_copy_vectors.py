import numpy as np
import pytest

from alignset.transforms.decontamination.copy_descriptor import describe
from alignset.transforms.decontamination.copy_planes import copy_planes
from alignset.transforms.decontamination.copy_vectors import as_unit, cosines, vectors_of
from tests.support.closeness import close
from tests.support.grey_pictures import degenerate_planes, grey_photograph

pytestmark = pytest.mark.numeric

PLANES = np.stack(
    [copy_planes(grey_photograph(seed)).whole for seed in range(40)]
    + [plane for _, plane in degenerate_planes()]
)
VECTORS = vectors_of(PLANES)


@pytest.mark.parametrize("at_once", [1, 2, 7, 16, 17, 33])
def test_a_vector_depends_on_its_own_plane_alone(at_once):
    parts = [vectors_of(PLANES[n : n + at_once]) for n in range(0, len(PLANES), at_once)]
    assert (np.concatenate(parts) == VECTORS).all()
    order = np.random.default_rng(at_once).permutation(len(PLANES))
    assert (vectors_of(PLANES[order]) == VECTORS[order]).all()


def test_no_planes_have_no_vectors():
    assert vectors_of(PLANES[:0]).shape == (0, 64)
    assert as_unit(VECTORS[:0]).shape == (0, 64)


def every_row(vectors: np.ndarray) -> np.ndarray:
    return np.arange(len(vectors))


def test_cosines_of_bytes_are_those_of_descriptors():
    described = describe(PLANES).astype(np.float64)
    for row in range(len(PLANES)):
        expected = described @ described[row]
        assert (
            np.abs(cosines(VECTORS[row], VECTORS, every_row(VECTORS)) - expected)[:40].max() < 0.02
        )


def test_cosines_are_rounded_and_do_not_depend_on_the_others():
    together = cosines(VECTORS[0], VECTORS, every_row(VECTORS))
    assert together[0] == 1
    assert (np.round(together, 4) == together).all()
    assert together.tolist() == [
        cosines(VECTORS[0], VECTORS, np.array([row]))[0] for row in range(len(VECTORS))
    ]


def test_unit_vectors_have_length_one_and_zero_stays_zero():
    vectors = np.vstack([VECTORS, np.zeros((1, 64), np.int8)])
    lengths = np.linalg.norm(as_unit(vectors), axis=1)
    assert close(lengths[:40], np.ones(40), terms=64)
    assert lengths[-1] == 0
    assert (cosines(vectors[-1], vectors, every_row(vectors)) == 0).all()
