"""A classifier of images in onnxruntime: opened once a process, for all of its threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.onnx_networks import file_of_run
from alignset.transforms.safety.model_files import (
    INTEGER_FILE,
    USUALLY_LEFT,
    ModelError,
    UnsafeModel,
    open_nsfw_path,
)
from alignset.transforms.safety.networks import FloatNetwork, IntegerNetwork

# Images that go through the model at once. On a CPU the score of an image is the same bits in any
# batch, 4 cost 0.95 of what single ones do each, and 16 no less than that in 4 times the memory.
BATCH, GPU_BATCH = 4, 64
_FOR_CHECKING = 2  # images


class Classifier:
    """The classifier that gives NSFW scores of images. For all threads.

    Args:
      model: its file and what that takes and gives.

    Attributes:
      batch: images that are best given at once.
      on_gpu: whether it runs on one.
      whole: the network in float.
      integer: its equal in integers, None where there is none. A GPU runs `whole` for less.

    Raises:
      ModelError: the file is not such a model.
    """

    def __init__(self, model: UnsafeModel) -> None:
        self._name, self._form = model.path or "open-nsfw.onnx", model.wanted
        model_bytes = file_of_run(model.path or open_nsfw_path(), model.sha256)
        try:
            self.whole = FloatNetwork(model_bytes, self._form)
        except Exception as error:  # onnxruntime has a class of its own for each kind of fault
            raise self._fault(f"is not a whole ONNX model: {_one_line(error)}") from error
        self.on_gpu = self.whole.on_gpu
        inputs = self.whole.session.get_inputs()
        self._must(
            [one.name for one in inputs] == [self._form.input],
            f"has the inputs {[one.name for one in inputs]}, and must have one, as its JSON "
            f"says: {self._form.input!r}",
        )
        takes_one = inputs[0].shape[:1] == [1]
        self.batch = 1 if takes_one else GPU_BATCH if self.on_gpu else BATCH
        if model.path:  # the usual one's output is known
            self._check_output()
        self.integer, self._settles_below = None, 0.0
        if (integer := model.integer_model) and not self.on_gpu:
            model_bytes = file_of_run(str(INTEGER_FILE), integer.sha256)
            self.integer, self._settles_below = IntegerNetwork(model_bytes), integer.settles_below

    def _check_output(self) -> None:
        """Runs the model once: what it gives must be probabilities, of as many classes."""
        form = self._form
        shape = (min(self.batch, _FOR_CHECKING), form.size, form.size, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        try:
            output = self.whole.probabilities(list(noise))
        except Exception as error:
            pictures = f"{form.layout} of {shape[0]} images of {form.size} px"
            raise self._fault(f"failed on {pictures}: {_one_line(error)}") from error
        classes = output[0].size
        self._must(
            max(form.unsafe_classes) < classes,
            f"has {classes} classes, of which {list(form.unsafe_classes)} are to be unsafe",
        )
        least, most = float(output.min()), float(output.max())
        self._must(
            bool(np.isfinite(output).all()) and least >= -1e-4 and most <= 1 + 1e-4,
            f"has an output from {least:.3g} to {most:.3g}, which are not probabilities: give its "
            "JSON an activation, softmax or sigmoid",
        )

    def _must(self, holds: bool, fault: str) -> None:
        if not holds:
            raise self._fault(fault)

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
        """The cost of a score here, CPU-seconds, without the decode."""
        pictures = [np.zeros((self._form.size, self._form.size, 3), np.uint8)] * self.batch
        if self.integer is None:
            return least_cpu_s(self.whole.scores, pictures)
        whole_s = least_cpu_s(self.whole.scores, pictures[:1])  # as what is left to it is scored
        return least_cpu_s(self.integer.scores, pictures) + USUALLY_LEFT * whole_s


def least_cpu_s(scores: Callable[[list[Pixels]], list[float]], pictures: list[Pixels]) -> float:
    """CPU-seconds an image, of the better of two runs: the first also allocates memory."""
    runs_s = []
    for _ in range(2):
        start_s = time.process_time()
        scores(pictures)
        runs_s.append((time.process_time() - start_s) / len(pictures))
    return min(runs_s)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@lru_cache(maxsize=2)
def open_classifier(model: UnsafeModel) -> Classifier:
    """A model, opened once a process."""
    return Classifier(model)
