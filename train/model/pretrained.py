"""An AlignModel that somebody has trained: a folder, or a published one by its name."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import AlignModel, AlignProcessor, PretrainedConfig

from alignset.train.errors import SettingsError
from alignset.train.model.model_names import check_name

OPEN_CLIP = "open_clip:"  # a name of a model of that package begins so
_WANTED = "name a folder that save_pretrained wrote, or a published model, as kakaobrain/align-base"
_TOWERS: dict[object, str] = {"efficientnet": "image_weights", "bert": "text_weights"}
_WANTED_OF = {"model": f"{_WANTED}, or {OPEN_CLIP}NAME@WEIGHTS"}  # by the kind


def check_pretrained(name: str) -> None:
    """Raises SettingsError where there is no AlignModel, by the little that its config takes."""
    with of_kind(name):
        config = saved_config(name)
    kind = config.get("model_type")
    if (Path(name) / "model").is_dir():
        raise SettingsError(f"{name!r} is a run's folder: name the model in it, {name}/model")
    if not config:
        raise SettingsError(f"no AlignModel at {name!r} (it has no config.json): {_WANTED}")
    if kind in ("clip", "siglip"):
        raise SettingsError(
            f"{name!r} is a model of type {kind}, which alignset evaluates and searches with; to "
            "train it further, pass the same shards to open_clip (open_clip_train, --train-data)"
        )
    if kind in _TOWERS:
        raise SettingsError(
            f"{name!r} is a model of type {kind}, a tower alone: alignset train takes it as "
            f"--{_TOWERS[kind]}"
        )
    if kind != "align":
        raise SettingsError(f"{name!r} is a model of type {kind}: {_WANTED}")


def model_type(name: str) -> str:
    """The model type in a saved model's config, such as "align" or "clip".

    Raises:
      SettingsError: there is none.
    """
    with of_kind(name, "model"):
        config = saved_config(name)
    if not config:
        raise SettingsError(f"no model at {name!r} (it has no config.json): {_WANTED_OF['model']}")
    return str(config.get("model_type"))


def saved_config(name: str) -> dict[str, Any]:
    """The config of a saved model; empty: it has none. Raises what its library does."""
    check_name(name)
    config, _ = PretrainedConfig.get_config_dict(name, local_files_only=Path(name).is_dir())
    return config


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


def of_kind(name: str, kind: str = "AlignModel") -> AbstractContextManager[None]:
    """As `one_line`, of a model or a tokenizer of a kind."""
    return one_line(f"no {kind} at {name!r}", _WANTED_OF.get(kind, _WANTED))


def load_pretrained(name: str) -> tuple[AlignModel, AlignProcessor]:
    """As `read_pretrained`, to be trained further.

    Raises:
      SettingsError: also where its pixels aren't in [-1, 1], as in our batches.
    """
    model, processor = read_pretrained(name)
    _check_pixels(name, processor)
    return model, processor


def read_pretrained(name: str) -> tuple[AlignModel, AlignProcessor]:
    """The model in float32 and its processor. A folder is read without asking any server.

    Raises:
      SettingsError: there is none, it can't be had, or it is not a whole AlignModel.
    """
    check_pretrained(name)
    local = Path(name).is_dir()
    with of_kind(name):
        pair: Any = AlignModel.from_pretrained(  # a pair, because of output_loading_info
            name, local_files_only=local, output_loading_info=True, dtype="float32"
        )
        model, loading = pair
        processor = AlignProcessor.from_pretrained(name, local_files_only=local)
    check_whole(name, "AlignModel", loading)
    check_tokenizer(name, "AlignModel", processor.tokenizer, model.text_model.config.vocab_size)
    return model, processor


def check_whole(name: str, kind: str, loading: dict[str, Any]) -> None:
    """Raises SettingsError where weights are missing, by what from_pretrained says of loading."""
    missing = sorted(loading["missing_keys"])
    if missing:
        raise SettingsError(
            f"the {kind} at {name!r} lacks {len(missing)} of its weights, the first of them "
            f"{missing[0]}: {_WANTED}"
        )


def check_tokenizer(name: str, kind: str, tokenizer: Any, vocabulary_size: int) -> None:
    """Raises SettingsError where there is none, since transformers makes one without words, or it
    is another model's."""
    pieces = tokenizer.get_vocab()
    if len(pieces) <= len(tokenizer.all_special_tokens):
        raise SettingsError(
            f"the {kind} at {name!r} has no tokenizer: put the files of its tokenizer beside its "
            "weights, as tokenizer.json"
        )
    if max(pieces.values()) >= vocabulary_size:
        raise SettingsError(
            f"the {kind} at {name!r} has a tokenizer of {len(pieces)} pieces where its text model "
            f"knows {vocabulary_size}: put the files of its own tokenizer beside its weights"
        )


def _check_pixels(name: str, processor: AlignProcessor) -> None:
    for grey, target in ((0, -1.0), (255, 1.0)):
        image = Image.fromarray(np.full((8, 8, 3), grey, np.uint8))
        pixels = processor.image_processor(image, return_tensors="np")["pixel_values"]
        if not np.allclose(pixels, target, atol=0.01):
            raise SettingsError(
                f"{name!r} was trained on pixels from elsewhere than [-1, 1] (a value of {grey} "
                f"becomes {pixels.mean():.3g}): such a model can't be trained further here"
            )
