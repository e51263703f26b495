"""Layers that compute the same in less time on a CPU. The model can be understood without them.

`train/model/kernels.py` says where they are used.
"""

from collections.abc import Callable
from types import EllipsisType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import grad
from transformers import AlignVisionModel

from alignset.train.model.batch_norm import GhostBatchNorm2d
from alignset.train.model.image_tower import tower_blocks

# Untyped by torch.
conv2d_input: Callable[..., torch.Tensor] = grad.conv2d_input
conv2d_weight: Callable[..., torch.Tensor] = grad.conv2d_weight
# Wider kernels' gradients go through oneDNN's dense kernel, sixteenfold: it has none for them.
_WIDEST = 3


def use_cpu_kernels(model: nn.Module) -> None:
    """Changes the image tower of `model` in place; its parameters and their names stay."""
    for module in list(model.modules()):
        if isinstance(module, GhostBatchNorm2d):
            module.__class__ = CpuGhostBatchNorm2d
        elif isinstance(module, AlignVisionModel):
            _use_fast_layers(module)


def _use_fast_layers(vision_model: AlignVisionModel) -> None:
    for block in tower_blocks(vision_model):
        convolution: nn.Conv2d = block.depthwise_conv.depthwise_conv
        if convolution.kernel_size[1] > _WIDEST:
            convolution.__class__ = WideDepthwiseConv2d
        block.depthwise_conv.depthwise_conv_pad.__class__ = Pad2d
        block.squeeze_excite.set_submodule("squeeze", Mean2d())


class CpuGhostBatchNorm2d(GhostBatchNorm2d):
    """A loop too, because in channels-last memory the groups are views: folding the groups into
    the channels takes 30% of a step of EfficientNet-B0. Each group is written where it belongs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w], the same
        grouped = self.training and len(x) > self.group_size
        if not grouped or x.dtype != self.weight.dtype or not _kernel_is_right(x):
            return super().forward(x)
        means = variances = None
        if self.track_running_stats:
            means, variances = self.running_mean, self.running_var
            batches = self.num_batches_tracked
            assert batches is not None  # since the statistics are tracked
            batches.add_(-(-len(x) // self.group_size))
        running = means, variances, self.momentum
        return _NormalisedGroups.apply(
            x, self.weight, self.bias, running, self.group_size, self.eps
        )


def _kernel_is_right(x: torch.Tensor) -> bool:
    """Whether torch's kernel with a given output is right: of other memory than these two it reads
    wrong values, and of one value a channel its variance is no number. It says neither."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return (last or x.is_contiguous()) and x.shape[2] * x.shape[3] > 1


class _Groups(Protocol):
    """What torch hands from the pass forward to the one backward."""

    saved_tensors: tuple[torch.Tensor, ...]
    group_size: int
    eps: float

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


# Mean, variance, and the weight of a new group in them; without the first two, they aren't tracked.
_Running = tuple[torch.Tensor | None, torch.Tensor | None, float | None]


class _NormalisedGroups(torch.autograd.Function):
    """The loop of GhostBatchNorm2d, each group written where it belongs: to put them together
    afterwards takes 4% of the step, each way."""

    @staticmethod
    def forward(
        ctx: _Groups,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        running: _Running,
        group_size: int,
        eps: float,
    ) -> torch.Tensor:
        means, variances, momentum = running
        out = torch.empty_like(x)  # float[b, c, h, w]
        statistics: list[torch.Tensor] = []  # two of float[c] for each group
        groups = (torch.split(whole, group_size) for whole in (x, out))
        for group, place in zip(*groups, strict=True):
            mean, inverse_std = torch.empty_like(weight), torch.empty_like(weight)
            torch.ops.aten.native_batch_norm.out(
                *(group, weight, bias, means, variances, True, momentum, eps),
                **{"out": place, "save_mean": mean, "save_invstd": inverse_std},
            )
            statistics += [mean, inverse_std]
        ctx.save_for_backward(x, weight, *statistics)
        ctx.group_size, ctx.eps = group_size, eps
        return out

    @staticmethod
    def backward(ctx: _Groups, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, *statistics = ctx.saved_tensors
        of_x = torch.empty_like(x)
        of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        each = (torch.split(whole, ctx.group_size) for whole in (x, gradient, of_x))
        groups = zip(*each, statistics[::2], statistics[1::2], strict=True)
        for group, of_group, place, mean, inverse_std in groups:
            _, part_weight, part_bias = torch.ops.aten.native_batch_norm_backward(
                *(of_group, group, weight, None, None, mean, inverse_std, True, ctx.eps),
                [False, True, True],
            )  # float[c], float[c]: this group's part of the gradients of weight and bias
            of_weight += part_weight
            of_bias += part_bias
            # By n images and places, it is
            # scale * (of_group - (part_bias + (group - mean) * inverse_std * part_weight) / n).
            n = group.numel() // len(weight)
            scale = weight * inverse_std  # float[c]
            slope = scale * inverse_std * part_weight / -n  # float[c]
            rest = -slope * mean - scale * part_bias / n  # float[c]
            torch.addcmul(_along(rest), group, _along(slope), out=place)
            place.addcmul_(of_group, _along(scale))
        return of_x, of_weight, of_bias, None, None, None


def _along(channels: torch.Tensor) -> torch.Tensor:  # float[c] -> float[c, 1, 1]
    return channels[:, None, None]


class WideDepthwiseConv2d(nn.Conv2d):
    """Of odd width. The gradient of its weights is put together of narrower kernels'."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w]
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if not learns or torch.is_autocast_enabled("cpu"):
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
