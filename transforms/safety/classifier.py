"""A classifier of images in onnxruntime: opened once a process, for all of its threads."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.safety.integer_network import IntegerNetwork
from alignset.transforms.safety.model_files import (
    INTEGER_FILE,
    USUALLY_LEFT,
    ModelError,
    UnsafeModel,
    model_bytes,
)
from alignset.transforms.safety.network import Network

# Images that go through the model at once. On a CPU the score of an image is the same bits in any
# batch, 4 cost 0.95 of what single ones do each, and 16 no less than that in 4 times the memory.
BATCH, GPU_BATCH = 4, 64
_FOR_CHECKING = 2  # images


class Classifier:
    """What says how likely an image is unsafe. For all threads.

    Args:
      model: its file and what that takes and gives.

    Attributes:
      batch: images that are best given at once.
      on_gpu: whether it runs on one.
      whole: the network in float.
      integer: its equal in integers, None where there is none. A GPU runs `whole` for less.

    Raises:
      ModelError: the file is no such model.
    """

    def __init__(self, model: UnsafeModel) -> None:
        self._name, self._wanted = model.path or "open-nsfw.onnx", model.wanted
        encoded = model_bytes(model.path)
        _check_sha256(self._name, encoded, model.sha256)
        self.whole = self._opened(encoded)
        self.on_gpu = self.whole.on_gpu
        self.batch = GPU_BATCH if self.on_gpu else BATCH
        if self._check_input() == 1:
            self.batch = 1
        self._check_output()
        self.integer, self._settles_below = None, 0.0
        if (integer := model.integer_model) and not self.on_gpu:
            encoded = INTEGER_FILE.read_bytes()
            _check_sha256(INTEGER_FILE.name, encoded, integer.sha256)
            self.integer, self._settles_below = IntegerNetwork(encoded), integer.settles_below

    def _opened(self, encoded: bytes) -> Network:
        try:
            return Network(encoded, self._wanted)
        except Exception as error:  # onnxruntime has a class of its own for each kind of fault
            from onnxruntime import __version__ as version

            raise ModelError(
                f"unsafe_model: {self._name} is no whole ONNX model that onnxruntime "
                f"{version} opens: {_first_line(error)}"
            ) from error

    def _check_input(self) -> int | None:
        """The number of images that the model is fixed to, None where it takes any."""
        wanted, inputs = self._wanted, {i.name: i for i in self.whole.session.get_inputs()}
        outputs = {o.name for o in self.whole.session.get_outputs()}
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
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        try:
            output = self.whole.probabilities(list(noise))
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

    def scores(self, pictures: list[Pixels]) -> list[float]:
        """How likely each is unsafe, 0 to 1, to 4 digits: its bits do not depend on the others.

        Args:
          pictures: uint8[size, size, 3], as `model_pixels` gives them.
        """
        if self.integer is None:
            return self.whole.scores(pictures)
        scores = self.integer.scores(pictures)
        for n, score in enumerate(scores):
            if score >= self._settles_below:
                # Alone, since on some CPUs a batch changes the last bit of a float score.
                (scores[n],) = self.whole.scores([pictures[n]])
        return scores

    def cpu_s_an_image(self) -> float:
        """What a score costs here, CPU-seconds, without the decode."""
        pictures = [np.zeros((self._wanted.size, self._wanted.size, 3), np.uint8)] * self.batch
        whole_s = least_cpu_s(self.whole.scores, pictures)
        if self.integer is None:
            return whole_s
        return least_cpu_s(self.integer.scores, pictures) + USUALLY_LEFT * whole_s


def least_cpu_s(scores: Callable[[list[Pixels]], list[float]], pictures: list[Pixels]) -> float:
    """CPU-seconds a picture, of the better of two runs: the first also allocates memory."""
    runs_s = []
    for _ in range(2):
        begun = time.process_time()
        scores(pictures)
        runs_s.append((time.process_time() - begun) / len(pictures))
    return min(runs_s)


def _check_sha256(name: str, encoded: bytes, sha256: str) -> None:
    if (there := hashlib.sha256(encoded).hexdigest()) != sha256:
        raise ModelError(
            f"unsafe_model: {name} has the SHA-256 {there}, and the run was started with "
            f"{sha256}; give each worker the same file"
        )


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
