"""Models that somebody has saved: a folder, or a published one by its name; and what is refused.

Towers too that were trained by themselves: an EfficientNet, a BERT, a BERT's tokenizer."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it is public
from PIL import Image
from torch import Tensor
from torch.nn import Module
from transformers import (
    AlignModel,
    AlignProcessor,
    BertModel,
    EfficientNetImageProcessor,
    EfficientNetModel,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.activations import ACT2FN

from alignset.train.errors import SettingsError
from alignset.train.model.dual_encoder import new_align
from alignset.train.model.tokenizer import load_tokenizer, pieces, tokenizer_lack
from alignset.train.settings import Settings
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS

OPEN_CLIP = "open_clip:"  # a name of a model of that package begins so
_WANTED = "name a folder that save_pretrained wrote, or a published model, as kakaobrain/align-base"
_WANTED_TO_COMPARE = f"{_WANTED}, or {OPEN_CLIP}NAME@WEIGHTS"
# A published model has one of these at least; one that was fetched has it in the Hub's cache.
_FILES = ("config.json", "tokenizer.json", "vocab.txt", "model.safetensors")
_WAIT_S = 10.0
EXPORT_DOCUMENT = "export.json"  # of a folder of `alignset export`
_INSTEAD = {  # what to do with a model of another type
    **dict.fromkeys(
        ("clip", "siglip"),
        "which alignset evaluates and searches with; to train it further, pass the same shards to "
        "open_clip (open_clip_train, --train-data)",
    ),
    "efficientnet": "a tower alone: alignset train takes it as --image_weights",
    "bert": "a tower alone: alignset train takes it as --text_weights",
}
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


@contextmanager
def one_line(what: str, advice: str) -> Iterator[None]:
    """Raises a SettingsError, "what (why): advice", for what goes wrong while a saved model is
    read: transformers, its hub and files that are cut raise many kinds."""
    try:
        yield
    except (SettingsError, ModuleNotFoundError):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise SettingsError(f"{what} ({reason:.200}): {advice}") from error


def load(kind: Any, name: str, **options: Any) -> Any:
    """Calls `kind.from_pretrained` with a name that `check_name` knows. A folder is read without
    asking any server."""
    return kind.from_pretrained(name, local_files_only=os.path.isdir(name), **options)


def check_name(name: str) -> None:
    """Finds out whether there is a folder, or a published model, of this name. The Hub is asked
    once, which a line says: huggingface_hub by itself asks six times within half a minute.

    Raises:
      OSError: there is none, or it can't be had.
      SettingsError: it is the folder of a run that has no model yet, or of an export.
    """
    folder = Path(name)
    run = folder.parent if folder.name == "model" and not folder.exists() else folder
    if not (run / "model").is_dir() and _is_run(run):
        best = run / "model-best"
        instead = f", or pass the best of its validations, {best}" if best.is_dir() else ""
        raise SettingsError(
            f"{str(run)!r} is a run that has no model/ yet: finish it (the command that began it "
            f"resumes it){instead}"
        )
    if (folder / EXPORT_DOCUMENT).is_file():
        raise SettingsError(
            f"{name!r} is an export, for other programs: pass the model that it was made of, which "
            f"its {EXPORT_DOCUMENT} names"
        )
    if os.path.isdir(name):
        return
    if os.path.exists(name):
        raise OSError("it is a file, and the folder that it is in would be a model")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise OSError("there is no such folder here") from error
    if any(isinstance(try_to_load_from_cache(name, file), str) for file in _FILES):
        return
    if constants.HF_HUB_OFFLINE:
        raise OSError("there is no such folder here, and HF_HUB_OFFLINE forbids to ask the Hub")
    print(f"no folder {name} here: looking for a model of that name on the Hub", file=sys.stderr)
    try:
        get_hf_file_metadata(hf_hub_url(name, _FILES[0]), timeout=_WAIT_S)
    except EntryNotFoundError:
        return  # a tokenizer may come without a config
    except Exception as error:  # its library for HTTP has a class for each fault of a network
        text = str(error).partition("\n")[0] or type(error).__name__
        reason = f"the Hub cannot be reached: {text:.100}"
        if getattr(getattr(error, "response", None), "status_code", 0) in (401, 404):
            reason = "the Hub has no model of that name"  # or it is private
        raise OSError(f"there is no such folder here, and {reason}") from error


def _is_run(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and {"settings", "sets"} <= config.keys()


def model_type(name: str, what: str = "model", advice: str = _WANTED_TO_COMPARE) -> str:
    """The model type in a saved model's config, such as "align" or "clip".

    Raises:
      SettingsError: there is none.
    """
    with one_line(f"no {what} at {name!r}", advice):
        check_name(name)
        local = os.path.isdir(name)
        config, _ = PretrainedConfig.get_config_dict(name, local_files_only=local)
    if not config:
        raise SettingsError(f"no {what} at {name!r} (it has no config.json): {advice}")
    return str(config.get("model_type"))


def check_pretrained(name: str) -> None:
    """Raises SettingsError where there is no AlignModel, by the little that its config takes."""
    if (Path(name) / "model").is_dir():
        raise SettingsError(f"{name!r} is a run's folder: name the model in it, {name}/model")
    kind = model_type(name, "AlignModel", _WANTED)
    if kind != "align":
        instead = f", {_INSTEAD[kind]}" if kind in _INSTEAD else f": {_WANTED}"
        raise SettingsError(f"{name!r} is a model of type {kind}{instead}")


def load_pretrained(name: str) -> tuple[AlignModel, AlignProcessor]:
    """As `read_pretrained`, to be trained further.

    Raises:
      SettingsError: also where its pixels aren't in [-1, 1], as in our batches.
    """
    model, processor = read_pretrained(name)
    pixels = pixels_of_greys(processor.image_processor)
    for grey, value, target in zip((0, 255), pixels, (-1.0, 1.0), strict=True):
        if not torch.allclose(value, torch.tensor(target), atol=0.01):
            raise SettingsError(
                f"{name!r} was trained on pixels from elsewhere than [-1, 1] (a value of {grey} "
                f"becomes {value.mean():.3g}): such a model can't be trained further here"
            )
    return model, processor


def pixels_of_greys(processor: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """float[3] each: what an image processor makes of black and of white. Its settings alone do not
    tell: by some it divides by the deviation twice."""
    images = (Image.new("RGB", (8, 8), (grey,) * 3) for grey in (0, 255))
    pixels = (processor(image, return_tensors="pt")["pixel_values"] for image in images)
    black, white = (of_image.float().mean(dim=(0, 2, 3)) for of_image in pixels)
    return black, white


def read_pretrained(name: str) -> tuple[AlignModel, AlignProcessor]:
    """The model in float32 and its processor. A folder is read without asking any server.

    Raises:
      SettingsError: there is none, it can't be had, or it is not a whole AlignModel.
    """
    check_pretrained(name)
    with one_line(f"no AlignModel at {name!r}", _WANTED):
        model = load_whole(AlignModel, name)
        processor = load(AlignProcessor, name)
    check_tokenizer(name, "AlignModel", processor.tokenizer, model.text_model.config.vocab_size)
    return model, processor


def load_whole(kind: Any, name: str) -> Any:
    """The model in float32. Raises SettingsError where weights are missing."""
    model, loading = load(kind, name, output_loading_info=True, dtype="float32")
    if missing := sorted(loading["missing_keys"]):
        raise SettingsError(
            f"the {kind.__name__} at {name!r} lacks {len(missing)} of its weights, the first of "
            f"them {missing[0]}: {_WANTED}"
        )
    return model


def check_tokenizer(name: str, kind: str, tokenizer: Any, vocabulary_size: int) -> None:
    """Raises SettingsError where there is none, since transformers makes one without words, or it
    is another model's."""
    pieces, reason = tokenizer.get_vocab(), ""
    if len(pieces) <= len(tokenizer.all_special_tokens):
        reason = "no tokenizer"
    elif max(pieces.values()) >= vocabulary_size:
        reason = f"a tokenizer of {len(pieces)} pieces where its text model knows {vocabulary_size}"
    if reason:
        raise SettingsError(
            f"the {kind} at {name!r} has {reason}: put the files of its own tokenizer beside its "
            "weights, as tokenizer.json"
        )


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
                state = adapt_first_layer(state, *pixels_of_greys(images))
        _check_alike(settings, kind, tower, state, model.config)
        yield tower, state


def adapt_first_layer(state: dict[str, Tensor], black: Tensor, white: Tensor) -> dict[str, Tensor]:
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
