"""Models that embed images and texts, whoever trained them.

| name | what it is |
|---|---|
| RUN, RUN/model, a published name | an AlignModel, by transformers |
| a folder or name whose config says so | a CLIPModel or SiglipModel, by transformers |
| open_clip:NAME, open_clip:NAME@WEIGHTS | a model of open_clip; WEIGHTS: a tag of it, or a file |
"""

import copy
import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, SiglipModel

from alignset.train.data.batches import R, T, prefetch
from alignset.train.data.images import not_longer
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.model.pretrained import (
    OPEN_CLIP,
    check_tokenizer,
    load,
    load_whole,
    model_type,
    one_line,
    read_pretrained,
)
from alignset.train.settings import Settings

Embeddings = npt.NDArray[np.float32]
BF16 = "bf16-"  # what the digest of a model that computes so begins with
_TO_COMPARE: dict[str, Any] = {"clip": CLIPModel, "siglip": SiglipModel}


class DualEmbedder:
    """A model in evaluation mode, on each device; these share what is embedded, in order. One
    thread at a time, but for `prepare`.

    Attributes:
      name: as the user gave it.
      kind: what it is, such as "AlignModel".
      digest: of its weights and of how it prepares images and texts, in hex; with BF16 before it
        where it computes in bf16. Embeddings of equal digests may be compared with each other.
      width: of its embeddings.
      devices: how many there are.
    """

    kind: str
    width: int
    _image_rows: Callable[..., torch.Tensor]  # of a model and pixels
    _text_rows: Callable[..., torch.Tensor]  # of a model and what `_tokens` gives
    _tokens: Callable[[Sequence[str]], Sequence[torch.Tensor]]
    _pixels: Callable[..., torch.Tensor]  # of an image: float32[3, h, w]

    def __init__(self, name: str, model: Any, fast: bool, *descriptions: object):
        devices = usual_devices() if fast else usual_devices()[:1]
        self.name, self.devices = name, len(devices)
        self._bf16 = fast and all(map(has_bf16, devices))
        # `descriptions`: what else than the weights decides on an embedding.
        digest = _model_digest(model.state_dict().items(), *descriptions)
        self.digest = BF16 + digest if self._bf16 else digest
        models = [model, *(copy.deepcopy(model) for _ in devices[1:])]
        self._replicas = [(m.to(d).eval(), d) for m, d in zip(models, devices, strict=True)]
        self._threads = ThreadPoolExecutor(self.devices)

    def prepare(self, image: Image.Image, name: str = "an image", **options: bool) -> torch.Tensor:
        """float32[3, h, w] of an RGB image of any size: the model's input. Any thread may call.

        Args:
          name: of its file or sample.

        Raises:
          SettingsError: the model's image processor fails; the message has the name.
        """
        what = f"the image processor of {self.name} fails on {name!r:.200}"
        with one_line(what, "correct its configuration, or leave the image out"):
            return self._pixels(image, **options)

    def embed_prepared(self, pixels: Sequence[torch.Tensor]) -> Embeddings:
        """float32[n, width], L2-normalised, of images that `prepare` has made."""
        return self._embed(self._image_rows, torch.stack([*pixels]))

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """float32[n, width], L2-normalised, of RGB images of any size."""
        return self.embed_prepared([*map(self.prepare, images)])

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """float32[n, width], L2-normalised. Texts that are too long for the model are cut.

        Raises:
          SettingsError: the tokenizer fails on one of them; the message has it.
        """
        return self._embed(self._text_rows, *self._whole_tokens(texts))

    def _whole_tokens(self, texts: Sequence[str]) -> Sequence[torch.Tensor]:
        try:
            return self._tokens(texts)
        except Exception:
            for text in texts:  # a tokenizer does not say which
                what = f"the tokenizer of {self.name} fails on the text {text!r:.200}"
                with one_line(what, "correct it, or leave it out"):
                    self._tokens([text])
            raise

    def _embed(self, rows: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Embeddings:
        """float32[n, ..., width], L2-normalised, of inputs [n, ...]."""

        def embed(replica: tuple[Any, torch.device], *share: torch.Tensor) -> Embeddings:
            model, device = replica
            autocast = torch.autocast(device.type, torch.bfloat16, enabled=self._bf16)
            with torch.inference_mode(), autocast:
                return _unit_rows(rows(model, *(part.to(device) for part in share)))

        each = map if self.devices == 1 else self._threads.map
        shares = [tensor.chunk(self.devices) for tensor in inputs]
        return np.concatenate([*each(embed, self._replicas, *shares)])


def open_embedder(name: str, *, fast: bool = True) -> DualEmbedder:
    """The model that `name` means: on all GPUs and in bf16 where they have it, or on one in float32
    where it is not to be `fast`. On a CPU both are the same.

    Raises:
      SettingsError: there is none, it can't be had, or it is of another kind.
    """
    if name.startswith(OPEN_CLIP):
        return OpenClipEmbedder(name, fast)
    model = os.path.join(name, "model")  # of a run
    name = model if os.path.isdir(model) else name
    kind = model_type(name)
    if kind == "align":
        return AlignEmbedder(name, fast)
    if kind in _TO_COMPARE:
        return ClipEmbedder(name, kind, fast)
    raise SettingsError(
        f"{name!r} is a model of type {kind!r}: name an AlignModel, CLIPModel or SiglipModel (a "
        f"folder or a published name) or {OPEN_CLIP}NAME"
    )


def embed_ahead(
    embedder: DualEmbedder,
    parts: Generator[T, None, None],
    read: Callable[[T, Executor], tuple[R, Sequence[torch.Tensor]]],
    *,
    threads: int = 0,
    embed: Callable[[Sequence[torch.Tensor]], Embeddings] | None = None,
) -> Iterator[tuple[R, Embeddings]]:
    """Embeds the images of parts, in order; a thread reads the next part meanwhile.

    Args:
      read: gives what to yield beside the embeddings, and images that `prepare` has made; by the
        threads of the pool that it gets.
      threads: of that pool; 0: one for each core, two at least.
      embed: of prepared images, by default `embed_prepared`.

    Raises:
      TrainingError: an embedding is not finite.
    """
    embed = embed or embedder.embed_prepared
    cores = torch.get_num_threads()
    threads = threads or max(2, os.cpu_count() or 1)
    # Else torch would start more threads for each of the pool.
    pool = ThreadPoolExecutor(threads, "prepare", torch.set_num_threads, (1,))
    try:
        with pool:
            for result, pixels in prefetch(parts, lambda part: read(part, pool)):
                none = np.zeros((0, embedder.width), np.float32)
                yield result, finite(embed(pixels)) if pixels else none
    finally:
        torch.set_num_threads(cores)  # of threads that begin later


class _TransformersEmbedder(DualEmbedder):
    """A model of transformers, with its own image processor and tokenizer."""

    # "max_length" where the model was trained on texts that are all padded to one length, and
    # attends to the padding.
    _padding: bool | str = True
    _image_rows = staticmethod(lambda model, pixels: model.get_image_features(pixels).pooler_output)
    _text_rows = staticmethod(lambda model, *ids: model.get_text_features(*ids).pooler_output)

    def __init__(self, name: str, model: Any, fast: bool, images: Any, tokenizer: Any):
        super().__init__(name, model, fast, images.to_dict(), _tokenizer_text(tokenizer))
        self._images, self._tokenizer = images, tokenizer
        text = model.config.text_config
        self.width: int = getattr(model.config, "projection_dim", 0) or text.projection_size
        self._max_tokens = min(tokenizer.model_max_length, text.max_position_embeddings)

    def _pixels(self, image: Image.Image, **options: bool) -> torch.Tensor:
        pixels: torch.Tensor = self._images(image, return_tensors="pt", **options)["pixel_values"]
        return pixels[0]

    def _tokens(self, texts: Sequence[str]) -> Sequence[torch.Tensor]:
        tokens = self._tokenizer(
            list(texts),
            padding=self._padding,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        names = ("input_ids", "attention_mask") if self._padding is True else ("input_ids",)
        return [tokens[name] for name in names if name in tokens]


class AlignEmbedder(_TransformersEmbedder):
    """As any user's AlignModel: images and texts go through the saved AlignProcessor.

    An image's embedding is the mean of EfficientNet's last map, without a layer behind it, so that
    each place of the map is an embedding of a part of the image.

    Raises:
      SettingsError: there is no AlignModel of this name.
    """

    kind = "AlignModel"

    def __init__(self, name: str, fast: bool):
        model, processor = read_pretrained(name)
        super().__init__(name, model, fast, processor.image_processor, processor.tokenizer)

    def embed_class_tokens(self, texts: Sequence[str]) -> Embeddings:
        """float32[n, width of the tower], L2-normalised: [CLS], before the projection."""
        return self._embed(
            lambda model, *ids: model.text_model(*ids).last_hidden_state[:, 0],  # [n, width]
            *self._whole_tokens(texts),
        )

    def prepare_whole(self, image: Image.Image, name: str) -> torch.Tensor:
        """The same as `prepare`, for `embed_parts`: of all the image, squeezed to a square."""
        side = self._replicas[0][0].config.vision_config.image_size
        square = image.resize((side, side), Image.Resampling.BILINEAR)
        return self.prepare(square, name, do_resize=False, do_center_crop=False)

    def embed_parts(self, pixels: Sequence[torch.Tensor]) -> Embeddings:
        """float32[n, h, w, width], L2-normalised: a map of each image that `prepare_whole` has
        made. Its mean over h and w, before it is normalised, is what embed_images has of such a
        square."""
        return self._embed(
            # [n, c, h, w] -> [n, h, w, c]
            lambda model, pixels: model.vision_model(pixels).last_hidden_state.permute(0, 2, 3, 1),
            torch.stack([*pixels]),
        )


class ClipEmbedder(_TransformersEmbedder):
    """A CLIPModel or a SiglipModel, to compare with.

    Args:
      kind: "clip" or "siglip", as its config has it.

    Raises:
      SettingsError: it is not a whole model of this kind.
    """

    def __init__(self, name: str, kind: str, fast: bool):
        self.kind = _TO_COMPARE[kind].__name__
        with one_line(
            f"no {self.kind} at {name!r}", f"name a whole {self.kind}, with its tokenizer"
        ):
            model = load_whole(_TO_COMPARE[kind], name)
            images = load(AutoImageProcessor, name)
            tokenizer = load(AutoTokenizer, name)
        check_tokenizer(name, self.kind, tokenizer, model.config.text_config.vocab_size)
        self._padding = "max_length" if kind == "siglip" else True
        super().__init__(name, model, fast, images, tokenizer)

    def _pixels(self, image: Image.Image, **options: bool) -> torch.Tensor:
        return super()._pixels(not_longer(image), **options)


class OpenClipEmbedder(DualEmbedder):
    """`open_clip:NAME@WEIGHTS`, to compare with, by the transform and the tokenizer that open_clip
    has for it.

    Without WEIGHTS it has none that were trained, unless NAME itself names a saved model
    (local-dir:FOLDER, hf-hub:NAME).

    Raises:
      SettingsError: open_clip is not installed, or knows no such model or weights.
    """

    kind = "open_clip"
    _image_rows = staticmethod(lambda model, pixels: model.encode_image(pixels))
    _text_rows = staticmethod(lambda model, ids: model.encode_text(ids))

    def __init__(self, name: str, fast: bool):
        try:
            import open_clip  # here, because not everybody has it
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"{name} needs a package that is not installed: pip install open-clip-torch"
            ) from error
        architecture, _, weights = name.removeprefix(OPEN_CLIP).partition("@")
        advice = "open_clip.list_pretrained() has their names and weights"
        with one_line(f"no open_clip model {name!r}", advice):
            torch.manual_seed(0)  # where there are no weights, at least the same
            loaded_model: Any = open_clip.create_model_and_transforms(
                architecture, pretrained=weights or None
            )
            self._tokenize: Any = open_clip.get_tokenizer(architecture)
        model, _, self._transform = loaded_model
        descriptions = str(self._transform), architecture, repr(self._tokenize)[:40]
        super().__init__(name, model, fast, *descriptions)
        self.width = int(self.embed_texts(["a"]).shape[1])

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = self._transform(not_longer(image))
        return pixels

    def _tokens(self, texts: Sequence[str]) -> Sequence[torch.Tensor]:
        return [self._tokenize(list(texts))]


def usual_devices() -> list[torch.device]:
    """All GPUs, or the CPU."""
    gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return gpus or [torch.device("cpu")]


def has_bf16(device: torch.device) -> bool:
    """Whether towers that are trained on it would compute in bf16."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    return Settings().resolve(device.type, capability).precision == "bf16"


def _unit_rows(rows: torch.Tensor) -> Embeddings:
    """float32[..., d] of length 1 each. Numbers that are not finite stay so, for the task to
    refuse."""
    unit: Embeddings = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return unit


def finite(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The same vectors. Raises TrainingError where they are not all finite numbers."""
    if not np.isfinite(vectors).all():
        raise TrainingError(
            "the model's embeddings are not all finite numbers: it diverged, take an earlier one"
        )
    return vectors


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
