"""Gradient caching: in two passes the gradients, statistics and dropout of one pass."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from alignset.train.data.batches import Batch, make_inputs
from alignset.train.data.images import resize_square
from alignset.train.data.order import Position
from alignset.train.loss import contrastive_loss
from alignset.train.runs import processes
from alignset.train.step import seed_micro_batch, step_gradients
from tests.support.closeness import close, largest
from tests.support.small_training import SETTINGS, in_float64, pictures, small_model

pytestmark = pytest.mark.numeric

NUMBER, SIZE = 4, 4
TEXTS = [
    f"{a} {b}" for a in ("two stars", "a", "no cross", "one red") for b in ("x", "yz", "o", "")
]
BATCH = replace(
    SETTINGS, batch_size=NUMBER * SIZE, micro_batch_size=SIZE, batch_norm_group_size=SIZE
)


@pytest.fixture(autouse=True)
def float64():
    with in_float64():
        yield


def micro_batches(tokenizer, size: int):
    pixels = np.stack([resize_square(np.array(image), 32) for image in pictures(len(TEXTS))])
    for first in range(0, len(TEXTS), size):
        rows = slice(first, first + size)
        batch = Batch(pixels[rows], TEXTS[rows], Position(samples=first + size))
        yield make_inputs(batch, tokenizer, BATCH)


def model_for(device, settings, tokenizer):
    model = small_model(settings, vocabulary_size=len(tokenizer))
    return model.double().to(device).train()


def state_after(model, tokenizer, settings):
    outcome = step_gradients(
        model, micro_batches(tokenizer, settings.micro_batch_size), settings, 7
    )
    return outcome, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


# Each of the 16 pairs goes through both towers (5,900 terms) and back.
TERMS = 2 * 5900 * NUMBER * SIZE


def assert_equal_gradients(gradients: dict, expected: dict):
    assert gradients.keys() == expected.keys()
    scale = largest(expected.values())
    for name, gradient in expected.items():
        assert close(gradients[name], gradient, terms=TERMS, scale=scale), name


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_two_passes_give_the_gradients_of_one_with_the_same_groups(device, tokenizer, loss: str):
    settings = replace(BATCH, loss=loss)
    at_once = model_for(device, settings, tokenizer)
    in_parts = copy.deepcopy(at_once)
    whole, expected = state_after(
        at_once, tokenizer, replace(settings, micro_batch_size=NUMBER * SIZE)
    )
    parts, gradients = state_after(in_parts, tokenizer, settings)
    assert ("bias" in gradients) == (loss == "sigmoid")
    assert_equal_gradients(gradients, expected)
    assert max(g.abs().max() for g in expected.values()) > 0.01
    assert close(parts.loss, whole.loss, terms=TERMS)
    assert close(parts.images, whole.images, terms=TERMS)
    assert close(parts.texts, whole.texts, terms=TERMS)
    assert parts.inputs.position == whole.inputs.position == Position(samples=NUMBER * SIZE)
    # BatchNorm's statistics: gathered once, not once a pass.
    for name, buffer in at_once.named_buffers():
        other = dict(in_parts.named_buffers())[name]
        assert close(other, buffer, terms=TERMS, scale=1.0), name


def test_micro_batches_smaller_than_a_group_weigh_the_same_momentum(device, tokenizer):
    # Their groups are the micro-batches: 4 of 4 images, whatever larger group the settings name.
    buffers = []
    for group_size in (SIZE, 2 * SIZE):
        settings = replace(BATCH, batch_norm_group_size=group_size)
        model = model_for(device, settings, tokenizer)
        state_after(model, tokenizer, settings)
        buffers.append(dict(model.named_buffers()))
    for name, buffer in buffers[0].items():
        assert close(buffers[1][name], buffer, terms=TERMS, scale=1.0), name


def test_dropout_and_stochastic_depth_are_the_same_in_both_passes(device, tokenizer):
    settings = replace(BATCH, drop_path=0.5, text_dropout=0.3)
    model = model_for(device, settings, tokenizer)
    outcome, gradients = state_after(copy.deepcopy(model), tokenizer, settings)
    # The one pass, by hand: the same random numbers for the same pairs, and all graphs kept.
    parts = []
    for i, inputs in enumerate(micro_batches(tokenizer, SIZE)):
        seed_micro_batch(settings, 7, i)
        parts.append(model(inputs))
    images, texts = (torch.cat([part[side] for part in parts]) for side in range(2))
    loss = contrastive_loss(images, texts, model.temperature)
    loss.backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert close(outcome.loss, loss, terms=TERMS)
    assert_equal_gradients(gradients, expected)


def test_a_frozen_image_tower_embeds_each_image_once(device, tokenizer, monkeypatch):
    settings = replace(BATCH, freeze="image", text_dropout=0.3)
    model = model_for(device, settings, tokenizer)
    embed, images = model.embed_images, list[int]()
    model.embed_images = lambda pixels: (images.append(len(pixels)), embed(pixels))[1]
    outcome, gradients = state_after(model, tokenizer, settings)
    assert images == [SIZE] * NUMBER
    for p in model.parameters():
        p.grad = None
    again = [model(inputs)[0] for inputs in micro_batches(tokenizer, SIZE)]
    assert torch.equal(torch.cat(again), outcome.images)
    with monkeypatch.context() as patch:  # as if it were none: embedded in both passes
        patch.setattr(model, "forward", lambda inputs, _=None: type(model).forward(model, inputs))
        _, expected = state_after(model, tokenizer, settings)
    assert gradients.keys() == expected.keys()
    assert all(torch.equal(gradients[name], of) for name, of in expected.items())


def test_random_numbers_follow_from_seed_step_process_and_micro_batch(monkeypatch):
    def drawn(seed: int, step: int, micro_batch: int, rank: int = 0) -> float:
        monkeypatch.setattr(processes, "rank", lambda: rank)
        seed_micro_batch(replace(SETTINGS, seed=seed), step, micro_batch)
        return torch.rand(()).item()

    assert drawn(0, 1, 0) == drawn(0, 1, 0)
    others = {drawn(1, 1, 0), drawn(0, 2, 0), drawn(0, 1, 1), drawn(0, 1, 0, rank=1)}
    assert len({drawn(0, 1, 0), *others}) == 5
