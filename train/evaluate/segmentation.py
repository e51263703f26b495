"""Pixels classified by the places of a map: upsampled scores, intersections, unions."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

AT_ONCE = 1 << 24  # scores

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassOverlap:
    """Of one image, int64[classes] each: pixels that are of a class and got it, and pixels
    that are either."""

    intersection: Ints
    union: Ints


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


def overlap(answers: Ints, truth: Ints, classes: int) -> ClassOverlap:
    """Of int64[h, w] each. Pixels whose truth is no class from 0 on do not count."""
    counts = (truth >= 0) & (truth < classes)
    right, chosen = truth[counts], answers[counts]
    both = np.bincount(right[right == chosen], minlength=classes)
    either = np.bincount(right, minlength=classes) + np.bincount(chosen, minlength=classes) - both
    return ClassOverlap(both, either)


def mean_iou(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64[...] of float64[..., 2, classes], sums of intersections and unions: the mean over the
    classes that occur, in a mask or in an answer; nan where none does."""
    with np.errstate(invalid="ignore", divide="ignore"):
        of_class = sums[..., 0, :] / sums[..., 1, :]
        occur = np.isfinite(of_class)
        result: npt.NDArray[np.float64] = np.where(occur, of_class, 0).sum(-1) / occur.sum(-1)
    return result
