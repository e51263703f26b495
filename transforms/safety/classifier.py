"""How likely images are unsafe: a classifier in onnxruntime, opened once a process, for all of its
threads; its networks, in float and in integers; and what it is shown."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image as PillowImage

from alignset.transforms.images.decode import Pixels
from alignset.transforms.images.onnx_networks import GPU, file_of_run, open_session
from alignset.transforms.safety.model_files import (
    INTEGER_FILE,
    OPEN_NSFW,
    USUALLY_LEFT,
    ModelError,
    ModelInput,
    UnsafeModel,
    open_nsfw_path,
)

_BORDER = 3  # px around an image, of the mean colour: what the first convolution reads there
_PLACES = OPEN_NSFW.wanted.size // 2 + _BORDER
_EDGES = _BORDER, _BORDER, _BORDER, _BORDER
_MEAN = [round(value) for value in OPEN_NSFW.wanted.mean]
_IN_ORDER = np.repeat(np.arange(6), 2).tolist()  # of channels: from, to


class FloatNetwork:
    """A network in float, with one input of images. For all threads.

    Args:
      model_bytes: its file. form: what that takes and gives.

    Attributes:
      session: of onnxruntime.
      on_gpu: whether it runs on one.

    Raises:
      Exception: as `open_session`.
    """

    def __init__(self, model_bytes: bytes, form: ModelInput) -> None:
        self.session, self._form = open_session(model_bytes, may_use_gpu=True), form
        self.on_gpu = GPU in self.session.get_providers()
        self._is_scaled = any(factor != 1 for factor in form.scale)
        self._mean, self._scale = (
            np.tile(np.array(values, np.float32), form.size) for values in (form.mean, form.scale)
        )

    def probabilities(self, pictures: list[Pixels]) -> npt.NDArray[np.float32]:
        """float32[n, classes] for uint8[size, size, 3] each, in the model's order of channels."""
        form, size = self._form, self._form.size
        values = np.empty((len(pictures), size, size * 3), np.float32)
        for row, pixels in zip(values, pictures, strict=True):
            row[:] = pixels.reshape(size, size * 3)
            row -= self._mean
            if self._is_scaled:
                row *= self._scale
        tensor = values.reshape(-1, size, size, 3)
        if form.layout == "NCHW":
            tensor = np.ascontiguousarray(tensor.transpose(0, 3, 1, 2))
        name, outputs = self.session.get_inputs()[0].name, [form.output] if form.output else None
        output = np.asarray(self.session.run(outputs, {name: tensor})[0], np.float32)
        output = output.reshape(len(pictures), -1)
        if form.activation == "sigmoid":
            return np.float32(1) / (np.float32(1) + np.exp(-output))
        if form.activation == "softmax":
            powers = np.exp(output - output.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        return output

    def scores(self, pictures: list[Pixels]) -> list[float]:
        """How likely each is unsafe, 0 to 1, to 4 digits: its bits do not depend on the others."""
        if not pictures:
            return []
        output = self.probabilities(pictures)
        unsafe = output[:, list(self._form.unsafe_classes)].sum(axis=1, dtype=np.float64)
        return [round(min(float(score), 1.0), 4) for score in unsafe]


class IntegerNetwork:
    """The usual network in integers: equal scores on every CPU, for half the time or less.

    `benchmarks/nsfw_model.py` made its file, and docs/safety.md says how near its scores are. For
    all threads.
    """

    def __init__(self, model_bytes: bytes) -> None:
        self._session = open_session(model_bytes)

    def scores(self, pictures: Sequence[Pixels]) -> list[float]:
        """How likely each is unsafe, 0 to 1, to 4 digits.

        Its sums are sums of integers, so their bits depend neither on the CPU nor on the others.

        Args:
          pictures: uint8[224, 224, 3], as `model_pixels` gives them.
        """
        if not pictures:
            return []
        (logits,) = self._session.run(None, {"input:0": space_to_depth(pictures)})
        return [round(1 / (1 + math.exp(-logit)), 4) for logit in logits[:, 0].tolist()]


def space_to_depth(pictures: Sequence[Pixels]) -> npt.NDArray[np.uint8]:
    """uint8[n, 115, 115, 12]: the samples of 2x2 px are the channels of one place.

    A convolution of 12 channels takes a quarter of the time of one of 3 channels and 4 times the
    places.

    Args:
      pictures: uint8[224, 224, 3].
    """
    tensor = np.empty((len(pictures), _PLACES, _PLACES, 12), np.uint8)
    for places, picture in zip(tensor, pictures, strict=True):
        # Two samples at once, as words of 16 bits: three of a pixel pair, of a row and of the next.
        framed = cv2.copyMakeBorder(picture, *_EDGES, cv2.BORDER_CONSTANT, value=_MEAN)
        pairs = framed.reshape(_PLACES, -1).view(np.uint16).reshape(_PLACES, 2, _PLACES, 3)
        cv2.mixChannels([pairs[:, 0], pairs[:, 1]], [places.view(np.uint16)], _IN_ORDER)
    return tensor


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
            f"has {classes} classes, and {list(form.unsafe_classes)} are to be unsafe",
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

        def cost_s(scores: Callable[[list[Pixels]], list[float]], count: int) -> float:
            runs_s = []
            for _ in range(2):  # the first also allocates memory
                start_s = time.process_time()
                scores(pictures[:count])
                runs_s.append((time.process_time() - start_s) / count)
            return min(runs_s)

        if self.integer is None:
            return cost_s(self.whole.scores, self.batch)
        left_s = cost_s(self.whole.scores, 1)  # as what is left to it is scored
        return cost_s(self.integer.scores, self.batch) + USUALLY_LEFT * left_s


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@lru_cache(maxsize=2)
def open_classifier(model: UnsafeModel) -> Classifier:
    """A model, opened once a process."""
    return Classifier(model)


_BILINEAR = PillowImage.Resampling.BILINEAR


def unsafe_scores(pictures: Sequence[Pixels], model: UnsafeModel) -> list[float | None]:
    """The scores of some images, as many at once as the model's classifier has a batch.

    Args:
      pictures: uint8[size, size, 3] each, as `model_pixels` makes them.

    Returns:
      0 to 1, to 4 digits; None where the model has no number for it. No score depends on the other
      images.
    """
    scores = open_classifier(model).scores([*pictures]) if pictures else []
    return [score if math.isfinite(score) else None for score in scores]


def model_pixels(picture: PillowImage.Image, form: ModelInput) -> Pixels:
    """The image squashed, cropped and coded as the model's reference does it.

    Args:
      picture: as `examine` gives it with `keep_picture`.

    Returns:
      uint8[size, size, 3], in the model's order of channels.
    """
    whole, (width, height) = form.resize, picture.size
    begin = (whole - form.size) // 2
    end = begin + form.size
    box = begin * width / whole, begin * height / whole, end * width / whole, end * height / whole
    crop = picture.resize((form.size, form.size), _BILINEAR, box).convert("RGB")
    raw = crop.tobytes("raw", "BGR" if form.jpeg_quality else form.channels)
    pixels = np.frombuffer(raw, np.uint8).reshape(form.size, form.size, 3)
    if not form.jpeg_quality:
        return pixels
    # The reference of some models has a JPEG here, and their scores show it. OpenCV writes the
    # bytes of Pillow's, without the interpreter's lock.
    file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, form.jpeg_quality])[1]
    return simplejpeg.decode_jpeg(
        file, form.channels, fastdct=False, fastupsample=False, strict=False
    )
