"""Activations that are computed twice: the same gradients, statistics and random numbers."""

import copy
from dataclasses import replace

import pytest

from alignset.train.step import step_gradients
from tests.support.closeness import close, largest, summed_terms
from tests.support.small_training import (
    SETTINGS,
    in_float64,
    small_inputs,
    small_model,
    small_tokenizer,
)

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("micro_batch_size", [6, 3])
def test_activations_that_are_computed_twice_change_nothing(device, micro_batch_size: int):
    tokenizer = small_tokenizer()
    settings = replace(SETTINGS, micro_batch_size=micro_batch_size, text_dropout=0.3, drop_path=0.4)
    twice = replace(settings, checkpoint_activations=True)
    after = []
    with in_float64():
        for numbers in (settings, twice):
            model = small_model(numbers, vocabulary_size=len(tokenizer))
            model.double().to(device).train()
            texts = small_inputs(tokenizer).captions
            parts = [
                small_inputs(tokenizer, texts[i : i + micro_batch_size], numbers)
                for i in range(0, 6, micro_batch_size)
            ]
            step_gradients(model, iter(parts), numbers, 1)
            gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            after.append(copy.deepcopy(gradients | dict(model.named_buffers())))
    assert after[0].keys() == after[1].keys()
    terms, scale = 2 * summed_terms(model), largest(after[0].values())
    for name, value in after[0].items():
        assert close(value, after[1][name], terms=terms, scale=scale), name
