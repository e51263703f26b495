"""A training step's use of a device's memory, computed before it starts. No GPU was measured; the
towers keep what torch keeps of them without memory (tests/train/test_memory.py)."""

from dataclasses import replace
from typing import NamedTuple

import torch
from transformers import AlignTextModel, AlignVisionModel

from alignset.train.errors import SettingsError
from alignset.train.loss import ROWS_AT_ONCE
from alignset.train.model.dual_encoder import pooled_width, text_config, vision_config
from alignset.train.model.tower_layers import tower_blocks
from alignset.train.settings import Settings
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS

# CUDA and cuDNN, a guess, or Python with its packages on a CPU; and what lies between tensors.
_OWN, _GAPS = {"cuda": 2 << 30, "cpu": 3 << 28}, 0.05
_WHOSE = {"cuda": "the GPU", "cpu": "each process"}


class StepMemory(NamedTuple):
    """Bytes of one process in a step."""

    state: int  # weights, gradients, the optimizer's averages
    activations: int  # what lies between a micro-batch's pass forward and back
    working: int  # float32 copies of the largest map in BatchNorm, three at a time
    batch: int  # the loss's scores of 512 rows with all pairs, and all embeddings

    def total(self, device: str) -> int:
        return _OWN[device] + round((1 + _GAPS) * sum(self))


def step_memory(settings: Settings, processes: int) -> StepMemory:
    """The memory that each of so many processes needs. A trained parameter has its weight, gradient
    and two averages in float32, and 4 bytes more for the moves of LAMB or the weight in bfloat16. A
    frozen tower has its weights, and keeps nothing."""
    with torch.device("meta"):  # shapes alone, without memory
        size, words = IMAGE_TOWERS[settings.image_tower], settings.vocabulary_size
        image = AlignVisionModel(vision_config(size, settings))
        text = AlignTextModel(text_config(TEXT_TOWERS[settings.text_tower], settings, words))
    pairs, share = settings.micro_batches(processes)[1], settings.batch_size // processes
    width, d = 2 if settings.precision == "bf16" else 4, pooled_width(size)
    values, largest = _image_values(image, settings)
    kept_bytes = {"image": width * values, "text": _text_bytes(text, settings, width)}
    towers = {"image": image, "text": text}
    numbers = {name: sum(p.numel() for p in tower.parameters()) for name, tower in towers.items()}
    frozen = numbers.pop(settings.freeze, 0)
    kept_bytes.pop(settings.freeze, None)
    trainable = sum(numbers.values()) + d * (text.config.hidden_size + 1)  # and the linear layer
    scores = 6 * min(ROWS_AT_ONCE, share) * settings.batch_size
    embeddings = 2 * d * (4 * share + 3 * settings.batch_size)
    return StepMemory(
        4 * (5 * trainable + frozen),
        pairs * sum(kept_bytes.values()),
        pairs * 3 * 4 * largest,
        4 * (scores + embeddings),
    )


def _image_values(tower: AlignVisionModel, settings: Settings) -> tuple[int, int]:
    """How many values the image tower keeps of one image, and how many its largest map has."""
    side, inputs, within = -(-settings.crop_px // 2), 0, [0]
    stem = tower.embeddings.convolution.out_channels
    # The pixels; the convolution's output and BatchNorm's.
    values, largest = 3 * settings.crop_px**2 + 2 * stem * side**2, stem * side**2
    for block in tower_blocks(tower):
        depthwise, entry = block.depthwise_conv.depthwise_conv, side
        inner, outer = depthwise.in_channels, block.projection.project_conv.out_channels
        side = -(-entry // depthwise.stride[0])
        # The inputs of convolutions, BatchNorms and swishes, or what is padded.
        entries = 3 if block.expand else int(side < entry)
        within.append(inner * (entries * entry**2 + 4 * side**2) + outer * side**2)
        inputs += entry**2 * (block.expansion.expand_conv.in_channels if block.expand else inner)
        largest = max(largest, inner * entry**2)
    return values + inputs + (max if settings.checkpoint_activations else sum)(within), largest


def _text_bytes(tower: AlignTextModel, settings: Settings, width: int) -> int:
    """The text tower's memory for one text of the longest length."""
    config, tokens = tower.config, settings.max_tokens
    hidden, layers = config.hidden_size, config.num_hidden_layers
    # The input of queries, keys and values (in bfloat16 a copy for each), these, and what comes of
    # them; the inner layer's output and what gelu makes of it; masks of dropout, of a byte; two
    # float32 inputs of LayerNorm; the weights of attention.
    copies = 3 if width == 2 else 1
    layer = width * ((copies + 5) * hidden + 2 * config.intermediate_size) + 10 * hidden
    layer += config.num_attention_heads * tokens * (5 + width)
    once = 4 * layers * hidden + layer  # where a layer keeps its input alone
    return tokens * (12 * hidden + (once if settings.checkpoint_activations else layers * layer))


def check_memory(settings: Settings, processes: int, available: int, device: str = "cuda") -> None:
    """Refuses, before anything is done, what will not fit into so many bytes of each process.

    Raises:
      SettingsError: it names what would fit, of what costs least time first.
    """
    need = step_memory(settings, processes).total(device)
    if need <= available:
        return
    error = f"a step takes about {_gb(need)} of the {_gb(available)} that {_WHOSE[device]} has"
    pairs = whole = settings.micro_batches(processes)[1]
    least = min(settings.batch_norm_group_size, whole)  # BatchNorm's groups stay what they are
    for twice in sorted({settings.checkpoint_activations, True}):
        while pairs >= least and whole % pairs == pairs % least == 0:
            smaller = replace(settings, micro_batch_size=pairs, checkpoint_activations=twice)
            would = step_memory(smaller, processes).total(device)
            if would <= available:
                flags = f"--micro_batch_size={pairs}{twice * ' --checkpoint_activations=true'}"
                raise SettingsError(f"{error}: with {flags} it takes {_gb(would)}")
            pairs //= 2
        pairs = whole
    raise SettingsError(
        f"{error}, and no smaller micro-batch fits: name smaller towers by --image_tower and "
        "--text_tower; or --check_memory=false, to try all the same"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
