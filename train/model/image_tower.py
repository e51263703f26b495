"""Layers of transformers' image tower that compute the same in less time, on a CPU."""

import math
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import grad
from transformers import AlignVisionModel
from transformers.models.align.modeling_align import AlignVisionBlock

# Untyped by torch.
conv2d_input: Callable[..., torch.Tensor] = grad.conv2d_input
conv2d_weight: Callable[..., torch.Tensor] = grad.conv2d_weight
# Wider kernels' gradients go through oneDNN's dense kernel, sixteenfold: it has none for them.
_WIDEST = 3


def tower_blocks(vision_model: AlignVisionModel) -> Iterator[AlignVisionBlock]:
    for block in vision_model.encoder.blocks:
        assert isinstance(block, AlignVisionBlock)
        yield block


@torch.no_grad()
def draw_first_weights(vision_model: AlignVisionModel) -> None:
    """Those of EfficientNet's own code, of the stem and of squeeze-excite too: normal, of variance
    2 / fan-out, where transformers has a standard deviation of 0.02 for all. A depthwise kernel's
    fan-out is its area alone.

    Source: Tan and Le, 2019, `conv_kernel_initializer` of the code.
    """
    for module in vision_model.modules():
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            fan_out = height * width * module.out_channels // module.groups
            module.weight.normal_(0.0, math.sqrt(2 / fan_out))
            if module.bias is not None:
                module.bias.zero_()


def use_fast_layers(vision_model: AlignVisionModel) -> None:
    """Changes `vision_model` in place; its parameters and their names stay."""
    for block in tower_blocks(vision_model):
        convolution: nn.Conv2d = block.depthwise_conv.depthwise_conv
        if convolution.kernel_size[1] > _WIDEST:
            convolution.__class__ = WideDepthwiseConv2d
        block.depthwise_conv.depthwise_conv_pad.__class__ = Pad2d
        block.squeeze_excite.set_submodule("squeeze", Mean2d())


class WideDepthwiseConv2d(nn.Conv2d):
    """Of odd width. The gradient of its weights is put together of narrower kernels'."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w]
        plain = not x.is_cpu or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
        if plain or not (torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(x)
        padding = self.kernel_size[0] // 2 if self.padding == "same" else 0
        return _Convolved.apply(x, self.weight, self.stride[0], padding)


class _Convolution(Protocol):
    """What torch hands from the pass forward to the one backward."""

    saved_tensors: tuple[torch.Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    sizes: tuple[int, int, int]

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Convolution, x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int
    ) -> torch.Tensor:  # weight: float[c, 1, k, k]
        ctx.save_for_backward(x, weight)
        ctx.sizes = stride, padding, len(weight)  # as of conv2d, from stride on, less dilation
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(
        ctx: _Convolution, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:  # gradient: float[b, c, oh, ow]
        x, weight = ctx.saved_tensors
        stride, padding, groups = ctx.sizes
        k, (oh, ow) = weight.shape[-1], gradient.shape[2:]
        top, bottom = padding, (oh - 1) * stride + k - padding - x.shape[2]
        parts = []
        for first in range(0, k, _WIDEST):  # columns of the kernel
            width = min(_WIDEST, k - first)
            left = padding - first
            right = (ow - 1) * stride + width - left - x.shape[3]
            area = F.pad(x, (left, right, top, bottom))  # all that these columns meet
            part = (groups, 1, k, width)
            parts.append(conv2d_weight(area, part, gradient, stride, groups=groups))
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = conv2d_input(x.shape, weight, gradient, stride, padding, groups=groups)
        return of_x, torch.cat(parts, dim=3), None, None


class Pad2d(nn.ZeroPad2d):
    """Only the border is filled with zeros, and the gradient is no copy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w], channels last
        if not x.is_cpu or torch.compiler.is_compiling():
            return super().forward(x)
        return _Padded.apply(x, self.padding)


class _Border(Protocol):
    """What torch hands from the pass forward to the one backward."""

    inner: tuple[EllipsisType, slice, slice]


class _Padded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Border, x: torch.Tensor, padding: tuple[int, int, int, int]) -> torch.Tensor:
        left, right, top, bottom = padding
        b, c, h, w = x.shape
        ctx.inner = (..., slice(top, top + h), slice(left, left + w))
        out = x.new_empty(b, top + h + bottom, left + w + right, c).permute(0, 3, 1, 2)
        for border in (
            out[:, :, :top],
            out[:, :, top + h :],
            out[..., :left],
            out[..., left + w :],
        ):
            border.zero_()
        out[ctx.inner] = x
        return out

    @staticmethod
    def backward(ctx: _Border, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient[ctx.inner], None


class Mean2d(nn.Module):
    """AdaptiveAvgPool2d(1); a sum's gradient takes no memory, a mean's is as large as the map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w] -> float[b, c, 1, 1]
        return x.sum(dim=(2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
