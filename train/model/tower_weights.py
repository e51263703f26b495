"""Towers that somebody has trained by themselves: an EfficientNet, a BERT, a BERT's tokenizer."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from transformers import (
    AlignModel,
    BertModel,
    EfficientNetImageProcessor,
    EfficientNetModel,
    PreTrainedTokenizerFast,
)
from transformers.activations import ACT2FN

from alignset.train.errors import SettingsError
from alignset.train.model.dual_encoder import new_align
from alignset.train.model.pretrained import check_name, load, model_type, one_line, pixels_of_greys
from alignset.train.model.tokenizer import load_tokenizer, pieces, tokenizer_lack
from alignset.train.settings import Settings
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS

_KINDS = {
    "image_weights": ("efficientnet", "an EfficientNet of transformers"),
    "text_weights": ("bert", "a BERT of transformers"),
    "tokenizer": ("", "a fast tokenizer, of any kind"),
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


def _reading(flag: str, name: str) -> AbstractContextManager[None]:
    advice = f"name a folder, or a published model, that is {_KINDS[flag][1]}"
    return one_line(f"--{flag}={name}: it cannot be loaded", advice)


def check_tower_weights(settings: Settings) -> None:
    """Raises SettingsError where the name is not such a model, or does not fit the towers."""
    for flag in ("image_weights", "text_weights"):
        kind, words = _KINDS[flag]
        if name := getattr(settings, flag):
            found = model_type(name, f"model for --{flag}", f"name {words}")
            if found != kind:
                raise SettingsError(f"--{flag}={name} is of type {found}: name {words}")
    rows = 1  # which are compared only where a BERT brings them
    if settings.tokenizer or settings.text_weights:
        rows = pieces(load_own_tokenizer(settings))
    with torch.device("meta"):  # shapes alone, without memory
        align = new_align(settings, rows)
    for _ in _states(align, settings):
        pass


def load_own_tokenizer(settings: Settings) -> PreTrainedTokenizerFast:
    """The tokenizer that the settings name, or else their BERT's; it cuts texts at max_tokens.

    Raises:
      SettingsError: there is none, or a model can't be trained with it.
    """
    flag = "tokenizer" if settings.tokenizer else "text_weights"
    name = getattr(settings, flag)
    with _reading(flag, name):
        check_name(name)
        local = os.path.isdir(name)
        tokenizer = load_tokenizer(name, local=local, max_tokens=settings.max_tokens)
        lack = tokenizer_lack(tokenizer, settings.max_tokens)
    if lack:
        raise SettingsError(f"--{flag}={name} {lack}: name another --tokenizer")
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
    towers: dict[str, tuple[Any, Any]] = {
        "image": (align.vision_model, EfficientNetModel),
        "text": (align.text_model, BertModel),
    }
    for kind, (tower, theirs) in towers.items():
        flag = f"{kind}_weights"
        if not (name := getattr(settings, flag)):
            continue
        with _reading(flag, name):
            model = load(theirs, name, dtype="float32")
            # What lies behind an EfficientNet's last block is left out: ALIGN has none of it.
            ours, state = tower.state_dict(), model.state_dict()
            state = {name: value for name, value in state.items() if name in ours}
            processor = Path(name) / "preprocessor_config.json"
            if kind == "image" and (processor.exists() or not os.path.isdir(name)):
                images = load(EfficientNetImageProcessor, name)
                state = for_our_pixels(state, *pixels_of_greys(images))
        _check_alike(settings, kind, tower, state, model.config)
        yield tower, state


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
    settings: Settings, kind: str, tower: Any, state: dict[str, Tensor], config: Any
) -> None:
    """Raises SettingsError where weights are of other sizes than a tower, or compute otherwise."""
    facts: list[dict[str, Any]] = []  # theirs and ours
    for weights, told in ((state, config), (tower.state_dict(), tower.config)):
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        facts.append(shapes | {name: _meaning(getattr(told, name)) for name in _COMPUTED[kind]})
    theirs, ours = facts
    for name, value in ours.items():
        other = theirs.get(name, "nothing")
        if other == value:
            continue
        if name == _PIECES and other[1:] == value[1:]:
            raise SettingsError(
                f"--text_weights={settings.text_weights} knows {other[0]} pieces where its "
                f"tokenizer has {value[0]}: name its own with --tokenizer"
            )
        size, fitting = getattr(settings, f"{kind}_tower"), _tower_of(kind, config)
        instead = f"give --{kind}_tower={fitting}"
        if fitting in ("", size):
            instead = f"name the --{kind}_tower that it is of"
        raise SettingsError(
            f"--{kind}_weights has {other} where the {kind} tower {size} has {value} ({name}): "
            f"{instead}"
        )


def _meaning(value: object) -> object:
    """The meaning of a config's value: functions may have two names."""
    is_function = isinstance(value, str) and value in ACT2FN
    return type(ACT2FN[value]).__name__.removesuffix("Activation") if is_function else value


def _tower_of(kind: str, config: Any) -> str:
    """Which of our towers a config describes; empty: none."""
    if kind == "text":
        size: object = config.num_hidden_layers, config.hidden_size
        sizes: dict[str, object] = {n: (t.layers, t.hidden) for n, t in TEXT_TOWERS.items()}
    else:
        size = config.width_coefficient, config.depth_coefficient, tuple(config.out_channels)
        sizes = {n: (t.width, t.depth, t.channels) for n, t in IMAGE_TOWERS.items()}
    return next((name for name, of_ours in sizes.items() if of_ours == size), "")
