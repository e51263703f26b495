"""A classifier of images in onnxruntime: opened once a process, for all of its threads."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.safety.model_files import (
    OPEN_NSFW,
    USUALLY_LEFT,
    ModelError,
    ModelInput,
    QuickLook,
    UnsafeModel,
    model_bytes,
)
from alignset.transforms.safety.model_pixels import smaller
from alignset.transforms.safety.network import Network
from alignset.transforms.safety.usual_graph import for_size, without_unread_sums

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
      whole, quick: the networks; `quick` with its look, None where there is none.

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
        if model.sha256 == OPEN_NSFW.sha256:
            encoded = without_unread_sums(encoded)
        self.whole = self._opened(encoded, model.wanted)
        self.on_gpu = self.whole.on_gpu
        self.batch = GPU_BATCH if self.on_gpu else BATCH
        if self._check_input() == 1:
            self.batch = 1
        self._check_output()
        self.quick: tuple[Network, QuickLook] | None = None
        if look := model.quick_look:
            wanted = replace(model.wanted, size=look.size, resize=look.size)
            self.quick = self._opened(for_size(encoded, look.size), wanted), look

    def _opened(self, encoded: bytes, wanted: ModelInput) -> Network:
        try:
            return Network(encoded, wanted)
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
        if self.quick is None:
            return self.whole.scores(pictures)
        network, look = self.quick
        found = network.scores([smaller(picture, look.size) for picture in pictures])
        # What is no number is not below the threshold either.
        left = [n for n, score in enumerate(found) if not score < look.settles_below]
        whole = self.whole.scores([pictures[n] for n in left])
        for n, score in zip(left, whole, strict=True):
            found[n] = score
        return found

    def cpu_s_an_image(self) -> float:
        """What a score costs here, CPU-seconds, without the decode."""
        whole_s = least_cpu_s(self.whole, self._wanted.size, self.batch)
        if self.quick is None:
            return whole_s
        network, look = self.quick
        return least_cpu_s(network, look.size, self.batch) + USUALLY_LEFT * whole_s


def least_cpu_s(network: Network, size: int, batch: int) -> float:
    """CPU-seconds a picture, of the better of two runs: the first also takes its memory."""
    pictures, taken = [np.zeros((size, size, 3), np.uint8)] * batch, []
    for _ in range(2):
        begun = time.process_time()
        network.scores(pictures)
        taken.append((time.process_time() - begun) / len(pictures))
    return min(taken)


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
