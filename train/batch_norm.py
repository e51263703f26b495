"""BatchNorm over small groups of images, as each core of the paper's TPU had them ("ghost")."""

from collections.abc import Iterator
from contextlib import contextmanager

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
        if x.is_cuda or torch.compiler.is_compiling():
            return torch.cat(
                [super(GhostBatchNorm2d, self).forward(g) for g in x.split(self.group_size)]
            )
        means = variances = None
        if self.track_running_stats:
            means, variances = self.running_mean, self.running_var
            self.num_batches_tracked.add_(-(-len(x) // self.group_size))
        running = means, variances, self.momentum
        return _NormalisedGroups.apply(
            x, self.weight, self.bias, running, self.group_size, self.eps
        )


class _NormalisedGroups(torch.autograd.Function):
    """The loop of GhostBatchNorm2d, each group written where it belongs: to put them together
    afterwards takes 4% of the step."""

    @staticmethod
    def forward(ctx, x, weight, bias, running, group_size, eps):
        means, variances, momentum = running
        out, found = torch.empty_like(x), []  # float[b, c, h, w], two of float[c] for each group
        for group, place in zip(x.split(group_size), out.split(group_size), strict=True):
            mean, inverse_std = torch.empty_like(weight), torch.empty_like(weight)
            torch.ops.aten.native_batch_norm.out(
                *(group, weight, bias, means, variances, True, momentum, eps),
                **{"out": place, "save_mean": mean, "save_invstd": inverse_std},
            )
            found += [mean, inverse_std]
        ctx.save_for_backward(x, weight, *found)
        ctx.group_size, ctx.eps = group_size, eps
        return out

    @staticmethod
    def backward(ctx, gradient):
        x, weight, *found = ctx.saved_tensors
        groups = zip(x.split(ctx.group_size), gradient.split(ctx.group_size), strict=True)
        parts = []  # of (float[g, c, h, w], float[c], float[c])
        for i, (group, of_group) in enumerate(groups):
            mean, inverse_std = found[2 * i : 2 * i + 2]
            parts.append(
                torch.ops.aten.native_batch_norm_backward(
                    *(of_group, group, weight, None, None, mean, inverse_std, True, ctx.eps),
                    [True, True, True],
                )
            )
        of_x, of_weight, of_bias = zip(*parts, strict=True)
        return torch.cat(of_x), sum(of_weight), sum(of_bias), None, None, None


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
    groups = max(1, batch_size // group_size)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = GhostBatchNorm2d  # keeps parameters, buffers and their names
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
