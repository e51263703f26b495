"""Zero-shot classification of pixels, as the paper's table on ADE20K.

An image is squeezed to the model's square. Each place of EfficientNet's last map is L2-normalised
and scored against the classes' text embeddings; the scores are upsampled bilinearly to the mask's
size, and each pixel is of the class that scores best there.
"""

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import Executor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from alignset.train.data.images import (
    check_decodable,
    image_files,
    opened,
    parts_by_pixels,
    readable_image,
)
from alignset.train.data.tables import image_file
from alignset.train.errors import SettingsError
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.classes import (
    PLAIN,
    class_prompts,
    class_weights,
    find_classes,
    find_prompts,
)
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.image_sets import Item
from alignset.train.evaluate.page import Card, Section, TaskResult, percent, percents
from alignset.train.evaluate.task_table import SegmentationSettings
from alignset.train.model.embed import embed_ahead
from alignset.transforms.images.decode import MAX_MEMORY
from alignset.transforms.images.file_formats import MAX_PIXELS
from alignset.transforms.workers.limited_process import Limits, call_limited

AT_ONCE = 1 << 24  # scores
_SHOWN = 12  # images of a section
Ints = npt.NDArray[np.int64]


def evaluate(flags: SegmentationSettings, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: the dataset can't be read, or the model has no map of an image.
    """
    files = find_masked(Path(flags.data), Path(flags.masks))
    classes = find_classes(flags.classes, []).names
    said = class_prompts(classes, find_prompts(flags.prompts or PLAIN))
    counts = [*map(len, said)]
    embedding = open_embedding()
    embedder: Any = embedding.embedder
    if not hasattr(embedder, "embed_parts"):
        raise SettingsError("--model must be an AlignModel: others have no map of an image")
    weights = class_weights(embedding.texts([*chain(*said)]), counts)
    names, identities, counted = list[str](), list[bytes](), list[Ints]()  # of images that decode

    def prepared(item: Item) -> torch.Tensor | None:
        if (picture := readable_image(item.data)) is None:
            return None
        picture.thumbnail((1 << 11, 1 << 11))  # a large one is squeezed to far less
        pixels: torch.Tensor = embedder.prepare_whole(picture, item.name)
        return pixels

    def read(part: list[Item], pool: Executor) -> tuple[list[Item], list[torch.Tensor]]:
        every = zip(part, pool.map(prepared, part), strict=True)
        decoded = [(item, pixels) for item, pixels in every if pixels is not None]
        return [item for item, _ in decoded], [pixels for _, pixels in decoded]

    items = (Item(image_file(image), mask, str(image)) for image, mask in files)
    parts = parts_by_pixels(items, embedding.batch_size * embedder.devices)
    for part, maps in embed_ahead(embedder, parts, read, embed=embedder.embed_parts):
        for item, places in zip(part, maps, strict=True):
            truth = read_mask(item.about).astype(np.int64) - flags.first_value
            told = tell_pixels(places @ weights, *truth.shape)
            counted.append(overlap(told, truth, len(classes)))
            names.append(Path(item.name).name)
            identities.append(hashlib.sha256(item.data).digest())
    overlaps = np.array(counted, float)  # [n, 2, classes]
    if not overlaps.any():
        raise SettingsError("no pixel of an image is of a class: see --data and --first_value")
    interval = bootstrap.interval(
        overlaps.reshape(len(overlaps), -1),
        lambda times, kinds: mean_iou((times @ kinds).reshape(-1, 2, len(classes))),
    )
    sums, ious = overlaps.sum(axis=0), mean_iou(overlaps).tolist()
    result = {
        "n": len(overlaps),
        "classes": len(classes),
        "mean_iou": percent(float(mean_iou(sums))),
        "iou": {
            name: percent(both / either)
            for name, both, either in zip(classes, *sums.tolist(), strict=True)
            if either
        },
        "intervals": {"mean_iou": percents(interval)},
        "prompts": max(counts),
        "skipped": len(files) - len(overlaps),
    }
    cards = []
    for row in np.argsort(-np.array(ious), kind="stable").tolist():
        most = f"most of it: {classes[overlaps[row, 0].argmax()]}"
        lines = f"mean IoU {percent(ious[row]):g}", most, names[row]
        cards += [Card(identities[row], lines)] if overlaps[row].any() else []
    sections = [Section("Best", cards[:_SHOWN]), Section("Worst", cards[::-1][:_SHOWN])]
    return TaskResult(result, sections, lambda: (image_file(image) for image, _ in files))


def find_masked(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """The images of a folder, each with the mask of another folder that is called like it."""
    for folder, flag in ((images, "--data"), (masks, "--masks")):
        if not folder.is_dir():
            raise SettingsError(f"there is no folder {str(folder)!r}: name one with {flag}")
    suffixes = (".png", ".bmp", ".tif", ".tiff", ".gif")
    mask_of = {Path(name).with_suffix(""): masks / name for name in image_files(masks, suffixes)}
    files = [(images / name, Path(name).with_suffix("")) for name in image_files(images)]
    if missing := [name for _, name in files if name not in mask_of]:
        raise SettingsError(f"{masks} has no {missing[0]}.png; masks that it lacks: {len(missing)}")
    return [(image, mask_of[name]) for image, name in files]


def read_mask(path: Path) -> npt.NDArray[np.generic]:
    """[h, w], the numbers of its pixels. Raises SettingsError where it is not a file of these."""
    data = image_file(path)
    try:
        check_decodable(data, of_folder=True)
        (values,) = call_limited(mask_parts, data, Limits(cpu_s=20.0, memory=MAX_MEMORY))
    except Exception as error:  # what it costs, or how it is coded
        kind = getattr(error, "kind", type(error).__name__)
        raise SettingsError(f"replace the mask {path}, which can't be read ({kind})") from error
    numbers: npt.NDArray[np.generic] = np.load(io.BytesIO(values), allow_pickle=False)
    if numbers.ndim != 2 or numbers.dtype.kind == "f":
        raise SettingsError(f"the mask {path} has colours: its pixels must be numbers of classes")
    return numbers


def mask_parts(data: bytes) -> list[bytes]:
    """The pixels of a mask as a file of numpy's, by the child that decodes it."""
    mask = opened(data, ("PNG", "BMP", "TIFF", "GIF"))
    if mask.width * mask.height > MAX_PIXELS:
        raise MemoryError
    np.save(file := io.BytesIO(), np.asarray(mask), allow_pickle=False)
    return [file.getvalue()]


def tell_pixels(scores: npt.NDArray[np.float32], height: int, width: int) -> Ints:
    """int64[height, width]: the class that scores best at each pixel, of float32[h, w, classes] at
    the places of a map. They are interpolated between the places' centres as F.interpolate does."""
    down, across = (  # float32[pixels, places]: how much of each place a pixel has
        torch.nn.functional.interpolate(torch.eye(places)[None], size=pixels, mode="linear")[0].T
        for places, pixels in zip(scores.shape, (height, width), strict=False)
    )
    rows = torch.einsum("xw,hwc->hxc", across, torch.from_numpy(scores))  # [h, width, c]
    size = max(1, AT_ONCE // (width * scores.shape[2]))  # 150 classes of a photograph take 4 GB
    parts = [torch.einsum("yh,hxc->yxc", d, rows).argmax(2) for d in torch.split(down, size)]
    return torch.cat(parts).numpy()


def overlap(answers: Ints, truth: Ints, classes: int) -> Ints:
    """int64[2, classes] of int64[h, w] each: pixels that are of a class and got it, and pixels that
    are either. Pixels without a class in the mask are ignored.

    >>> overlap(np.array([[0, 1]]), np.array([[0, 0]]), 2).tolist()
    [[1, 0], [2, 1]]
    """
    counts = (truth >= 0) & (truth < classes)
    right, answer = truth[counts], answers[counts]
    both = np.bincount(right[right == answer], minlength=classes)
    either = np.bincount(right, minlength=classes) + np.bincount(answer, minlength=classes) - both
    return np.stack([both, either])


def mean_iou(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64[...] of float64[..., 2, classes], pixels of intersections and unions: the mean over
    the classes that occur, in a mask or in an answer; nan where none does."""
    both, either = sums[..., 0, :], sums[..., 1, :]
    with np.errstate(invalid="ignore"):
        return (both / np.maximum(either, 1)).sum(-1) / (either > 0).sum(-1)
