"""Activations that are computed twice, to take less memory."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AlignModel

from alignset.train.model.image_tower import tower_blocks


def checkpoint_activations(align: AlignModel) -> None:
    """Has each block of both towers keep its input alone, and compute the rest again on the way
    back. The gradients are the same; BatchNorm gathers its statistics the first time."""
    assert align.text_model.encoder is not None  # every AlignModel has one
    for block in (*tower_blocks(align.vision_model), *align.text_model.encoder.layer):
        block.forward = partial(_checkpointed, block, block.forward)


def _checkpointed(block: nn.Module, forward: Callable[..., Any], *args: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **named)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _unmoved_statistics(block)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **named)


@contextmanager
def _unmoved_statistics(block: nn.Module) -> Iterator[None]:
    """Within, BatchNorms keep for the way back what they kept before, running statistics among it,
    and give a batch no weight in these."""
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
