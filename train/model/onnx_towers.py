"""Two towers as ONNX files, with what `export.json` beside them says: `alignset export`'s, or
anybody's in that form. Needs onnxruntime and tokenizers, and no torch."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alignset.train.data.images import not_longer
from alignset.train.errors import SettingsError

DOCUMENT = "export.json"
_INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_LARGEST = 1 << 20  # bytes of the document


def is_export(name: str) -> bool:
    """Whether it is a folder of exported towers."""
    return "://" not in name and (Path(name) / DOCUMENT).is_file()


class OnnxTowers:
    """As a `DualEmbedder`.

    Args:
      name: the folder.

    Raises:
      SettingsError: a tower is missing, is not an ONNX model, or the two do not fit each other.
    """

    kind = "ONNX towers"

    def __init__(self, name: str):
        self.name, folder = name, Path(name)
        try:
            with (folder / DOCUMENT).open("rb") as file:
                document = json.loads(file.read(_LARGEST))
            towers = document["towers"]
            self._image, self._text = towers["image"], towers["text"]
            sessions = {
                tower: _session(_file(folder, of["file"]), of) for tower, of in towers.items()
            }
            self._sessions = {tower: session for tower, (session, _) in sessions.items()}
            self._tokenizer = _tokenizer(folder, self._text["preprocessing"])
        except ModuleNotFoundError:
            raise
        except Exception as error:  # onnxruntime and tokenizers have classes of their own
            said_by_error = " ".join(str(error).split()) or type(error).__name__
            raise SettingsError(
                f"{name} has no image and text tower that can be run ({said_by_error:.200}): write "
                "both with alignset export --format=onnx --tower=both"
            ) from error
        parts = [json.dumps(document, sort_keys=True), self._tokenizer.to_str()]
        parts += [digest for _, (_, digest) in sorted(sessions.items())]
        self.digest = hashlib.sha256("".join(parts).encode()).hexdigest()
        self.width = self.embed_texts(["a"]).shape[1]
        width = self.embed_images([Image.new("RGB", (8, 8))]).shape[1]
        if width != self.width:
            raise SettingsError(
                f"the towers of {name} do not fit: an image has {width} numbers and a text "
                f"{self.width}"
            )

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32[n, width], L2-normalised, of RGB images of any size."""
        pixels = np.stack([_pixels(image, self._image["preprocessing"]) for image in images])
        return self._run("image", dict(zip(self._image["inputs"], [pixels], strict=True)))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, width], L2-normalised. Texts that are too long for the model are cut."""
        encodings = self._tokenizer.encode_batch([*texts])
        ids = np.array([one.ids for one in encodings], np.int64)
        mask = np.array([one.attention_mask for one in encodings], np.int64)
        names = list(self._text["inputs"])
        return self._run("text", dict(zip(names, (ids, mask), strict=False)))

    def _run(self, tower: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
        rows = np.asarray(self._sessions[tower].run(None, inputs)[0], np.float32)
        lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
        unit: np.ndarray = rows / np.where(lengths > 0, lengths, 1)
        return unit


def _file(folder: Path, name: str) -> Path:
    """A file of a folder; whoever wrote the document may have named any other."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{DOCUMENT} names {name!r}, which is not within the folder")
    return folder / name


def _session(path: Path, entry: dict[str, Any]) -> tuple[Any, str]:
    """A tower, and the SHA-256 of its file."""
    import onnxruntime

    body, providers = path.read_bytes(), onnxruntime.get_available_providers()
    digest = hashlib.sha256(body).hexdigest()
    if entry.get("sha256", digest) != digest:
        raise ValueError(f"{path.name} is not the file that {DOCUMENT} describes")
    return onnxruntime.InferenceSession(body, providers=providers), digest


def _tokenizer(folder: Path, entry: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(_file(folder, entry["tokenizer"])))
    tokenizer.enable_truncation(entry["max_tokens"])
    tokenizer.enable_padding(pad_id=entry["pad_token"])
    return tokenizer


def _pixels(image: Image.Image, entry: dict[str, Any]) -> np.ndarray:
    """float32[3, height, width] of an RGB image."""
    how = _INTERPOLATIONS[entry["interpolation"]]
    image = not_longer(image)
    image = image.resize(_side(image, entry["resize"]), how)
    if crop := entry["centre_crop"]:
        left, top = (image.width - crop["width"]) // 2, (image.height - crop["height"]) // 2
        image = image.crop((left, top, left + crop["width"], top + crop["height"]))
    pixels = np.asarray(image, np.float32) * np.float32(entry["scale"]) - entry["then_minus_1"]
    pixels = (pixels - np.array(entry["mean"], np.float32)) / np.array(entry["std"], np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)


def _side(image: Image.Image, size: dict[str, int]) -> tuple[int, int]:
    """Width and height that are resized to."""
    if shortest := size.get("shortest_edge"):
        share = shortest / min(image.size)
        return max(shortest, round(image.width * share)), max(shortest, round(image.height * share))
    return size["width"], size["height"]
