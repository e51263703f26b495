"""Inputs on each device."""

import numpy as np
import pytest
import torch

from alignset.train.data.batches import Batch
from alignset.train.data.inputs import on_device, to_inputs
from alignset.train.data.position import Position
from tests.support.small_training import SETTINGS, TEXTS, small_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def test_inputs_reach_their_device_whole(device, tokenizer):
    gpu = 0 if device.type == "cuda" else None
    batch = Batch(np.zeros((6, 4, 4, 3), np.uint8), TEXTS, Position())
    inputs = to_inputs(batch, tokenizer, SETTINGS, gpu=gpu)
    assert inputs.pixels.is_pinned() == (gpu is not None)
    placed = on_device(inputs, device)
    for theirs, ours in ((placed, inputs), (on_device(placed, device), placed)):
        assert torch.equal(theirs.pixels.cpu(), ours.pixels.cpu())
        pairs = zip(theirs.texts.buckets, ours.texts.buckets, strict=True)
        for tensors in pairs:
            for moved, from_there in zip(*tensors, strict=True):
                assert moved.device.type == device.type
                assert torch.equal(moved.cpu(), from_there.cpu())
        assert torch.equal(theirs.texts.place.cpu(), ours.texts.place.cpu())
        assert (theirs.captions, theirs.position) == (TEXTS, Position())
