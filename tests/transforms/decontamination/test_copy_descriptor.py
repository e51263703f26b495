"""The copy descriptor: its file, and what holds of its vectors whatever the planes."""

import hashlib
import pickle
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from alignset.transforms.decontamination import copy_descriptor
from alignset.transforms.decontamination.copy_descriptor import (
    DESCRIPTOR_SHA256,
    MODEL_PATH,
    CopyDescriptor,
    describe,
)
from tests.support.closeness import close

pytestmark = pytest.mark.numeric

# `summed_terms` of the CopyNet that the file holds (4,233), and the product with its whitening.
TERMS = 4233 + 96


def pictures(count: int, seed: int = 3) -> np.ndarray:
    """Planes with blots of several sizes, uint8[n, 64, 64]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 9, 9), np.uint8)
    fine = rng.integers(0, 256, (count, 22, 22), np.uint8)
    return np.array(
        [
            cv2.addWeighted(cv2.resize(c, (64, 64)), 0.7, cv2.resize(f, (64, 64)), 0.3, 0)
            for c, f in zip(coarse, fine, strict=True)
        ],
        np.uint8,
    ).reshape(-1, 64, 64)


def test_file_is_the_one_named_and_small() -> None:
    body = MODEL_PATH.read_bytes()
    assert hashlib.sha256(body).hexdigest() == DESCRIPTOR_SHA256
    assert len(body) <= 500_000


@pytest.mark.parametrize("count", [0, 1, 300])
def test_vectors_have_unit_length(count: int) -> None:
    vectors = describe(pictures(count))
    assert vectors.shape == (count, 64)
    assert vectors.dtype == np.float32
    assert close(np.linalg.norm(vectors, axis=1), np.ones(count), terms=64)


@pytest.mark.parametrize("size", [1, 7, 64, 65, 299])
def test_a_vector_does_not_depend_on_its_batch(size: int) -> None:
    planes = pictures(300)
    parts = [describe(planes[start : start + size]) for start in range(0, 300, size)]
    assert close(np.concatenate(parts), describe(planes), terms=TERMS)


def test_strided_planes_are_described_as_their_copies_are() -> None:
    planes = pictures(4)
    turned = planes[::-1, :, ::-1]
    np.testing.assert_array_equal(describe(turned), describe(turned.copy()))


def test_flat_planes_have_a_vector_too() -> None:
    levels = np.arange(256, dtype=np.uint8)
    vectors = describe(np.broadcast_to(levels[:, None, None], (256, 64, 64)))
    assert np.isfinite(vectors).all()
    assert close(np.linalg.norm(vectors, axis=1), np.ones(256), terms=64)
    # They differ by nothing once the mean is off.
    assert close(vectors, np.broadcast_to(vectors[:1], (256, 64)), terms=TERMS)


def altered(plane: np.ndarray) -> dict[str, np.ndarray]:
    """Copies of a plane as the index leaves them over."""
    zoomed = cv2.resize(plane[3:61, 2:62], (64, 64))
    turned = cv2.warpAffine(
        plane, cv2.getRotationMatrix2D((31.5, 31.5), 3, 1), (64, 64), borderMode=cv2.BORDER_REFLECT
    )
    darker = (255 * (plane / 255.0) ** 1.6).astype(np.uint8)
    with_logo = plane.copy()
    with_logo[4:16, 46:60] = 255
    with_banner = plane.copy()
    with_banner[55:] = 0
    return {
        "zoomed": zoomed,
        "turned": turned,
        "darker": darker,
        "blurred": cv2.GaussianBlur(plane, (0, 0), 1.2),
        "with_logo": with_logo,
        "with_banner": with_banner,
    }


CHANGES = ["zoomed", "turned", "darker", "blurred", "with_logo", "with_banner"]


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_nearer_than_any_other_picture(change: str) -> None:
    planes = pictures(200)
    copies = np.array([altered(plane)[change] for plane in planes])
    cosines = describe(copies) @ describe(planes).T
    own = np.diagonal(cosines)
    assert np.mean(cosines.argmax(1) == np.arange(200)) >= 0.98
    assert np.median(own) > 0.75


def test_threads_share_one_session() -> None:
    planes, expected = pictures(40), describe(pictures(40))
    made: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: made.append(describe(planes))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    for vectors in made:
        np.testing.assert_array_equal(vectors, expected)


def test_the_function_can_be_sent_to_other_processes() -> None:
    describe(pictures(1))  # the file is open, and does not travel along
    assert len(pickle.dumps(describe)) < 200


@pytest.mark.parametrize(
    "planes",
    [
        np.zeros((2, 64, 64), np.float32),
        np.zeros((64, 64), np.uint8),
        np.zeros((2, 32, 64), np.uint8),
    ],
    ids=["float", "one plane", "other size"],
)
def test_other_arrays_are_refused(planes: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"planes must be uint8\[n, 64, 64\]; got"):
        describe(planes)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_told(tmp_path: Path, share: float) -> None:
    body = MODEL_PATH.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(body[: int(share * len(body))])
    with pytest.raises(ValueError, match=r"cut\.onnx is (cut short|no copy descriptor)"):
        CopyDescriptor(path)


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("This is no model.")
    with pytest.raises(ValueError, match=r"text\.onnx is cut short or no ONNX model"):
        CopyDescriptor(path)


def test_a_file_other_than_the_shipped_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One bit of a weight is another: onnxruntime opens the file.
    body = bytearray(MODEL_PATH.read_bytes())
    place = len(body) // 2
    body[place] ^= 1
    path = tmp_path / "other.onnx"
    path.write_bytes(body)
    monkeypatch.setattr(copy_descriptor, "MODEL_PATH", path)
    with pytest.raises(ValueError, match="install alignset again"):
        describe(pictures(1))
