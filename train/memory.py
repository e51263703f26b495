"""A rough bound of a training step's memory, before the first step, and its real use after that."""

import resource

import torch
from transformers import AlignTextModel, AlignVisionModel

from alignset.train.errors import SettingsError
from alignset.train.model.dual_encoder import text_config, vision_config
from alignset.train.model.tower_layers import tower_blocks
from alignset.train.settings import Settings
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS

_OWN = 3 << 28  # bytes of CUDA, or of Python with its packages


def step_bytes(settings: Settings, processes: int) -> tuple[int, int]:
    """About what a step takes in each of so many processes: once, and for each pair that goes
    through the towers at once. A trained weight has a gradient, two averages and a move."""
    words = text_config(TEXT_TOWERS[settings.text_tower], settings, settings.vocabulary_size)
    with torch.device("meta"):  # shapes alone, without memory
        image = AlignVisionModel(vision_config(IMAGE_TOWERS[settings.image_tower], settings))
        numbers = {"image": image.num_parameters(), "text": AlignTextModel(words).num_parameters()}
    side, of_blocks, largest = -(-settings.crop_px // 2), [], 0
    for block in tower_blocks(image):  # what its convolutions, BatchNorms and swishes keep
        convolution, entry = block.depthwise_conv.depthwise_conv, side
        side, inner = -(-entry // convolution.stride[0]), convolution.in_channels
        of_blocks.append(inner * (3 * block.expand * entry**2 + 4 * side**2))
        largest = max(largest, inner * entry**2)  # of which BatchNorm has float32 copies
    of_layer = settings.max_tokens * (6 * words.hidden_size + 2 * words.intermediate_size)
    kept = max if settings.checkpoint_activations else sum
    values = {"image": kept(of_blocks), "text": kept([of_layer] * words.num_hidden_layers)}
    values.pop(settings.freeze, None)
    once = _OWN + 4 * numbers.pop(settings.freeze, 0) + 20 * sum(numbers.values())
    once += 24 * min(512, settings.batch_size // processes) * settings.batch_size  # scores
    return once, sum(values.values()) * (2 if settings.precision == "bf16" else 4) + 12 * largest


def check_memory(settings: Settings, processes: int, available: int) -> None:
    """Raises SettingsError, with what might fit, where so many bytes of a process will not do."""
    (once, of_pair), (_, pairs) = step_bytes(settings, processes), settings.micro_batches(processes)
    if once + pairs * of_pair <= available:
        return
    least = min(settings.batch_norm_group_size, pairs)  # BatchNorm's groups stay what they are
    less = [n for n in range(least, pairs, least) if pairs % n == 0]
    fits = [f"--micro_batch_size={n}" for n in less if once + n * of_pair <= available]
    smaller = "--checkpoint_activations, or a smaller --image_tower and --text_tower"
    raise SettingsError(
        f"a step takes about {(once + pairs * of_pair) / 1e9:.1f} GB, and a process has "
        f"{available / 1e9:.1f} GB: pass {[smaller, *fits][-1]}; or --check_memory=false, to try"
    )


def most_used(device: torch.device) -> int:
    """Bytes that this process has used at once so far, at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
