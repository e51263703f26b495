"""Zero-shot classification of images, while a model is trained."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerFast

from alignset.train.data.inputs import encode_texts
from alignset.train.data.tables import image_file
from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import find_classes
from alignset.train.evaluate.classification import TOP, class_answers
from alignset.train.evaluate.sets.labelled import LabelledFiles, find_labelled
from alignset.train.evaluate.task_result import percent
from alignset.train.evaluate.zero_shot import find_prompts, logits, mean_weights, usual_prompts
from alignset.train.model.dual_encoder import DualEncoder
from alignset.train.settings import Settings

Crop = Callable[[bytes], "np.ndarray | None"]


@dataclass(frozen=True)
class HeldOutClasses:
    """Images with classes, as an evaluation sees them.

    Attributes:
      pixels: uint8[n, crop_px, crop_px, 3]. labels: int64[n].
      names: of the classes. prompts: what their names are put into.
      skipped: images that can't be decoded.
    """

    pixels: np.ndarray
    labels: npt.NDArray[np.int64]
    names: list[str]
    prompts: tuple[str, ...]
    skipped: int


def read_classes(settings: Settings, crop: Crop) -> HeldOutClasses:
    """`validate_pairs` images of `validate_classes` at most, of each class as many as there are.

    Args:
      crop: makes uint8[crop_px, crop_px, 3] of a file; None of one that can't be decoded.

    Raises:
      SettingsError: there is none, or what is named has no names of classes.
    """
    where = settings.validate_classes
    labelled_set = find_labelled(where)
    if not isinstance(labelled_set, LabelledFiles):
        raise SettingsError(
            f"--validate_classes: {where!r} are shards, which have no names of classes: name a "
            "folder with a subfolder of images for each class, or a table"
        )
    classes = find_classes("", labelled_set.names())
    files = _by_turns(labelled_set.labels)[: settings.validate_pairs]
    with ThreadPoolExecutor(settings.decode_threads) as pool:
        crops = [*pool.map(lambda name: crop(image_file(labelled_set.folder / name)), files)]
    images = {name: pixels for name, pixels in zip(files, crops, strict=True) if pixels is not None}
    if not images:
        raise SettingsError(f"--validate_classes: no image in {where!r} can be decoded")
    labels = [classes.number(labelled_set.labels[name]) for name in images]
    return HeldOutClasses(
        np.stack([*images.values()]),
        np.array(labels, np.int64),
        classes.names,
        find_prompts(usual_prompts(classes)),
        len(files) - len(images),
    )


def _by_turns(labels: dict[str, str]) -> list[str]:
    """The first image of each class, then the second of each, and so on."""
    turn: dict[str, int] = {}
    turns = {}
    for name, label in labels.items():
        turns[name] = turn[label] = turn.get(label, -1) + 1
    return sorted(labels, key=lambda name: (turns[name], labels[name]))


@torch.no_grad()
def zero_shot_scores(
    model: DualEncoder,
    classes: HeldOutClasses,
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
) -> dict[str, float]:
    """As `alignset evaluate zero_shot` has them: zero_shot_n, the images, and zero_shot_top1 and,
    from five classes on, zero_shot_top5, in percent. The model is in its mode for evaluation."""
    device, size = model.log_temperature.device, settings.micro_batch_size
    texts = [prompt.replace("{}", name) for name in classes.names for prompt in classes.prompts]

    def embed_all(n: int, embed: Callable[[slice], torch.Tensor]) -> npt.NDArray[np.float32]:
        rows = []
        for first in range(0, n, size):
            with torch.autocast(device.type, torch.bfloat16, enabled=model.bf16):
                features = embed(slice(first, first + size))
            rows.append(F.normalize(features.float(), dim=-1).cpu())
        features_of_all: npt.NDArray[np.float32] = torch.cat(rows).numpy()
        return features_of_all

    def of_images(rows: slice) -> torch.Tensor:
        return model.embed_images(torch.from_numpy(classes.pixels[rows]).to(device))

    def of_texts(rows: slice) -> torch.Tensor:
        buckets = encode_texts(texts[rows], tokenizer, settings)
        return model.embed_texts(buckets.map(lambda tensor: tensor.to(device)))

    weights = mean_weights(embed_all(len(texts), of_texts), len(classes.prompts))
    images = embed_all(len(classes.pixels), of_images)
    answers = class_answers(
        images, classes.labels, lambda part: logits(part, weights), len(classes.names)
    )
    scores = {"zero_shot_n": float(len(images)), "zero_shot_top1": percent(answers.hits(1).mean())}
    if len(classes.names) >= TOP:
        scores["zero_shot_top5"] = percent(answers.hits(TOP).mean())
    return scores
