"""The switch: each device has its code, and all of them compute what the plain layers do."""

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
from train.loss import contrastive_loss
from train.model.gpu_kernels import FusedSelfAttention, GpuGhostBatchNorm2d
from train.model.kernels import CPU, GPU, PLAIN, kernels_of


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
            after.append([*outputs, *gradients, *model.buffers()])
    kinds = {type(module) for module in model.modules()}
    assert ({FusedSelfAttention, GpuGhostBatchNorm2d} <= kinds) == (kernels == GPU)
    for ours, expected in zip(after[1], after[0], strict=True):
        # transformers' softmax is float32's whatever it is given.
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


def test_each_device_has_its_kernels():
    assert kernels_of("cpu") == CPU
    assert kernels_of("cuda") == kernels_of("cpu", compiled=True) == GPU
