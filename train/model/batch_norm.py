"""BatchNorm over small groups of images, as each core of the paper's TPU had them ("ghost")."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose statistics are those of `group_size` images each, however many come."""

    group_size: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w], the same
        if not self.training or len(x) <= self.group_size:
            return super().forward(x)
        groups = torch.split(x, self.group_size)
        return torch.cat([super(GhostBatchNorm2d, self).forward(group) for group in groups])


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
