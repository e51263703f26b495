"""Models that embed images and texts, whoever trained them.

| name | what it is |
|---|---|
| RUN, RUN/model, a published name | an AlignModel, by transformers |
| a folder or name whose config says so | a CLIPModel or SiglipModel, by transformers |
| open_clip:NAME, open_clip:NAME@WEIGHTS | a model of open_clip; WEIGHTS: a tag of it, or a file |
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, SiglipModel

from alignset.train.data.images import not_longer
from alignset.train.errors import SettingsError
from alignset.train.model.pretrained import (
    OPEN_CLIP,
    check_tokenizer,
    load,
    load_whole,
    model_type,
    one_line,
    read_pretrained,
)

Embeddings = npt.NDArray[np.float32]
_TO_COMPARE: dict[str, Any] = {"clip": CLIPModel, "siglip": SiglipModel}


class DualEmbedder(Protocol):
    """A model in evaluation mode, on the GPU where there is one. One thread at a time.

    Attributes:
      name: as the user gave it.
      kind: what it is, such as "AlignModel".
      digest: hex; of its weights and of how it prepares images and texts. Embeddings of equal
        digests may be compared with each other.
      width: of its embeddings.
    """

    name: str
    kind: str
    digest: str
    width: int

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """float32[n, width], L2-normalised, of RGB images of any size."""

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """float32[n, width], L2-normalised. Texts that are too long for the model are cut."""


def open_embedder(name: str) -> DualEmbedder:
    """The model that `name` means.

    Raises:
      SettingsError: there is none, it can't be had, or it is of another kind.
    """
    if name.startswith(OPEN_CLIP):
        return OpenClipEmbedder(name)
    model = os.path.join(name, "model")  # of a run
    name = model if os.path.isdir(model) else name
    kind = model_type(name)
    if kind == "align":
        return AlignEmbedder(name)
    if kind in _TO_COMPARE:
        return ClipEmbedder(name, kind)
    raise SettingsError(
        f"{name!r} is a model of type {kind!r}: name an AlignModel, CLIPModel or SiglipModel (a "
        f"folder or a published name) or {OPEN_CLIP}NAME"
    )


class _TransformersEmbedder:
    """A model of transformers, with its own image processor and tokenizer.

    Args:
      padding: of texts, as the tokenizer takes it: "max_length" where the model was trained on
        texts that are all padded to one length, and attends to the padding.
    """

    kind: str

    def __init__(
        self, name: str, model: Any, images: Any, tokenizer: Any, padding: bool | str = True
    ):
        self.name, self._device = name, _usual_device()
        self._images, self._tokenizer, self._padding = images, tokenizer, padding
        self.digest = _model_digest(
            model.state_dict().items(), images.to_dict(), _tokenizer_text(tokenizer)
        )
        self._model = model.to(self._device).eval()
        text = model.config.text_config
        self.width: int = getattr(model.config, "projection_dim", 0) or text.projection_size
        self._max_tokens = min(tokenizer.model_max_length, text.max_position_embeddings)

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        pixels = self._images(list(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            rows = self._model.get_image_features(pixels.to(self._device)).pooler_output
        return _unit_rows(rows)

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        inputs = self._tokens(texts)
        with torch.inference_mode():
            rows = self._model.get_text_features(**inputs).pooler_output
        return _unit_rows(rows)

    def _tokens(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        tokens = self._tokenizer(
            list(texts),
            padding=self._padding,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        names = ("input_ids", "attention_mask") if self._padding is True else ("input_ids",)
        return {name: tokens[name].to(self._device) for name in names if name in tokens}


class AlignEmbedder(_TransformersEmbedder):
    """As any user's AlignModel: images and texts go through the saved AlignProcessor.

    An image's embedding is the mean of EfficientNet's last map, without a layer behind it, so that
    each place of the map is an embedding of a part of the image.

    Raises:
      SettingsError: there is no AlignModel of this name.
    """

    kind = "AlignModel"

    def __init__(self, name: str):
        model, processor = read_pretrained(name)
        super().__init__(name, model, processor.image_processor, processor.tokenizer)

    def embed_class_tokens(self, texts: Sequence[str]) -> Embeddings:
        """float32[n, width of the tower], L2-normalised: [CLS], before the projection."""
        with torch.inference_mode():
            states = self._model.text_model(**self._tokens(texts)).last_hidden_state
        return _unit_rows(states[:, 0])  # [n, tokens, width] -> [n, width]

    def embed_parts(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """float32[n, h, w, width], L2-normalised: a map over the whole of each image, which is
        squeezed to a square. Its mean over h and w, before it is normalised, is what embed_images
        has of such a square."""
        side = self._model.config.vision_config.image_size
        pixels = self._images(
            [image.resize((side, side), Image.Resampling.BILINEAR) for image in images],
            do_resize=False,
            do_center_crop=False,
            return_tensors="pt",
        )["pixel_values"]
        with torch.inference_mode():
            maps = self._model.vision_model(pixels.to(self._device)).last_hidden_state
        return _unit_rows(maps.permute(0, 2, 3, 1))  # [n, c, h, w] -> [n, h, w, c]


class ClipEmbedder(_TransformersEmbedder):
    """A CLIPModel or a SiglipModel, to compare with.

    Args:
      kind: "clip" or "siglip", as its config has it.

    Raises:
      SettingsError: it is not a whole model of this kind.
    """

    def __init__(self, name: str, kind: str):
        self.kind = _TO_COMPARE[kind].__name__
        with one_line(
            f"no {self.kind} at {name!r}", f"name a whole {self.kind}, with its tokenizer"
        ):
            model = load_whole(_TO_COMPARE[kind], name)
            images = load(AutoImageProcessor, name)
            tokenizer = load(AutoTokenizer, name)
        check_tokenizer(name, self.kind, tokenizer, model.config.text_config.vocab_size)
        super().__init__(name, model, images, tokenizer, "max_length" if kind == "siglip" else True)

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        return super().embed_images([not_longer(image) for image in images])


class OpenClipEmbedder:
    """`open_clip:NAME@WEIGHTS`, to compare with, by the transform and the tokenizer that open_clip
    has for it.

    Without WEIGHTS it has none that were trained, unless NAME itself names a saved model
    (local-dir:FOLDER, hf-hub:NAME).

    Raises:
      SettingsError: open_clip is not installed, or knows no such model or weights.
    """

    kind = "open_clip"

    def __init__(self, name: str):
        try:
            import open_clip  # here, because not everybody has it
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"{name} needs a package that is not installed: pip install open-clip-torch"
            ) from error
        self.name, self._device = name, _usual_device()
        architecture, _, weights = name.removeprefix(OPEN_CLIP).partition("@")
        advice = "open_clip.list_pretrained() has their names and weights"
        with one_line(f"no open_clip model {name!r}", advice):
            torch.manual_seed(0)  # where there are no weights, at least the same
            loaded_model: Any = open_clip.create_model_and_transforms(
                architecture, pretrained=weights or None
            )
            self._tokenize: Any = open_clip.get_tokenizer(architecture)
        model, _, self._transform = loaded_model
        self.digest = _model_digest(
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
            return _unit_rows(self._model.encode_image(pixels.to(self._device)))

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        with torch.inference_mode():
            return _unit_rows(self._model.encode_text(self._tokenize(list(texts)).to(self._device)))


def _usual_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _unit_rows(rows: torch.Tensor) -> Embeddings:
    """float32[..., d] of length 1 each. Numbers that are not finite stay so, for the task to
    refuse."""
    unit: Embeddings = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return unit


def _model_digest(tensors: Iterable[tuple[str, torch.Tensor]], *descriptions: object) -> str:
    """Hex SHA-256 of named weights, and of what else decides on an embedding."""
    digest = hashlib.sha256(json.dumps(descriptions, sort_keys=True, default=str).encode())
    for name, tensor in tensors:
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous()
        digest.update(plain.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tokenizer_text(tokenizer: Any) -> str:
    """All that a tokenizer of transformers does, as text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return str(backend.to_str())
    return json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
