"""Micro-batches between two passes: in memory as long as they fit, and the same again."""

import pytest
import torch

from alignset.train.kept_inputs import KeptInputs
from tests.support.small_training import TEXTS, small_inputs, small_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.mark.parametrize("fitting", [0, 1, 2])  # of two micro-batches, by their pixels
def test_kept_inputs_come_back_in_order_and_twice(tokenizer, fitting: int):
    first, second = small_inputs(tokenizer), small_inputs(tokenizer, TEXTS[:3])
    # Of each the next power of two: 18,432 and 9,216 bytes of pixels.
    assert (first.pixels.nbytes, second.pixels.nbytes) == (18_432, 9_216)
    memory = sum((32_768, 16_384)[:fitting])
    with KeptInputs(memory) as kept:
        kept.append(first)
        kept.append(second)
        for _ in range(2):
            backs = list(kept)
            for inputs, back in zip((first, second), backs, strict=True):
                assert torch.equal(inputs.pixels, back.pixels)
                assert back.texts is inputs.texts
                assert back.position == inputs.position
            in_memory = [
                back.pixels is of.pixels for back, of in zip(backs, (first, second), strict=True)
            ]
            assert in_memory == [fitting > 0, fitting > 1]
