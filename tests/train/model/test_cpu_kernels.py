"""Faster layers on a CPU: the image tower's outputs and gradients are transformers' own."""

import copy

import pytest
import torch
from torch import nn
from transformers.models.align.modeling_align import AlignVisionDepthwiseConv2d

from alignset.train.model.cpu_kernels import Mean2d, Pad2d, WideDepthwiseConv2d
from alignset.train.model.kernels import CPU, PLAIN, use_kernels
from tests.support.closeness import close
from tests.support.small_training import small_model

pytestmark = pytest.mark.numeric


def seen(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of the input and of the parameters."""
    x = x.clone(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    weights = torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).cos()
    return [y, *torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])]


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kernel", [5, 7])
@pytest.mark.parametrize(("stride", "padding"), [(1, "same"), (2, "valid")])
@pytest.mark.parametrize("side", [8, 11])
def test_wide_kernels(kernel: int, stride: int, padding: str, side: int):
    plain = AlignVisionDepthwiseConv2d(
        6, kernel_size=kernel, stride=stride, padding=padding, bias=False
    ).double()
    fast = copy.deepcopy(plain)
    fast.__class__ = WideDepthwiseConv2d
    x = images(3, 6, side, side)
    terms = 3 * side**2 + kernel**2  # a weight's gradient sums over all places
    for ours, expected in zip(seen(fast, x), seen(plain, x), strict=True):
        assert close(ours, expected, terms=terms)


def test_maps_that_are_smaller_than_the_kernel():
    plain = nn.Conv2d(6, 6, 5, padding="same", groups=6, bias=False).double()
    fast = copy.deepcopy(plain)
    fast.__class__ = WideDepthwiseConv2d
    x = images(2, 6, 2, 3)
    for ours, expected in zip(seen(fast, x), seen(plain, x), strict=True):
        assert close(ours, expected, terms=5 * 5 + 2 * 2 * 3)


@pytest.mark.parametrize("padding", [(0, 1, 0, 1), (1, 2, 1, 2), (2, 0, 0, 3)])
def test_padding(padding: tuple[int, int, int, int]):
    x = images(2, 3, 4, 5)
    ours, expected = seen(Pad2d(padding), x), seen(nn.ZeroPad2d(padding), x)
    assert all(torch.equal(*pair) for pair in zip(ours, expected, strict=True))
    assert ours[0].is_contiguous(memory_format=torch.channels_last)


def test_means():
    x = images(2, 3, 4, 5)
    for ours, expected in zip(seen(Mean2d(), x), seen(nn.AdaptiveAvgPool2d(1), x), strict=True):
        assert close(ours, expected, terms=4 * 5)


def test_the_towers_layers_are_those():
    tower = small_model(vocabulary_size=50, kernels=PLAIN).align.vision_model
    names = list(tower.state_dict())
    assert not {Pad2d, Mean2d} & {type(module) for module in tower.modules()}
    use_kernels(tower, CPU)
    assert list(tower.state_dict()) == names
    kinds = [type(module) for module in tower.modules()]
    blocks = len(tower.encoder.blocks)
    wide = [
        b for b in tower.encoder.blocks if b.depthwise_conv.depthwise_conv.kernel_size == (5, 5)
    ]
    assert wide
    assert (kinds.count(Pad2d), kinds.count(Mean2d)) == (blocks, blocks)
    assert kinds.count(WideDepthwiseConv2d) == len(wide)
    assert nn.AdaptiveAvgPool2d not in kinds
