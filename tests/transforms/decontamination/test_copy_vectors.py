"""The copy descriptor and its bytes: what holds of them whatever the thumbnails."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from alignset.transforms.decontamination import copy_vectors
from alignset.transforms.decontamination.copy_planes import copy_planes
from alignset.transforms.decontamination.copy_vectors import (
    MODEL_PATH,
    as_unit,
    cosines,
    describe,
    vectors_of,
)
from tests.support.closeness import close
from tests.support.grey_pictures import degenerate_planes, grey_photograph

pytestmark = pytest.mark.numeric

PLANES = np.stack(
    [copy_planes(grey_photograph(seed)).whole for seed in range(40)]
    + [plane for _, plane in degenerate_planes()]
)
VECTORS = vectors_of(PLANES)


@pytest.mark.parametrize("at_once", [1, 7, 16, 33])
def test_a_vector_depends_on_its_own_plane_alone(at_once):
    parts = [vectors_of(PLANES[n : n + at_once]) for n in range(0, len(PLANES), at_once)]
    assert (np.concatenate(parts) == VECTORS).all()
    order = np.random.default_rng(at_once).permutation(len(PLANES))
    assert (vectors_of(PLANES[order]) == VECTORS[order]).all()


def test_threads_share_one_session():
    with ThreadPoolExecutor(4) as pool:
        assert all((made == VECTORS).all() for made in pool.map(vectors_of, [PLANES] * 8))


def test_unit_vectors_have_length_one_and_zero_stays_zero():
    assert describe(PLANES[:0]).shape == as_unit(VECTORS[:0]).shape == (0, 64)
    assert close(np.linalg.norm(describe(PLANES), axis=1), np.ones(len(PLANES)), terms=64)
    vectors = np.vstack([VECTORS, np.zeros((1, 64), np.int8)])
    lengths = np.linalg.norm(as_unit(vectors), axis=1)
    assert close(lengths[:40], np.ones(40), terms=64)
    assert lengths[-1] == 0
    assert (cosines(vectors[-1:], vectors, np.arange(len(vectors))[np.newaxis]) == 0).all()


def test_cosines_of_bytes_are_rounded_and_near_those_of_descriptors():
    described, count = describe(PLANES).astype(np.float64), len(PLANES)
    rows = np.tile(np.arange(count), (count, 1))
    made = cosines(VECTORS, VECTORS, rows)
    assert np.abs(made - described @ described.T)[:, :40].max() < 0.02
    assert (np.round(made, 4) == made).all()
    assert made[0, 0] == 1
    for row, one in enumerate(made):
        alone = [cosines(VECTORS[[row]], VECTORS, np.array([[n]]))[0, 0] for n in range(count)]
        assert one.tolist() == alone
    rows[:, 3] = -1  # of no entry
    made[:, 3] = -2
    assert (cosines(VECTORS, VECTORS, rows) == made).all()


def altered(plane: np.ndarray) -> dict[str, np.ndarray]:
    """Copies of a thumbnail as the index leaves them over."""
    turn = cv2.getRotationMatrix2D((31.5, 31.5), 3, 1)
    marked = plane.copy()
    marked[4:16, 46:60], marked[55:] = 255, 0
    return {
        "zoomed": cv2.resize(plane[3:61, 2:62], (64, 64)),
        "turned": cv2.warpAffine(plane, turn, (64, 64), borderMode=cv2.BORDER_REFLECT),
        "darker": (255 * (plane / 255.0) ** 1.6).astype(np.uint8),
        "blurred": cv2.GaussianBlur(plane, (0, 0), 1.2),
        "with a logo and a banner": marked,
    }


def test_copies_are_nearer_than_any_other_picture():
    planes = np.stack([copy_planes(grey_photograph(seed)).whole for seed in range(100, 200)])
    for change in altered(planes[0]):
        copies = np.array([altered(plane)[change] for plane in planes])
        found = describe(copies) @ describe(planes).T
        assert np.mean(found.argmax(1) == np.arange(100)) >= 0.95, change
        assert np.median(np.diagonal(found)) > 0.7, change


def test_a_file_other_than_the_shipped_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    body = bytearray(MODEL_PATH.read_bytes())
    assert len(body) <= 500_000
    body[len(body) // 2] ^= 1  # one bit of a weight: onnxruntime opens the file
    (tmp_path / "other.onnx").write_bytes(body)
    monkeypatch.setattr(copy_vectors, "MODEL_PATH", tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="install alignset again"):
        describe(PLANES[:1])
