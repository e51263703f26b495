"""What a step takes of a device's memory, and activations that are computed twice to take less."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AlignModel

from train.data.inputs import Inputs, Texts
from train.data.position import Position
from train.errors import SettingsError
from train.model.batch_norm import frozen_statistics
from train.model.image_tower import tower_blocks
from train.settings import Settings

_MEASURED = 16  # pairs, of which the activations of all are computed
_FLOAT = 4  # bytes
# Beside what is counted: cuDNN's workspaces, what the allocator can't use, the passing results.
_SLACK = 1.15


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
        return nullcontext(), frozen_statistics(block)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **named)


class StepMemory(NamedTuple):
    """Bytes, on each process."""

    weights: int  # with gradients, two averages, and LAMB's copy
    activations: int  # of one micro-batch
    embeddings: int  # of the batch, with their gradients, twice; and 512 rows of scores

    @property
    def total(self) -> int:
        return round(_SLACK * sum(self))


def step_memory(model: nn.Module, settings: Settings, processes: int) -> StepMemory:
    """What a step takes, by the shapes alone.

    Args:
      model: a DualEncoder on the device "meta", in training.
    """
    _, micro_batch = settings.micro_batches(processes)
    weights = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    copies = 3 + (settings.optimizer == "lamb")
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(_shapes(settings))  # its graph holds what is kept
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    of_some = sum(
        tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own
    )
    width = outputs[0].shape[1]
    share = settings.batch_size // processes
    rows = 4 * share * width + 2 * settings.batch_size * width
    scores = 4 * min(512, share) * settings.batch_size
    return StepMemory(
        weights=_FLOAT * (weights + copies * trained),
        activations=of_some * micro_batch // _MEASURED,
        embeddings=_FLOAT * (rows + scores),
    )


def _shapes(settings: Settings) -> Inputs:
    """A micro-batch of the longest texts, without values."""
    with torch.device("meta"):
        side = settings.crop_px
        pixels = torch.empty((_MEASURED, side, side, 3), dtype=torch.uint8)
        ids = torch.zeros((_MEASURED, settings.max_tokens), dtype=torch.int64)
        texts = Texts([(ids, torch.ones_like(ids))], torch.arange(_MEASURED))
    return Inputs(pixels, texts, [""] * _MEASURED, Position())


def check_memory(memory: StepMemory, available: int, micro_batch: int) -> None:
    """Raises SettingsError where a step does not fit."""
    if memory.total > available:
        raise SettingsError(
            f"a step takes about {_gb(memory.total)} and the device has {_gb(available)} "
            f"(weights {_gb(memory.weights)}, activations of {micro_batch} pairs "
            f"{_gb(memory.activations)}, embeddings {_gb(memory.embeddings)}): lower "
            "--micro_batch_size, or add --checkpoint_activations"
        )


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
