"""Towers that somebody has trained by themselves: an EfficientNet, a BERT, a BERT's tokenizer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

# Its stubs lack this one of its names.
from transformers import (
    AlignModel,
    BertModel,
    EfficientNetModel,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from train.errors import SettingsError
from train.model.tokenizer import load_tokenizer
from train.settings import Settings

_KINDS = {
    "image_weights": "an EfficientNet of transformers or timm",
    "text_weights": "a BERT of transformers",
    "tokenizer": "a BERT's tokenizer",
}

_EPSILON = 1e-3  # of BatchNorm, in EfficientNet's own code


@contextmanager
def _one_line(flag: str, name: str) -> Iterator[None]:
    try:
        yield
    # What transformers, timm, their hub (HTTP among it) and files that are cut raise.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SettingsError(
            f"--{flag}={name}: it cannot be loaded ({reason:.200}): name a folder, or a published "
            f"model, that is {_KINDS[flag]}"
        ) from error


def check_tower_weights(settings: Settings) -> None:
    """Raises SettingsError where what is named is no such model, by the little its config takes."""
    for flag, kind in (("image_weights", "efficientnet"), ("text_weights", "bert")):
        name = getattr(settings, flag)
        if name and (found := _kind(flag, name)) != kind:
            raise SettingsError(f"--{flag}={name} is of type {found}: name {_KINDS[flag]}")
    if settings.tokenizer:
        load_own_tokenizer(settings.tokenizer, settings.max_tokens)


def _kind(flag: str, name: str) -> str:
    """A model's type, by its config."""
    if flag == "image_weights" and not Path(name).is_dir() and "/" not in name:
        return "efficientnet" if "efficientnet" in name else "unknown"  # a name of timm's
    with _one_line(flag, name):
        config, _ = PretrainedConfig.get_config_dict(name, local_files_only=Path(name).is_dir())
    architecture = config.get("architecture", "")  # as timm calls it
    return str(config.get("model_type") or architecture.partition("_b")[0].removeprefix("tf_"))


def load_own_tokenizer(name: str, max_tokens: int) -> PreTrainedTokenizerFast:
    """A tokenizer that cuts texts at so many tokens.

    Raises:
      SettingsError: there is none, or it is no BERT's.
    """
    local = Path(name).is_dir()
    if local and not {"vocab.txt", "tokenizer.json"} & {path.name for path in Path(name).iterdir()}:
        raise SettingsError(
            f"--tokenizer={name}: it holds no tokenizer: name {_KINDS['tokenizer']}"
        )
    with _one_line("tokenizer", name):
        tokenizer = load_tokenizer(name, local=local, max_tokens=max_tokens)
    if None in (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id):
        raise SettingsError(
            f"--tokenizer={name} lacks [PAD], [CLS] or [SEP]: name a BERT's tokenizer"
        )
    return tokenizer


def load_towers(align: AlignModel, settings: Settings) -> None:
    """Puts the weights that the settings name into the towers, in place.

    Raises:
      SettingsError: they can't be had, or are of other sizes than the towers.
    """
    if name := settings.image_weights:
        with _one_line("image_weights", name):
            state = _image_state(name, align.vision_model.state_dict())
        _put(align.vision_model, state, "image_weights", settings.image_tower)
    if name := settings.text_weights:
        with _one_line("text_weights", name):
            local = Path(name).is_dir()
            bert = BertModel.from_pretrained(name, local_files_only=local, dtype="float32")
        state = bert.state_dict()
        _put(align.text_model, state, "text_weights", settings.text_tower)


def _image_state(name: str, ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """By our names; what lies behind the last block is left out, since ALIGN has none of it."""
    folder = Path(name)
    config: dict[str, Any] = {}
    if (folder / "config.json").exists():
        config = json.loads((folder / "config.json").read_text())
    if "model_type" in config or (not folder.is_dir() and "/" in name and "timm" not in name):
        loaded: Any = EfficientNetModel.from_pretrained(
            name, local_files_only=folder.is_dir(), dtype="float32"
        )
        return {name: value for name, value in loaded.state_dict().items() if name in ours}
    import timm  # here, because it takes 5 s to import

    place = f"local-dir:{name}" if folder.is_dir() else f"hf-hub:{name}" if "/" in name else name
    # Its modules stand in the same order, under other names.
    model = timm.create_model(place, pretrained=True)
    _check_computes_alike(name, model)
    return dict(zip(ours, model.state_dict().values(), strict=False))


def _check_computes_alike(name: str, model: Any) -> None:
    """Models of timm without "tf_" pad on both sides and divide by other deviations: with the same
    weights the features of B0 differ by 145 %."""
    if model.bn1.eps != _EPSILON or type(model.conv_stem) is torch.nn.Conv2d:
        raise SettingsError(
            f"--image_weights={name} pads or normalises in another way than EfficientNet's own "
            "code: name the model of timm that begins with tf_"
        )


def _put(tower: torch.nn.Module, state: dict[str, Tensor], flag: str, size: str) -> None:
    kind = flag.partition("_")[0]
    for name, ours in tower.state_dict().items():
        theirs = tuple(state[name].shape) if name in state else "nothing"
        if theirs != tuple(ours.shape):
            raise SettingsError(
                f"--{flag} has {theirs} where the {kind} tower {size} has {tuple(ours.shape)} "
                f"({name}): name the --{kind}_tower that it is of"
            )
    tower.load_state_dict({name: state[name] for name in tower.state_dict()})
