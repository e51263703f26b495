"""transformers' image tower: its blocks, its initialisation, BatchNorm over small groups of images
as each core of the paper's TPU had them ("ghost"), and activations that are computed twice."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AlignModel, AlignVisionModel
from transformers.models.align.modeling_align import AlignVisionBlock


def tower_blocks(vision_model: AlignVisionModel) -> Iterator[AlignVisionBlock]:
    for block in vision_model.encoder.blocks:
        assert isinstance(block, AlignVisionBlock)
        yield block


class Mean2d(nn.Module):
    """AdaptiveAvgPool2d(1). A sum's gradient is a view, and a mean's as large as the map: 5 % of a
    step on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w] -> float[b, c, 1, 1]
        return x.sum(dim=(2, 3), keepdim=True) / (x.shape[2] * x.shape[3])


def use_sums(vision_model: AlignVisionModel) -> None:
    """Has squeeze-excite take its means by Mean2d, in place."""
    for block in tower_blocks(vision_model):
        block.squeeze_excite.set_submodule("squeeze", Mean2d())


@torch.no_grad()
def draw_first_weights(vision_model: AlignVisionModel) -> None:
    """Draws weights as EfficientNet's own code does, for the stem and squeeze-excite too: normal,
    of variance 2 / fan-out, where transformers has a standard deviation of 0.02 for all. The
    fan-out of a depthwise kernel is its area alone.

    Source: Tan and Le, 2019, `conv_kernel_initializer` of the code.
    """
    for module in vision_model.modules():
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            fan_out = height * width * module.out_channels // module.groups
            module.weight.normal_(0.0, math.sqrt(2 / fan_out))
            if module.bias is not None:
                module.bias.zero_()


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with statistics over groups of `group_size` images, however many come."""

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


def checkpoint_activations(align: AlignModel, *, compiles: bool = False) -> None:
    """Has each block of both towers keep its input alone, and compute the rest again in the
    backward pass. The gradients are the same; BatchNorm gathers its statistics the first time.

    Args:
      compiles: whether each block is compiled by itself: dynamo compiles no checkpoint that has
        contexts of its own, as a tower would be one with.
    """
    assert align.text_model.encoder is not None  # every AlignModel has one
    images, texts = list(tower_blocks(align.vision_model)), list(align.text_model.encoder.layer)
    if compiles:  # one code of all blocks, for both ways to treat statistics and several shapes
        torch._dynamo.config.recompile_limit = 8 * (len(images) + len(texts))
    for block in (*images, *texts):
        forward = torch.compile(block.forward, dynamic=True) if compiles else block.forward
        block.forward = partial(_checkpoint, block, forward)


def _checkpoint(block: nn.Module, forward: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **keywords)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _unmoved_statistics(block)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **keywords)


@contextmanager
def _unmoved_statistics(block: nn.Module) -> Iterator[None]:
    """Within, BatchNorms keep for the backward pass what they kept before, running statistics among
    it, and give a batch no weight in these."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        assert norm.num_batches_tracked is not None  # since the statistics are tracked
        norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
