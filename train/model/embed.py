"""Opens models that embed images and texts, whoever trained them.

| name | what it is |
|---|---|
| RUN, RUN/model, a published name | an AlignModel, by transformers |
| a folder or name whose config says so | a CLIPModel or SiglipModel, by transformers |
| open_clip:NAME, open_clip:NAME@WEIGHTS | a model of open_clip; WEIGHTS: a tag of it, or a file |
"""

import os
import re

from alignset.train.errors import SettingsError
from alignset.train.model.embedder import OPEN_CLIP, Embedder


def open_embedder(name: str) -> Embedder:
    """The model that `name` means.

    Raises:
      SettingsError: there is none, it can't be had, or it is of another kind.
    """
    # Each only now: a library of models takes seconds to import.
    if name.startswith(OPEN_CLIP):
        from alignset.train.model.embedders.open_clip_model import OpenClipEmbedder

        return OpenClipEmbedder(name)
    _check_spelling(name)
    from alignset.train.model.pretrained import model_type

    name = _model_of_run(name)
    kind = model_type(name)
    if kind == "align":
        from alignset.train.model.embedders.align import AlignEmbedder

        return AlignEmbedder(name)
    if kind in ("clip", "siglip"):
        from alignset.train.model.embedders.clip import ClipEmbedder

        return ClipEmbedder(name, kind)
    raise SettingsError(
        f"{name!r} is a model of type {kind!r}: name an AlignModel, CLIPModel or SiglipModel (a "
        f"folder or a published name) or {OPEN_CLIP}NAME"
    )


def _check_spelling(name: str) -> None:
    """Raises SettingsError for what was meant for a name of ours: no published model is called so,
    and to ask the Hub takes seconds, or half a minute without a network."""
    if os.path.exists(name):  # unlike Path's, it takes names of any length
        return
    if re.match(r"open[-_ ]?clip[:@]", name, re.I):
        meant = OPEN_CLIP + re.split("[:@]", name, maxsplit=1)[1]
        raise SettingsError(
            f"there is no model {name!r}: did you mean {meant!r}? There are "
            f"{OPEN_CLIP}NAME@WEIGHTS, folders and published names"
        )


def _model_of_run(name: str) -> str:
    """The model in a run's folder; another name as it is."""
    model = os.path.join(name, "model")
    return model if os.path.isdir(model) else name
