"""A model of open_clip as an embedder, to compare with: the package is imported when asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from alignset.train.errors import SettingsError
from alignset.train.model.embedder import OPEN_CLIP, Embeddings, not_longer
from alignset.train.model.embedders.weights import model_digest, unit_rows, usual_device


class OpenClipEmbedder:
    """`open_clip:NAME@WEIGHTS`, with the transform and the tokenizer that open_clip has for it.

    Without WEIGHTS it has none that were trained, unless NAME itself names a saved model
    (local-dir:FOLDER, hf-hub:NAME).

    Raises:
      SettingsError: open_clip is not installed, or knows no such model or weights.
    """

    kind = "open_clip"

    def __init__(self, name: str):
        try:
            import open_clip
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"{name} needs a package that is not installed: pip install open-clip-torch"
            ) from error
        self.name, self._device = name, usual_device()
        architecture, _, weights = name.removeprefix(OPEN_CLIP).partition("@")
        if weights.endswith((".pt", ".pth", ".bin", ".safetensors")) and not Path(weights).exists():
            raise SettingsError(f"no open_clip model {name!r}: there is no file {weights}")
        try:
            torch.manual_seed(0)  # where there are no weights, at least the same
            made: Any = open_clip.create_model_and_transforms(
                architecture, pretrained=weights or None
            )
            self._tokenize: Any = open_clip.get_tokenizer(architecture)
        except Exception as error:  # it has a class for each kind of fault
            reason = str(error).strip().partition("\n")[0]
            raise SettingsError(
                f"no open_clip model {name!r} ({reason:.200}): open_clip.list_pretrained() has "
                "their names and weights"
            ) from error
        model, _, self._transform = made
        self.digest = model_digest(
            model.state_dict().items(),
            str(self._transform),
            architecture,
            repr(self._tokenize)[:40],
        )
        self._model: Any = model.to(self._device).eval()
        self.width = int(self.embed_texts(["a"]).shape[1])

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        pixels = torch.stack([self._transform(not_longer(image)) for image in images])
        with torch.inference_mode():
            return unit_rows(self._model.encode_image(pixels.to(self._device)))

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        with torch.inference_mode():
            return unit_rows(self._model.encode_text(self._tokenize(list(texts)).to(self._device)))
