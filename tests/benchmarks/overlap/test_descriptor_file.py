"""The descriptor's file computes what the trained net does, and its int8 weights change little."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alignset.transforms.decontamination.copy_descriptor import CopyDescriptor
from benchmarks.overlap.descriptor_file import Whitening, descriptor_file, whitening
from benchmarks.overlap.net import CopyNet
from benchmarks.overlap.train_descriptor import net_vectors
from tests.support.closeness import close, summed_terms

pytestmark = pytest.mark.numeric

SEED = 11


@pytest.fixture(scope="module")
def net() -> CopyNet:
    """A net with statistics in its batch normalisation, as training leaves them."""
    torch.manual_seed(SEED)
    made = CopyNet()
    with torch.no_grad():
        for _ in range(3):
            made(torch.rand(32, 1, 64, 64) * 255)
        for parameter in made.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return made.eval()


@pytest.fixture(scope="module")
def planes() -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, 256, (300, 64, 64), np.uint8)


@pytest.fixture(scope="module")
def white(net: CopyNet, planes: np.ndarray) -> Whitening:
    return whitening(net_vectors(net, planes))


def whitened(vectors: np.ndarray, white: Whitening) -> np.ndarray:
    made = (vectors - white.mean) @ white.axes
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def described(body: bytes, planes: np.ndarray, tmp_path: Path) -> np.ndarray:
    path = tmp_path / "made.onnx"
    path.write_bytes(body)
    return CopyDescriptor(path).describe(planes)


def test_file_computes_what_the_net_does(
    net: CopyNet, planes: np.ndarray, white: Whitening, tmp_path: Path
) -> None:
    exact = described(descriptor_file(net, white, is_rounded=False), planes, tmp_path)
    expected, scale = whitened(net_vectors(net, planes), white), np.abs(white.axes).max()
    assert close(exact, expected, terms=summed_terms(net), scale=scale)


def test_int8_weights_change_little_and_take_a_quarter(
    net: CopyNet, planes: np.ndarray, white: Whitening, tmp_path: Path
) -> None:
    rounded_file = descriptor_file(net, white)
    exact_file = descriptor_file(net, white, is_rounded=False)
    assert len(rounded_file) < 0.3 * len(exact_file)
    rounded = described(rounded_file, planes, tmp_path)
    exact = described(exact_file, planes, tmp_path)
    assert (rounded * exact).sum(1).mean() > 0.97  # of noise: no plane is farther from pictures


def test_whitened_vectors_are_uncorrelated_and_of_equal_spread() -> None:
    rng = np.random.default_rng(SEED)
    vectors = (rng.normal(size=(5000, 96)) * np.linspace(0.1, 3, 96)).astype(np.float32)
    white = whitening(vectors)
    made = (vectors - white.mean) @ white.axes
    assert close(np.cov(made.T), np.eye(64), terms=5000 + 96, precision=torch.float32)


def test_vectors_without_spread_are_whitened_too() -> None:
    white = whitening(np.ones((100, 96), np.float32))
    assert np.isfinite(white.axes).all()
