"""What a training step takes of a GPU's memory, computed before it starts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from transformers import AlignTextModel, AlignVisionModel

from alignset.train.errors import SettingsError
from alignset.train.loss import ROWS_AT_ONCE
from alignset.train.model.dual_encoder import pooled_width, text_config, vision_config
from alignset.train.model.image_tower import tower_blocks
from alignset.train.settings import Settings
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS

# What CUDA and cuDNN take, or on a CPU Python with its packages, and what lies between tensors: a
# guess on a GPU, not measured.
_OWN, _GAPS = {"cuda": 2 << 30, "cpu": 3 << 28}, 0.05
_FLOAT = 4  # bytes
_WHOSE = {"cuda": "the GPU", "cpu": "each process"}


@dataclass(frozen=True)
class Memory:
    """Bytes of one process."""

    state: int  # weights, gradients, the optimizer's averages
    activations: int  # what lies between a micro-batch's pass forward and back
    working: int  # of the operation that takes most
    batch: int  # of the loss and of all embeddings
    own: int  # of the process itself

    @property
    def total(self) -> int:
        needed = self.state + self.activations + self.working + self.batch
        return self.own + round((1 + _GAPS) * needed)


def memory_needed(settings: Settings, processes: int, device: str = "cuda") -> Memory:
    """Bytes that each of so many processes needs for one step.

    - State: a float32 weight, its gradient and two averages, 16 bytes a parameter; 4 more while
      LAMB has the moves of all, or while the towers have their weights in bfloat16. Of a frozen
      tower the weight alone.
    - Activations: what each layer keeps for the way back, of a micro-batch. Where they are computed
      twice, the inputs of all blocks and what the largest block keeps. A frozen tower keeps none.
    - Working memory: float32 copies of the largest map in BatchNorm, three at a time.
    - Batch: scores of 512 rows with all pairs, and the embeddings of all pairs.

    Args:
      settings: with what follows the device decided (`Settings.on`).
      device: "cuda" or "cpu".
    """
    image_tower = _image_tower(settings.image_tower)
    text_tower = _text_tower(settings.text_tower, settings.vocabulary_size)
    _, pairs = settings.micro_batches(processes)
    images, largest = _image_values(image_tower, settings)
    width = 2 if settings.precision == "bf16" else 4
    texts = _text_bytes(text_tower, settings, width)
    share, d = settings.batch_size // processes, pooled_width(IMAGE_TOWERS[settings.image_tower])
    # The linear layer behind the text tower is d x its width, and trained with either.
    trained, frozen = d * (text_tower.config.hidden_size + 1), 0
    for name, tower in (("image", image_tower), ("text", text_tower)):
        parameters = sum(parameter.numel() for parameter in tower.parameters())
        if settings.freeze == name:
            frozen += parameters
        else:
            trained += parameters
    activations = {"image": width * images, "text": texts} | {settings.freeze: 0}
    scores = 6 * min(ROWS_AT_ONCE, share) * settings.batch_size
    embeddings = 2 * d * (4 * share + 3 * settings.batch_size)
    return Memory(
        state=_FLOAT * (5 * trained + frozen),
        activations=pairs * sum(activations.values()),
        working=pairs * 3 * _FLOAT * largest,
        batch=_FLOAT * (scores + embeddings),
        own=_OWN[device],
    )


@lru_cache(16)
def _image_tower(name: str) -> AlignVisionModel:
    """Its shapes alone, without memory."""
    with torch.device("meta"):
        return AlignVisionModel(vision_config(IMAGE_TOWERS[name], Settings()))


@lru_cache(16)
def _text_tower(name: str, vocabulary_size: int) -> AlignTextModel:
    with torch.device("meta"):
        return AlignTextModel(text_config(TEXT_TOWERS[name], Settings(), vocabulary_size))


def _image_values(tower: AlignVisionModel, settings: Settings) -> tuple[int, int]:
    """How many values the image tower keeps of one image, and how many its largest map has."""
    side, blocks = -(-settings.crop_px // 2), []
    stem = tower.embeddings.convolution.out_channels
    # The pixels; the convolution's output and BatchNorm's.
    kept, largest = 3 * settings.crop_px**2 + 2 * stem * side**2, stem * side**2
    for block in tower_blocks(tower):
        depthwise, entry = block.depthwise_conv.depthwise_conv, side
        inner, stride = depthwise.in_channels, depthwise.stride[0]
        side = -(-entry // stride)
        outer = block.projection.project_conv.out_channels
        comes = inner if not block.expand else block.expansion.expand_conv.in_channels
        # Of each convolution its input; of each BatchNorm its input; of each swish its input.
        before = 3 * inner * entry**2 if block.expand else 0
        if stride > 1 and not block.expand:
            before = inner * entry**2  # padded
        within = before + 4 * inner * side**2 + outer * side**2
        blocks.append((comes * entry**2, within))
        largest = max(largest, inner * entry**2)
    inputs, inner_values = (sum(values) for values in zip(*blocks, strict=True))
    if settings.checkpoint_activations:
        return kept + inputs + max(within for _, within in blocks), largest
    return kept + inputs + inner_values, largest


def _text_bytes(tower: AlignTextModel, settings: Settings, width: int) -> int:
    """What the text tower keeps of one text of as many tokens as there may be."""
    config = tower.config
    hidden, inner = config.hidden_size, config.intermediate_size
    # Attention: the input of queries, keys and values (in bfloat16 a copy for each), these, what
    # comes of them, twice; the inner layer's output and what gelu makes of it. Masks of dropout are
    # bytes, and LayerNorm's two inputs are float32.
    copies = 3 if width < _FLOAT else 1
    layer = width * ((copies + 6) * hidden + 2 * inner) + 2 * hidden + 2 * _FLOAT * hidden
    of_input = _FLOAT * hidden
    embeddings = 3 * _FLOAT * hidden
    layers = config.num_hidden_layers
    if settings.checkpoint_activations:
        return settings.max_tokens * (embeddings + layers * of_input + layer)
    return settings.max_tokens * (embeddings + layers * layer)


def check_memory(settings: Settings, processes: int, available: int, device: str = "cuda") -> None:
    """Refuses, before anything is done, what will not fit.

    Args:
      available: bytes that each process has of the device, "cuda" or "cpu".

    Raises:
      SettingsError: it names what would fit.
    """
    needed = memory_needed(settings, processes, device).total
    if needed <= available:
        return
    says = f"a step takes about {_gb(needed)} of the {_gb(available)} that {_WHOSE[device]} has"
    for smaller in _smaller(settings, processes):
        would = memory_needed(smaller, processes, device).total
        if would <= available:
            flags = f"--micro_batch_size={smaller.micro_batch_size}"
            if smaller.checkpoint_activations:
                flags += " --checkpoint_activations=true"
            raise SettingsError(f"{says}: with {flags} it takes {_gb(would)}")
    raise SettingsError(
        f"{says}, and no smaller micro-batch fits: name smaller towers by --image_tower and "
        "--text_tower; or --check_memory=false, to try all the same"
    )


def _smaller(settings: Settings, processes: int) -> Iterator[Settings]:
    """The same step with less at once, what costs least time first."""
    # BatchNorm's groups stay what they are.
    least = min(settings.batch_norm_group_size, settings.micro_batches(processes)[1])
    for twice in sorted({settings.checkpoint_activations, True}):
        pairs = settings.micro_batches(processes)[1]
        while pairs >= least:
            smaller = replace(settings, micro_batch_size=pairs, checkpoint_activations=twice)
            try:
                smaller.micro_batches(processes)
            except SettingsError:
                break  # the share can't be cut so
            yield smaller
            pairs //= 2


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
