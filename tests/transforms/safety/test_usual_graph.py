"""The usual classifier's network, edited: the same bits for less."""

import numpy as np
import pytest

from transforms.safety.model_files import OPEN_NSFW, model_bytes
from transforms.safety.network import Network
from transforms.safety.usual_graph import without_unread_sums

WANTED = OPEN_NSFW.wanted


@pytest.fixture(scope="module")
def usual() -> bytes:
    return model_bytes("")


def outputs(model: bytes, pictures: np.ndarray) -> np.ndarray:
    """float32[n, 2], of the session that the project opens."""
    session = Network(model, WANTED).session
    return session.run([WANTED.output], {WANTED.input: pictures})[0]


def pictures(size: int) -> np.ndarray:
    """float32[3, size, size, 3]: noise, and a part that is flat."""
    made = np.random.default_rng(size).normal(0, 60, (3, size, size, 3)).astype(np.float32)
    made[1, : size // 2] = 40
    return made


def test_what_is_not_read_is_not_needed(usual: bytes) -> None:
    edited = without_unread_sums(usual)
    assert edited != usual
    assert np.array_equal(outputs(edited, pictures(224)), outputs(usual, pictures(224)))
