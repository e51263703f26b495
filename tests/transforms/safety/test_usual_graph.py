"""The usual classifier's network, edited: the same bits for less, and for other sizes."""

import numpy as np
import pytest

from alignset.transforms.safety.model_files import OPEN_NSFW, model_bytes
from alignset.transforms.safety.network import Network
from alignset.transforms.safety.usual_graph import for_size, without_unread_sums
from tests.support.closeness import close

pytestmark = pytest.mark.numeric

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


@pytest.mark.parametrize("size", [128, 160, 256])
def test_for_another_size_the_last_pooling_takes_all_places(usual: bytes, size: int) -> None:
    edited = for_size(usual, size)
    found = outputs(edited, pictures(size))
    assert found.shape == (3, 2)
    assert close(found.sum(axis=1), np.ones(len(found)), terms=2 + 2)  # a softmax of 2 classes
    with pytest.raises(Exception, match="dimensions"):
        outputs(edited, pictures(224))


def test_for_its_own_size_nothing_changes(usual: bytes) -> None:
    edited = for_size(without_unread_sums(usual), 224)
    assert np.array_equal(outputs(edited, pictures(224)), outputs(usual, pictures(224)))
