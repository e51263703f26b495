"""A network in onnxruntime: a picture's numbers are its own, in any batch and by any thread."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from alignset.transforms.safety.model_files import OPEN_NSFW, describe_model, model_bytes
from alignset.transforms.safety.network import Network
from tests.support.closeness import close
from tests.support.onnx_files import mean_colour, write_model

pytestmark = pytest.mark.numeric


def noise(count: int, size: int) -> list[np.ndarray]:
    return list(np.random.default_rng(5).integers(0, 256, (count, size, size, 3), np.uint8))


def test_probabilities_and_scores_are_of_the_same_classes(tmp_path: Path) -> None:
    wanted = describe_model(str(write_model(tmp_path, unsafe_classes=[1]))).wanted
    network, pictures = Network(mean_colour(), wanted), noise(3, 8)
    shares = np.stack(pictures).mean(axis=(1, 2)) / 255
    assert close(network.probabilities(pictures), shares, terms=8 * 8)
    # Rounded to 4 digits.
    assert network.scores(pictures) == [pytest.approx(share, abs=0.51e-4) for share in shares[:, 1]]
    assert network.scores([]) == []


def test_the_bits_are_the_same_in_any_batch_and_thread() -> None:
    network, pictures = Network(model_bytes(""), OPEN_NSFW.wanted), noise(5, 224)
    alone = [network.probabilities([picture])[0].tolist() for picture in pictures]
    assert network.probabilities(pictures).tolist() == alone
    with ThreadPoolExecutor(4) as pool:
        by_threads = list(pool.map(lambda picture: network.probabilities([picture]), pictures))
    assert [output[0].tolist() for output in by_threads] == alone


def test_what_is_no_model_is_no_network() -> None:
    with pytest.raises(Exception, match="protobuf"):
        Network(b"no model", OPEN_NSFW.wanted)
