"""Whether a saved model can be had by its name: a folder of this machine, or a published one's."""

import json
import os
import sys
from pathlib import Path

from alignset.train.errors import SettingsError

# A published model has one of these at least; one that was fetched has it in the Hub's cache.
_FILES = ("config.json", "tokenizer.json", "vocab.txt", "model.safetensors")
_WAIT_S = 10.0
EXPORT_DOCUMENT = "export.json"  # of a folder of `alignset export`


def check_name(name: str) -> None:
    """Says on stderr when the Hub is asked. It is asked once, and only for a name that it may have.

    huggingface_hub by itself asks six times within half a minute, for a folder's mistyped name too.

    Raises:
      OSError: there is no such folder, and no published model is to be had by this name.
      SettingsError: it is the folder of a run that has no model yet, or of an export.
    """
    _check_run(name)
    if (Path(name) / EXPORT_DOCUMENT).is_file():
        raise SettingsError(
            f"{name!r} is an export, for other programs: pass the model that it was made of, which "
            f"its {EXPORT_DOCUMENT} names"
        )
    if os.path.isdir(name):
        return
    from huggingface_hub import constants, try_to_load_from_cache

    if os.path.exists(name):
        raise OSError("it is a file, and the folder that it is in would be a model")
    if not _may_be_published(name):
        raise OSError("there is no such folder here")
    if any(isinstance(try_to_load_from_cache(name, file), str) for file in _FILES):
        return
    if constants.HF_HUB_OFFLINE:
        raise OSError("there is no such folder here, and HF_HUB_OFFLINE forbids to ask the Hub")
    print(f"no folder {name} here: looking for a model of that name on the Hub", file=sys.stderr)
    _ask(name)


def _may_be_published(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it is public

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _ask(name: str) -> None:
    """Raises OSError where the Hub does not answer, or has no such model."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

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


def _check_run(name: str) -> None:
    """Raises SettingsError for the folder, or the model, of a run that has not written it yet."""
    run = Path(name)
    if run.name == "model" and not run.exists():
        run = run.parent
    if (run / "model").is_dir() or not _is_run(run):
        return
    best = run / "model-best"
    instead = f", or pass the best of its validations, {best}" if best.is_dir() else ""
    raise SettingsError(
        f"{str(run)!r} is a run that has no model/ yet: finish it (the command that began it goes "
        f"on){instead}"
    )


def _is_run(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and {"settings", "sets"} <= config.keys()
