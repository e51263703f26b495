"""BatchNorm over small groups of images, as each core of the paper's TPU had them ("ghost")."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose statistics are those of `group_size` images each, however many come.

    A loop, because in channels-last memory the groups are views: folding the groups into the
    channels takes 30% of a step of EfficientNet-B0 on the CPU.
    """

    group_size: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w], the same
        if not self.training or len(x) <= self.group_size:
            return super().forward(x)
        plain = not x.is_cpu or torch.compiler.is_compiling() or x.dtype != self.weight.dtype
        if plain or not _kernel_is_right(x):
            return torch.cat(
                [super(GhostBatchNorm2d, self).forward(g) for g in torch.split(x, self.group_size)]
            )
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


class _Context(Protocol):
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
        ctx: _Context,
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
    def backward(ctx: _Context, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
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


def use_ghost_groups(
    model: nn.Module, *, group_size: int, batch_size: int, momentum: float
) -> None:
    """Turns each BatchNorm of `model` into one over groups, in place.

    Args:
      group_size: images.
      batch_size: images of one step, on this process.
      momentum: weight of a whole step in the running statistics, in PyTorch's sense: 1 less
        TensorFlow's. Each of its groups gets so much that all of them together weigh this.
    """
    groups = -(-batch_size // group_size)  # the last one may be smaller
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = GhostBatchNorm2d  # keeps parameters, buffers and their names
            assert isinstance(module, GhostBatchNorm2d)
            module.group_size = group_size
            # Set here, because transformers' expand_bn does not look at its config's momentum.
            module.momentum = 1 - (1 - momentum) ** (1 / groups)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Within, BatchNorms normalise as in training, but leave their running statistics alone."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
