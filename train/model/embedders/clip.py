"""transformers.CLIPModel and SiglipModel as embedders, to compare with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, SiglipModel

from alignset.train.model.embedder import Embeddings, not_longer
from alignset.train.model.embedders.weights import (
    model_digest,
    tokenizer_text,
    unit_rows,
    usual_device,
)
from alignset.train.model.pretrained import check_tokenizer, check_whole, one_line

_KINDS: dict[str, Any] = {"clip": CLIPModel, "siglip": SiglipModel}


class ClipEmbedder:
    """With its own image processor and tokenizer. Siglip was trained on texts that are all padded
    to one length, CLIP on texts that are padded as is needed.

    Args:
      kind: "clip" or "siglip", as its config has it.

    Raises:
      SettingsError: it is no whole model of this kind.
    """

    def __init__(self, name: str, kind: str):
        self.name, self._device = name, usual_device()
        local = Path(name).is_dir()
        self.kind = _KINDS[kind].__name__
        with one_line(name, self.kind):
            loaded: Any = _KINDS[kind].from_pretrained(
                name, local_files_only=local, output_loading_info=True, dtype="float32"
            )
            self._images: Any = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                name, local_files_only=local
            )
        with one_line(name, f"tokenizer of a {self.kind}"):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name, local_files_only=local)
        model, loading = loaded
        check_whole(name, self.kind, loading)
        text = model.config.text_config
        check_tokenizer(name, self.kind, self._tokenizer, text.vocab_size)
        self._padding = "max_length" if kind == "siglip" else True
        self.digest = model_digest(
            model.state_dict().items(), self._images.to_dict(), tokenizer_text(self._tokenizer)
        )
        self._model = model.to(self._device).eval()
        self.width = text.projection_size if kind == "siglip" else model.config.projection_dim
        self._max_tokens = min(self._tokenizer.model_max_length, text.max_position_embeddings)

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        shown = [not_longer(image) for image in images]
        pixels = self._images(shown, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            rows = self._model.get_image_features(pixels.to(self._device)).pooler_output
        return unit_rows(rows)

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        tokens = self._tokenizer(
            list(texts),
            padding=self._padding,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        # Siglip attends to its padding too; its tokenizer gives no mask.
        wanted = ("input_ids", "attention_mask") if self._padding is True else ("input_ids",)
        inputs = {key: tokens[key].to(self._device) for key in wanted if key in tokens}
        with torch.inference_mode():
            rows = self._model.get_text_features(**inputs).pooler_output
        return unit_rows(rows)
