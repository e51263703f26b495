"""A classifier of images in onnxruntime: opened once a process, for all of its threads."""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.images.resampling import Pixels
from transforms.safety.model_files import ModelError, ModelInput, UnsafeModel, model_bytes

# Images that go through the model at once. On a CPU the score of an image is the same bits in any
# batch, 4 cost 0.95 of what single ones do each, and 16 no less than that in 4 times the memory.
BATCH, GPU_BATCH = 4, 64
_GPU = "CUDAExecutionProvider"
_TO_PROBABILITY = ("none", "softmax", "sigmoid")
_FOR_CHECKING = 2  # images


class Classifier:
    """What says how likely an image is unsafe. For all threads.

    Args:
      model: its file and what that takes and gives.

    Attributes:
      batch: images that are best given at once.
      on_gpu: whether it runs on one.

    Raises:
      ModelError: the file is no such model.
    """

    def __init__(self, model: UnsafeModel) -> None:
        self._name, self._wanted = model.path or "open-nsfw.onnx", model.wanted
        encoded = model_bytes(model.path)
        if (there := hashlib.sha256(encoded).hexdigest()) != model.sha256:
            raise ModelError(
                f"unsafe_model: {self._name} has the SHA-256 {there}, and the run was started "
                f"with {model.sha256}; give each worker the same file"
            )
        self._session = self._opened(encoded)
        self.on_gpu = _GPU in self._session.get_providers()
        self.batch = GPU_BATCH if self.on_gpu else BATCH
        if self._check_input() == 1:
            self.batch = 1
        self._check_output()
        wanted = model.wanted
        row = [np.tile(np.array(of, np.float32), wanted.size) for of in (wanted.mean, wanted.scale)]
        self._mean, self._scale = row
        self._scaled = any(scale != 1 for scale in wanted.scale)

    def _opened(self, encoded: bytes) -> Any:
        import onnxruntime  # 0.1 s, which a run without scores has no use for

        options = onnxruntime.SessionOptions()
        # Threads of the caller: one picture after the other on each core takes the least time.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is raised
        providers: list[Any] = ["CPUExecutionProvider"]
        if _GPU in onnxruntime.get_available_providers():
            providers.insert(0, (_GPU, {"use_tf32": "0"}))  # whose products have 10 bits
        try:
            return onnxruntime.InferenceSession(encoded, options, providers=providers)
        except Exception as error:  # onnxruntime has a class of its own for each kind of fault
            raise ModelError(
                f"unsafe_model: {self._name} is no whole ONNX model that onnxruntime "
                f"{onnxruntime.__version__} opens: {_first_line(error)}"
            ) from error

    def _check_input(self) -> int | None:
        """The number of images that the model is fixed to, None where it takes any."""
        wanted, inputs = self._wanted, {i.name: i for i in self._session.get_inputs()}
        outputs = {o.name for o in self._session.get_outputs()}
        self._must(wanted.input in inputs, f"no input {wanted.input!r}; it has {_names(inputs)}")
        self._must(
            wanted.output in outputs, f"no output {wanted.output!r}; it has {_names(outputs)}"
        )
        self._must(len(inputs) == 1, f"more inputs than {wanted.input!r}: {_names(inputs)}")
        given = inputs[wanted.input]
        self._must(
            given.type == "tensor(float)",
            f"an input of {given.type}, and float32 is what it is given",
        )
        shape = (wanted.size, wanted.size, 3)
        if wanted.layout == "NCHW":
            shape = (3, wanted.size, wanted.size)
        fits = len(given.shape) == 4 and all(
            has == want for has, want in zip(given.shape[1:], shape, strict=True) if _fixed(has)
        )
        self._must(
            fits,
            f"an input of shape {given.shape}, and its JSON says {wanted.layout} of "
            f"{wanted.size} px: [n, {', '.join(map(str, shape))}]",
        )
        images = given.shape[0]
        self._must(
            not _fixed(images) or images == 1,
            f"an input of just {images} images; export it with a batch of any size, or of 1",
        )
        return images if _fixed(images) else None

    def _check_output(self) -> None:
        """Runs the model once: what it gives must be probabilities, of as many classes."""
        wanted = self._wanted
        shape = (min(self.batch, _FOR_CHECKING), wanted.size, wanted.size, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8).astype(np.float32)
        mean, scale = (np.array(of, np.float32) for of in (wanted.mean, wanted.scale))
        values = (noise - mean) * scale
        try:
            output = self._run(values)
        except Exception as error:
            raise self._fault(f"failed on two images: {_first_line(error)}") from error
        classes = output[0].size
        self._must(
            max(wanted.unsafe_classes) < classes,
            f"{classes} classes, of which {list(wanted.unsafe_classes)} are to be unsafe",
        )
        least, most = float(output.min()), float(output.max())
        self._must(
            bool(np.isfinite(output).all()) and least >= -1e-4 and most <= 1 + 1e-4,
            f"an output from {least:.3g} to {most:.3g}, which are no probabilities: give its JSON "
            "an activation, softmax or sigmoid",
        )

    def _must(self, is_so: bool, fault: str) -> None:
        if not is_so:
            raise self._fault(f"has {fault}")

    def _fault(self, fault: str) -> ModelError:
        return ModelError(f"unsafe_model: {self._name} {fault} (docs/safety.md)")

    def _run(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32[n, classes], probabilities, of float32[n, size, size, 3]."""
        if self._wanted.layout == "NCHW":
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        (output,) = self._session.run([self._wanted.output], {self._wanted.input: values})
        flat = np.asarray(output, np.float32).reshape(len(values), -1)
        return _probabilities(flat, self._wanted.activation)

    def scores(self, pictures: list[Pixels]) -> list[float]:
        """How likely each is unsafe, 0 to 1, to 4 digits: its bits do not depend on the others.

        Args:
          pictures: uint8[size, size, 3], as `model_pixels` gives them.
        """
        size = self._wanted.size
        values = np.empty((len(pictures), size, size * 3), np.float32)
        for row, pixels in zip(values, pictures, strict=True):
            row[:] = pixels.reshape(size, size * 3)
            row -= self._mean
            if self._scaled:
                row *= self._scale
        output = self._run(values.reshape(-1, size, size, 3))
        unsafe = output[:, list(self._wanted.unsafe_classes)].sum(axis=1, dtype=np.float64)
        return [round(min(float(score), 1.0), 4) for score in unsafe]


def _probabilities(output: npt.NDArray[np.float32], activation: str) -> npt.NDArray[np.float32]:
    if activation == "sigmoid":
        return np.float32(1) / (np.float32(1) + np.exp(-output))
    if activation == "softmax":
        powers = np.exp(output - output.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    return output


def _fixed(side: object) -> bool:
    return isinstance(side, int) and side > 0


def _names(names: Any) -> str:
    return ", ".join(map(repr, sorted(names)))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


@lru_cache(maxsize=2)
def open_classifier(model: UnsafeModel) -> Classifier:
    """A model, opened once a process."""
    return Classifier(model)


def cpu_s_an_image(classifier: Classifier, wanted: ModelInput) -> float:
    """What a score costs here, CPU-seconds, without the decode."""
    pictures = [np.zeros((wanted.size, wanted.size, 3), np.uint8)] * classifier.batch
    begun = time.process_time()
    classifier.scores(pictures)
    return (time.process_time() - begun) / len(pictures)
