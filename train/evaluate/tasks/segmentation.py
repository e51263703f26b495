"""Pixels classified by the classes' names alone, as the paper's table on ADE20K.

An image is squeezed to the model's square. Each place of EfficientNet's last map, before it is
pooled, is L2-normalised and scored against the classes' text embeddings; the scores are upsampled
bilinearly to the mask's size, and each pixel is of the class that scores best there.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from alignset.train.data.images import readable_image
from alignset.train.data.tables import image_file
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.classes import Classes, find_classes
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.sets.masked import find_masked, read_mask
from alignset.train.evaluate.task_result import Card, Section, TaskResult, percent, percents
from alignset.train.evaluate.zero_shot import PLAIN, class_weights, find_prompts

_AT_ONCE = 8  # images
AT_ONCE = 1 << 24  # scores
_SHOWN = 12  # images of a section
Overlaps = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: the dataset can't be read, or the model has no map of an image.
    """
    files = find_masked(flags.data, flags.masks)
    classes = find_classes(flags.classes, [])
    prompts = find_prompts(flags.prompts or PLAIN)
    embedding = open_embedding()
    embed_parts = getattr(embedding.embedder, "embed_parts", None)
    if embed_parts is None:
        raise SettingsError(
            f"a {embedding.embedder.kind} has no map of an image whose places are embeddings: "
            "segmentation is of an AlignModel"
        )
    weights = class_weights(embedding, classes.names, prompts)
    of_image = dict(_overlaps(files, lambda images: embed_parts(images) @ weights, flags, classes))
    if not of_image:
        raise SettingsError("no image of --data can be decoded: name some that can")
    overlaps = np.stack([*of_image.values()]).astype(float)
    if not overlaps.any():
        raise SettingsError(
            "no pixel of the masks is a class of --classes: their values are "
            f"{flags.first_value} to {flags.first_value + len(classes.names) - 1}, where "
            "--first_value says what the first is"
        )
    result = _scores(overlaps, classes) | {
        "prompts": len(prompts),
        "skipped": len(files) - len(of_image),
    }
    names = {place: files[place][0].name for place in of_image}
    return TaskResult(
        result,
        _sections(overlaps, names, classes) if flags.page else [],
        lambda: (image_file(image) for image, _ in files),
    )


def _overlaps(
    files: Sequence[tuple[Path, Path]],
    score: Callable[[list[Image.Image]], npt.NDArray[np.float32]],
    flags: Namespace,
    classes: Classes,
) -> Iterator[tuple[int, Ints]]:
    """The place and the `overlap` of each image that can be decoded."""
    for start in range(0, len(files), _AT_ONCE):
        items = []
        for place, (image, mask) in enumerate(files[start : start + _AT_ONCE], start):
            truth, picture = read_mask(mask), readable_image(image_file(image))
            if picture is not None:
                # All models squeeze it; eight large ones need not be held.
                picture.thumbnail((1 << 11, 1 << 11))
                items.append((place, truth, picture))
        if not items:
            continue
        maps = score([picture for *_, picture in items])
        if not np.isfinite(maps).all():
            raise TrainingError("the model's embeddings are not all finite numbers")
        for scores, (place, values, _) in zip(maps, items, strict=True):
            truth = values.astype(np.int64) - flags.first_value
            yield place, overlap(tell_pixels(scores, *truth.shape), truth, len(classes.names))


def _scores(overlaps: Overlaps, classes: Classes) -> dict[str, Any]:
    n, _, count = overlaps.shape
    sums = overlaps.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_class = sums[0] / sums[1]

    def resample(times: bootstrap.Floats, kinds: bootstrap.Floats) -> bootstrap.Floats:
        return mean_iou((times @ kinds).reshape(-1, 2, count))

    return {
        "n": n,
        "classes": count,
        "mean_iou": percent(float(mean_iou(sums))),
        "iou": {
            name: percent(float(value))
            for name, value in zip(classes.names, of_class, strict=True)
            if np.isfinite(value)
        },
        "intervals": {
            "mean_iou": percents(bootstrap.interval(overlaps.reshape(n, -1), resample)),
        },
    }


def _sections(overlaps: Overlaps, names: dict[int, str], classes: Classes) -> list[Section]:
    """
    Args:
      names: of each image, by its place in the dataset.
    """
    images = [*names.items()]
    of_image = mean_iou(overlaps)  # nan of an image without a class
    order = [row for row in np.argsort(-of_image, kind="stable").tolist() if overlaps[row].any()]

    def card(row: int) -> Card:
        place, image = images[row]
        name = classes.names[int(overlaps[row, 0].argmax())]
        lines = f"mean IoU {percent(float(of_image[row])):g}", f"most of it: {name}"
        return Card(place, (*lines, image))

    return [
        Section("Best", [card(row) for row in order[:_SHOWN]]),
        Section("Worst", [card(row) for row in order[::-1][:_SHOWN]]),
    ]


def tell_pixels(scores: npt.NDArray[np.float32], height: int, width: int) -> Ints:
    """int64[height, width]: the class that scores best at each pixel.

    Args:
      scores: float32[h, w, classes] of the places of a map that covers the image. They are
        interpolated bilinearly between the places' centres, as F.interpolate does it.
    """
    h, w, classes = scores.shape
    down, across = _weights(h, height), _weights(w, width)  # [height, h], [width, w]
    rows = torch.einsum("xw,hwc->hxc", across, torch.from_numpy(scores))  # [h, width, c]
    answers = np.empty((height, width), np.int64)
    size = max(1, AT_ONCE // (width * classes))
    for top in range(0, height, size):  # all at once 150 classes of a photograph take 4 GB
        part = torch.einsum("yh,hxc->yxc", down[top : top + size], rows)
        answers[top : top + size] = part.argmax(dim=2).numpy()
    return answers


def _weights(places: int, pixels: int) -> torch.Tensor:
    """float32[pixels, places]: how much of each place a pixel has."""
    of_each = torch.eye(places)[None]  # [1, places, places]: a signal for each place
    return F.interpolate(of_each, size=pixels, mode="linear", align_corners=False)[0].T


def overlap(answers: Ints, truth: Ints, classes: int) -> Ints:
    """int64[2, classes] of int64[h, w] each: pixels that are of a class and got it, and pixels that
    are either. Pixels without a class in the mask are ignored."""
    counts = (truth >= 0) & (truth < classes)
    right, answer = truth[counts], answers[counts]
    both = np.bincount(right[right == answer], minlength=classes)
    either = np.bincount(right, minlength=classes) + np.bincount(answer, minlength=classes) - both
    return np.stack([both, either])


def mean_iou(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64[...] of float64[..., 2, classes], sums of intersections and unions: the mean over the
    classes that occur, in a mask or in an answer; nan where none does."""
    with np.errstate(invalid="ignore", divide="ignore"):
        of_class = sums[..., 0, :] / sums[..., 1, :]
        occur = np.isfinite(of_class)
        result: npt.NDArray[np.float64] = np.where(occur, of_class, 0).sum(-1) / occur.sum(-1)
    return result
