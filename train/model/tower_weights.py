"""Towers that somebody has trained by themselves: an EfficientNet, a BERT, a BERT's tokenizer."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import Module

# Its stubs lack this one of its names.
from transformers import (
    AlignModel,
    BertModel,
    EfficientNetImageProcessor,
    EfficientNetModel,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.activations import ACT2FN

from alignset.train.errors import SettingsError
from alignset.train.model.dual_encoder import new_align
from alignset.train.model.model_names import check_name
from alignset.train.model.pretrained import one_line, saved_config
from alignset.train.model.tokenizer import load_tokenizer, pieces, tokenizer_lack
from alignset.train.settings import Settings
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS

_KINDS = {
    "image_weights": "an EfficientNet of transformers",
    "text_weights": "a BERT of transformers",
    "tokenizer": "a fast tokenizer, of any kind",
}

# The image tower's first layer: float[channels, 3, h, w], and float[channels].
_FIRST_KERNEL = "embeddings.convolution.weight"
_FIRST_MEAN = "embeddings.batchnorm.running_mean"
_PIECES = "embeddings.word_embeddings.weight"  # a BERT's: float[pieces, width]
# What a config says of a tower that the shapes of its weights don't tell. EfficientNet's padding is
# left out: it follows from the size of the images.
_COMPUTED = {
    "image": ("strides", "hidden_act", "batch_norm_eps"),
    "text": ("num_attention_heads", "hidden_act", "layer_norm_eps"),
}


def _one_line(flag: str, name: str) -> AbstractContextManager[None]:
    advice = f"name a folder, or a published model, that is {_KINDS[flag]}"
    return one_line(f"--{flag}={name}: it cannot be loaded", advice)


def check_tower_weights(settings: Settings) -> None:
    """Raises SettingsError where the name is not such a model, or does not fit the towers."""
    for flag, kind in (("image_weights", "efficientnet"), ("text_weights", "bert")):
        name = getattr(settings, flag)
        if name and (own_kind := _kind(flag, name)) != kind:
            raise SettingsError(f"--{flag}={name} is of type {own_kind}: name {_KINDS[flag]}")
    rows = 1  # which are compared only where a BERT brings them
    if settings.tokenizer or settings.text_weights:
        rows = pieces(load_own_tokenizer(settings))
    with torch.device("meta"):  # shapes alone, without memory
        align = new_align(settings, rows)
    for _ in _states(align, settings):
        pass


def _kind(flag: str, name: str) -> object:
    """A model's type, by its config."""
    with _one_line(flag, name):
        config = saved_config(name)
    if not config:
        raise SettingsError(f"--{flag}={name} has no config.json: name {_KINDS[flag]}")
    return config.get("model_type")


def load_own_tokenizer(settings: Settings) -> PreTrainedTokenizerFast:
    """The tokenizer that the settings name, or else their BERT's; it cuts texts at max_tokens.

    Raises:
      SettingsError: there is none, or a model can't be trained with it.
    """
    flag = "tokenizer" if settings.tokenizer else "text_weights"
    name = getattr(settings, flag)
    local = Path(name).is_dir()
    if local and not {"vocab.txt", "tokenizer.json"} & {path.name for path in Path(name).iterdir()}:
        instead = f"name {_KINDS['tokenizer']}"
        if flag == "text_weights":
            instead = "put its tokenizer.json or vocab.txt there, or name its tokenizer's folder "
            instead += "with --tokenizer"
        raise SettingsError(f"--{flag}={name}: it holds no tokenizer: {instead}")
    with _one_line(flag, name):
        check_name(name)
        tokenizer = load_tokenizer(name, local=local, max_tokens=settings.max_tokens)
        lack = tokenizer_lack(tokenizer, settings.max_tokens)
    if lack:
        raise SettingsError(f"--{flag}={name} {lack}: name another tokenizer")
    return tokenizer


def load_towers(align: AlignModel, settings: Settings) -> None:
    """Puts the weights that the settings name into the towers, in place.

    Raises:
      SettingsError: they can't be had, or are of other sizes than the towers.
    """
    for tower, state in _states(align, settings):
        tower.load_state_dict(state)


def _states(align: AlignModel, settings: Settings) -> Iterator[tuple[Module, dict[str, Tensor]]]:
    """Each tower that begins as another's, with its weights by our names."""
    if name := settings.image_weights:
        tower = align.vision_model
        with _one_line("image_weights", name):
            state, config = _image_state(name, tower)
        _check_alike(settings, "image", tower, state, config)
        yield tower, state
    if name := settings.text_weights:
        with _one_line("text_weights", name):
            local = Path(name).is_dir()
            bert = BertModel.from_pretrained(name, local_files_only=local, dtype="float32")
        state = bert.state_dict()
        _check_alike(settings, "text", align.text_model, state, bert.config)
        yield align.text_model, state


def _image_state(name: str, tower: Module) -> tuple[dict[str, Tensor], PretrainedConfig]:
    """For our pixels, with its config; what lies behind the last block is left out, since ALIGN has
    none of it."""
    local = Path(name).is_dir()
    model: Any = EfficientNetModel.from_pretrained(name, local_files_only=local, dtype="float32")
    names = tower.state_dict()
    state = {k: value for k, value in model.state_dict().items() if k in names}
    if not local or (Path(name) / "preprocessor_config.json").exists():
        images = EfficientNetImageProcessor.from_pretrained(name, local_files_only=local)
        state = for_our_pixels(state, *_black_and_white(images))
    return state, model.config


def _black_and_white(processor: EfficientNetImageProcessor) -> tuple[Tensor, Tensor]:
    """float[3] each: what it makes of them. Its settings alone do not tell: by some it divides by
    the deviation twice."""
    sides = (np.full((8, 8, 3), grey, np.uint8) for grey in (0, 255))
    pixels = (processor(Image.fromarray(side), return_tensors="pt") for side in sides)
    black, white = (of["pixel_values"].float().mean(dim=(0, 2, 3)) for of in pixels)
    return black, white


def for_our_pixels(state: dict[str, Tensor], black: Tensor, white: Tensor) -> dict[str, Tensor]:
    """The weights of a tower that gets pixels in [-1, 1], where it had others before.

    Its first layer gives the same for our pixels as for its own, except at the lower and right
    edge, where the padding's zeros are another grey.

    Args:
      black, white: float[3], what they were before.
    """
    scale, shift = (white - black) / 2, (white + black) / 2  # theirs = scale * ours + shift
    if torch.equal(scale, torch.ones(3)) and torch.equal(shift, torch.zeros(3)):
        return state
    kernel, mean = state[_FIRST_KERNEL], state[_FIRST_MEAN]
    offset = (kernel * shift[:, None, None]).sum(dim=(1, 2, 3))
    return state | {
        _FIRST_KERNEL: kernel * scale[:, None, None],
        _FIRST_MEAN: mean - offset,  # of the normalisation behind it
    }


def _check_alike(
    settings: Settings,
    kind: str,
    tower: Module,
    state: dict[str, Tensor],
    config: PretrainedConfig,
) -> None:
    """Raises SettingsError where weights are of other sizes than a tower, or compute otherwise."""
    for name, ours in tower.state_dict().items():
        shape = tuple(state[name].shape) if name in state else "nothing"
        if shape == tuple(ours.shape):
            continue
        if name == _PIECES and shape[1:] == ours.shape[1:]:
            raise SettingsError(
                f"--text_weights={settings.text_weights} knows {shape[0]} pieces where its "
                f"tokenizer has {len(ours)}: name its own with --tokenizer"
            )
        raise _other(settings, kind, config, (shape, tuple(ours.shape)), name)
    for name in _COMPUTED[kind]:
        theirs, own = (_meant(getattr(of, name)) for of in (config, tower.config))
        if theirs != own:
            raise _other(settings, kind, config, (theirs, own), name)


def _meant(value: object) -> object:
    """The meaning of a config's value: functions may have two names."""
    if isinstance(value, str) and value in ACT2FN:
        return type(ACT2FN[value]).__name__.removesuffix("Activation")
    return value


def _other(
    settings: Settings,
    kind: str,
    config: PretrainedConfig,
    values: tuple[object, object],
    name: str,
) -> SettingsError:
    """The error where of two values, the weights' and the tower's, the first should be the second.

    Args:
      name: of the values.
    """
    at, size = getattr(settings, f"{kind}_weights"), getattr(settings, f"{kind}_tower")
    own = _image_tower(config) if kind == "image" else _text_tower(config)
    if own and own != size:
        return SettingsError(
            f"--{kind}_weights={at}: these are weights of {own}, and the {kind} tower is {size}: "
            f"give --{kind}_tower={own}"
        )
    theirs, ours = values
    return SettingsError(
        f"--{kind}_weights has {theirs} where the {kind} tower {size} has {ours} "
        f"({name}): name the --{kind}_tower that it is of"
    )


def _image_tower(config: Any) -> str:
    """Which of ours an EfficientNet is, by its config; empty: none."""
    sizes = (config.width_coefficient, config.depth_coefficient, tuple(config.out_channels))
    for own, tower in IMAGE_TOWERS.items():
        if sizes == (tower.width, tower.depth, tower.channels):
            return own
    return ""


def _text_tower(config: Any) -> str:
    """Which of ours a BERT is, by its config; empty: none."""
    for own, tower in TEXT_TOWERS.items():
        if (config.num_hidden_layers, config.hidden_size) == (tower.layers, tower.hidden):
            return own
    return ""
