"""The image tower's first weights, and its means."""

from dataclasses import replace

import pytest
import torch

from alignset.train.model.dual_encoder import new_align
from alignset.train.model.tower_layers import Mean2d, tower_blocks
from tests.support.closeness import close
from tests.support.small_training import SETTINGS


def test_first_weights_are_those_of_efficientnets_code():
    """By the sizes of each kind of kernel; squeeze-excite's second has few inputs."""
    torch.manual_seed(4)
    tower = new_align(replace(SETTINGS, image_tower="b0"), 100).vision_model
    block = list(tower_blocks(tower))[5]
    depthwise = block.depthwise_conv.depthwise_conv
    kernels = {
        tower.embeddings.convolution: 3 * 3 * 32,
        block.expansion.expand_conv: block.expansion.expand_conv.out_channels,
        depthwise: depthwise.kernel_size[0] ** 2,
        block.squeeze_excite.expand: block.squeeze_excite.expand.out_channels,
        block.projection.project_conv: block.projection.project_conv.out_channels,
    }
    for kernel, fan_out in kernels.items():
        deviation = kernel.weight.std(correction=0).item()
        spread = 4 / (2 * kernel.weight.numel()) ** 0.5
        assert deviation == pytest.approx((2 / fan_out) ** 0.5, rel=spread)
    assert not block.squeeze_excite.reduce.bias.any()


def test_means_and_their_gradients_are_poolings():
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ways = Mean2d(), torch.nn.AdaptiveAvgPool2d(1)
    outputs = [way(x) for way in ways]
    gradients = [torch.autograd.grad((of * of).sum(), x)[0] for of in outputs]
    for ours, expected in (outputs, gradients):
        assert close(ours, expected, terms=5 * 4)
