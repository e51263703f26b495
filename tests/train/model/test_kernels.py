"""The switch: each device has its code, and all of them compute what the plain layers do."""

from dataclasses import replace

import pytest
import torch

from alignset.train.loss import contrastive_loss
from alignset.train.model.gpu_kernels import FusedSelfAttention, GpuGhostBatchNorm2d
from alignset.train.model.kernels import CPU, GPU, PLAIN, kernels_of
from alignset.train.towers import TEXT_TOWERS
from tests.support.closeness import close, largest
from tests.support.small_training import (
    SETTINGS,
    in_float64,
    small_inputs,
    small_model,
    small_tokenizer,
)

pytestmark = pytest.mark.numeric

# Of the softmax of each layer of the text tower, there and back.
TERMS = 2 * SETTINGS.max_tokens * TEXT_TOWERS[SETTINGS.text_tower].layers


@pytest.mark.parametrize("kernels", [CPU, GPU])
def test_a_model_has_the_embeddings_and_gradients_of_the_plain_one(device, kernels: str):
    """Of texts of different lengths, so that attention has padding to leave out."""
    if kernels == CPU and device.type != "cpu":
        kernels = GPU
    settings = replace(SETTINGS, batch_norm_group_size=3, text_buckets=1, drop_path=0.0)
    tokenizer = small_tokenizer()
    inputs = small_inputs(tokenizer, settings=settings)
    after = []
    with in_float64():
        for of_model in (PLAIN, kernels):
            model = small_model(settings, vocabulary_size=len(tokenizer), kernels=of_model)
            model.double().to(device).to(memory_format=torch.channels_last).train()
            outputs = model(inputs)
            contrastive_loss(*outputs).backward()
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            after.append(([*outputs, *model.buffers()], gradients))
    kinds = {type(module) for module in model.modules()}
    assert ({FusedSelfAttention, GpuGhostBatchNorm2d} <= kinds) == (kernels == GPU)
    # transformers computes its softmax in float32 whatever it is given. Some gradients are 0, but
    # for rounding: a key's bias, and a shift in front of a BatchNorm.
    for of_both, scale in zip(zip(*after, strict=True), (1.0, largest(after[0][1])), strict=True):
        for expected, ours in zip(*of_both, strict=True):
            assert close(ours, expected, terms=TERMS, scale=scale, precision=torch.float32)


def test_each_device_has_its_kernels():
    assert kernels_of("cpu") == CPU
    assert kernels_of("cuda") == kernels_of("cpu", compiled=True) == GPU
