"""transformers.AlignModel as an embedder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from alignset.train.model.embedder import Embeddings
from alignset.train.model.embedders.weights import (
    model_digest,
    tokenizer_text,
    unit_rows,
    usual_device,
)
from alignset.train.model.pretrained import read_pretrained


class AlignEmbedder:
    """As any user's model: images and texts go through the saved AlignProcessor.

    An image's embedding is the mean of EfficientNet's last map, without a layer behind it, so that
    each place of the map is an embedding of a part of the image.

    Raises:
      SettingsError: there is no AlignModel of this name.
    """

    kind = "AlignModel"

    def __init__(self, name: str):
        self.name, self._device = name, usual_device()
        model, processor = read_pretrained(name)
        self._images: Any = processor.image_processor
        self._tokenizer = processor.tokenizer
        self.digest = model_digest(
            model.state_dict().items(), self._images.to_dict(), tokenizer_text(self._tokenizer)
        )
        self._model: Any = model.to(self._device).eval()  # type: ignore[arg-type]  # loses `self`
        self.width = model.config.projection_dim
        self._max_tokens = min(
            self._tokenizer.model_max_length, model.text_model.config.max_position_embeddings
        )

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        pixels = self._images(list(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            rows = self._model.get_image_features(pixels.to(self._device)).pooler_output
        return unit_rows(rows)

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            rows = self._model.get_text_features(**tokens).pooler_output
        return unit_rows(rows)

    def embed_parts(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        side = self._model.config.vision_config.image_size
        pixels = self._images(
            [image.resize((side, side), Image.Resampling.BILINEAR) for image in images],
            do_resize=False,
            do_center_crop=False,
            return_tensors="pt",
        )["pixel_values"]
        with torch.inference_mode():
            maps = self._model.vision_model(pixels.to(self._device)).last_hidden_state
        return unit_rows(maps.permute(0, 2, 3, 1))  # [n, c, h, w] -> [n, h, w, c]
