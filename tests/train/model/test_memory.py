"""Memory of a step by its shapes, and activations that are computed twice."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.support.small_training import (
    SETTINGS,
    in_float64,
    small_inputs,
    small_model,
    small_tokenizer,
)
from train.errors import SettingsError
from train.model.dual_encoder import DualEncoder, new_align
from train.model.memory import check_memory, step_memory
from train.presets import PRESETS
from train.settings import Settings
from train.step import step_gradients


def memory_of(settings: Settings, processes: int = 1):
    with torch.device("meta"):
        align = new_align(settings, 1_000)
        model = DualEncoder(align, settings, batch_size=settings.batch_size).train()
    return step_memory(model, settings, processes)


@pytest.mark.parametrize("micro_batch_size", [6, 3])
def test_activations_that_are_computed_twice_change_nothing(micro_batch_size: int):
    tokenizer = small_tokenizer()
    settings = replace(SETTINGS, micro_batch_size=micro_batch_size, text_dropout=0.3, drop_path=0.4)
    twice = replace(settings, checkpoint_activations=True)
    after = []
    with in_float64():
        for numbers in (settings, twice):
            model = small_model(numbers, vocabulary_size=len(tokenizer)).double().train()
            texts = small_inputs(tokenizer).captions
            parts = [
                small_inputs(tokenizer, texts[i : i + micro_batch_size], numbers)
                for i in range(0, 6, micro_batch_size)
            ]
            step_gradients(model, iter(parts), numbers, 1)
            gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            after.append(copy.deepcopy(gradients | dict(model.named_buffers())))
    assert after[0].keys() == after[1].keys()
    for name, value in after[0].items():
        assert torch.allclose(value, after[1][name], rtol=1e-12, atol=1e-14), name


def test_a_step_takes_what_its_shapes_say():
    settings = replace(PRESETS["laptop"], batch_size=64, micro_batch_size=32)
    memory = memory_of(settings)
    count = sum(p.numel() for p in new_align(settings, 1_000).parameters())
    assert 15.9 * count < memory.weights <= 16 * count  # AdamW: weights, gradients, two averages
    half = memory_of(replace(settings, micro_batch_size=16))
    assert half.activations == memory.activations // 2
    less = memory_of(replace(settings, checkpoint_activations=True))
    assert less.activations < 0.3 * memory.activations
    check_memory(memory, memory.total, 32)
    with pytest.raises(SettingsError, match=r"a step takes about .* activations of 32 pairs"):
        check_memory(memory, memory.total - 1, 32)
