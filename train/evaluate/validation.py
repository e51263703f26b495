"""A model scored while it is trained: on pairs, and on images with classes, that it is not trained
on.

1. Before the first step, images are decoded and cropped as a finished model's own processor does.
2. After each `validate_every` steps the model embeds them, and retrieval and zero-shot
   classification are scored as `alignset evaluate` does.
3. The best model so far is kept, with its scores beside its weights.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerFast

from alignset.train.data.batches import encode_texts
from alignset.train.data.find_shards import find_shards
from alignset.train.data.images import readable_image
from alignset.train.data.samples import FIELD, caption_lines, read_pairs
from alignset.train.data.whole_files import put_back
from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate.classes import (
    Prompts,
    class_prompts,
    class_weights,
    find_classes,
    find_prompts,
    logits,
)
from alignset.train.evaluate.image_sets import FolderImages, Item, class_labels, find_labelled
from alignset.train.evaluate.page import percent
from alignset.train.evaluate.tasks.retrieval import WAYS, find_both, make_captioned, recall_scores
from alignset.train.evaluate.tasks.zero_shot import TOP, class_answers
from alignset.train.model.dual_encoder import DualEncoder, export_model, image_processor
from alignset.train.runs import processes
from alignset.train.runs.model_card import CURVE, CURVES, draw_curve, read_points
from alignset.train.runs.processes import full_precision
from alignset.train.runs.progress import Progress
from alignset.train.settings import Settings

_READ_AT_ONCE = 32  # images, as their files: 1 GiB of the largest that are read


@dataclass(frozen=True)
class HeldOutClasses:
    """Images with classes that are not trained on.

    Attributes:
      pixels: uint8[n, crop_px, crop_px, 3]. labels: int64[n].
      names: of the classes. prompts: what their names are put into.
    """

    pixels: np.ndarray
    labels: np.ndarray
    names: list[str]
    prompts: Prompts


@dataclass(frozen=True)
class HeldOut:
    """Pairs that are not trained on, as an evaluation sees them.

    Attributes:
      pixels: uint8[n, crop_px, crop_px, 3].
      captions: of each image, one or more.
      identities: of each image's file.
      skipped: how many images can't be decoded.
    """

    pixels: np.ndarray
    captions: list[list[str]]
    identities: list[bytes]
    skipped: int
    classes: HeldOutClasses | None = None

    def digest(self) -> str:
        """Tells these pairs from others."""
        parts = [self.pixels.shape, self.captions, [name.hex() for name in self.identities]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_held_out(settings: Settings) -> HeldOut:
    """The first `validate_pairs` of `validate` that can be decoded, 12 KB each at 64 px, 250 KB at
    289; and as many images of `validate_classes`.

    Raises:
      SettingsError: there is none. TrainingError: a shard can't be read.
    """
    place = next(iter(settings.caption_places()))
    several = settings.caption_lines or place.startswith(FIELD)
    split = caption_lines if several else lambda text: [text]
    pairs = read_pairs(find_shards(settings.validate), places=[place])
    items = (Item(pair.image, split(pair.text), pair.key) for pair in pairs)
    crops, read, skipped = _read_crops(items, settings)
    if not crops:
        flag = settings.caption_flag
        caption = f" and a caption in {flag}" if flag else ""
        raise SettingsError(
            f"--validate: no pair with a readable image{caption} in {settings.validate!r}: name "
            f"{'another field, or ' if flag else ''}shards that have some, such as OUT/holdout"
        )
    classes = _read_classes(settings) if settings.validate_classes else None
    captions, identities = ([item.about for item in read], [item.identity for item in read])
    return HeldOut(np.stack(crops), captions, identities, skipped, classes)


def _read_classes(settings: Settings) -> HeldOutClasses:
    """The first images of each class, then the second ones, and so on.

    Raises:
      SettingsError: there is none, or what is named has no names of classes.
    """
    where = settings.validate_classes
    images = find_labelled(where)
    if not isinstance(images, FolderImages):
        raise SettingsError(
            f"--validate_classes: {where!r} are shards, which have no names of classes: name a "
            "folder with a subfolder of images for each class, or a table"
        )
    classes = find_classes("", class_labels(images))
    turn, turns = dict[str, int](), dict[str, int]()
    for name, label in images.about.items():
        turns[name] = turn[label] = turn.get(label, -1) + 1
    names = sorted(turns, key=lambda name: (turns[name], images.about[name]))
    chosen = {name: images.about[name] for name in names[: settings.validate_pairs]}
    crops, read, _ = _read_crops(FolderImages(images.folder, chosen), settings)
    if not crops:
        raise SettingsError(f"--validate_classes: no image in {where!r} can be decoded")
    labels = np.array([classes.number(item.about) for item in read], np.int64)
    prompts = find_prompts(classes.prompts)
    return HeldOutClasses(np.stack(crops), labels, classes.names, prompts)


def _read_crops(
    items: Iterable[Item], settings: Settings
) -> tuple[list[np.ndarray], list[Item], int]:
    """The first `validate_pairs` images that can be decoded, uint8[crop_px, crop_px, 3] each; their
    items, without the files; and how many images before the last can't be decoded."""
    processor, items = image_processor(settings), iter(items)

    def crop(item: Item) -> np.ndarray | None:
        if (image := readable_image(item.data)) is None:
            return None
        made: Any = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        return np.asarray(made["pixel_values"])[0].transpose(1, 2, 0)

    crops: list[np.ndarray] = []
    read: list[Item] = []
    skipped = 0
    with ThreadPoolExecutor(settings.decode_threads) as pool:
        while missing := settings.validate_pairs - len(crops):
            if not (part := list(islice(items, min(missing, _READ_AT_ONCE)))):
                break
            for item, pixels in zip(part, pool.map(crop, part), strict=True):
                if pixels is None:
                    skipped += 1
                    continue
                crops.append(pixels)
                identity = hashlib.sha256(item.data).digest()
                read.append(item._replace(data=b"", identity=identity))
    return crops, read, skipped


class Validation:
    """Scores the model on held-out pairs and keeps the best so far in `run/model-best`.

    Every process has one and calls it at the same steps. The first alone has pairs, and the others
    wait for it, as long as it takes. Weights, statistics and random numbers stay what they were.
    """

    def __init__(
        self,
        run: Path,
        settings: Settings,
        tokenizer: PreTrainedTokenizerFast,
        held_out: HeldOut | None,
        progress: Progress,
    ):
        self.best, self.settings, self.tokenizer = run / "model-best", settings, tokenizer
        self.held_out, self.progress = held_out, progress
        self._best_score = -1.0
        if held_out is not None:
            self._digest = held_out.digest()
            self._resume()

    def due(self, step: int) -> bool:
        settings = self.settings
        return bool(settings.validate) and (
            step == settings.steps or step % settings.validate_every == 0
        )

    def validate(self, step: int, model: DualEncoder) -> None:
        """The model's scores after this step."""
        start = time.perf_counter()
        if self.held_out is not None:
            scores = validation_scores(model, self.held_out, self.tokenizer, self.settings)
            better = scores["validation/R1"] > self._best_score  # of equal ones, the first
            if better:
                record = {"step": step, "pairs": self._digest, **scores}

                def write(folder: Path) -> None:
                    (folder / "validation.json").write_text(json.dumps(record, indent=2) + "\n")

                export_model(model, self.tokenizer, self.settings, self.best, write)
                self._best_score = scores["validation/R1"]
            seconds = time.perf_counter() - start
            self.progress.show_validation(step, scores, seconds=seconds, best=better)
            loss, recall = (read_points(self.progress.metrics, name) for name in CURVES)
            draw_curve(loss, recall, self.best.with_name(CURVE))
        processes.wait_for_all()

    def _resume(self) -> None:
        """The score is kept beside the weights it is of, not in the checkpoint.

        So they are never apart. A run that was killed behind a validation comes to its step again,
        has the same weights there, and no validation before it had as good a score.
        """
        assert self.held_out is not None
        put_back(self.best)
        try:
            record = json.loads((self.best / "validation.json").read_text())
            best = float(record["validation/R1"]) if record["pairs"] == self._digest else None
        except FileNotFoundError:
            best = -1.0
        except (OSError, ValueError, KeyError, TypeError):
            best = None
        if best is None:
            self.progress.say(f"{self.best} was not chosen by these pairs: it is chosen anew")
        else:
            self._best_score = best
        left_out = f", {self.held_out.skipped} left out" if self.held_out.skipped else ""
        self.progress.say(f"validates on {counted(len(self.held_out.captions), 'pair')}{left_out}")


def validation_scores(
    model: DualEncoder,
    held_out: HeldOut,
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
) -> dict[str, float]:
    """Recalls as `alignset evaluate retrieval` has them, in percent, and the loss.

    Returns: By name, with "validation/" before it: n, the images; captions, where they are more;
      R@1, 5 and 10 of both directions; R1, the mean of both R@1; loss; and, where there are
      classes, zero_shot_n, the images, zero_shot_top1 and, from five classes on, zero_shot_top5, as
      `alignset evaluate zero_shot` has them.
    """
    captions, classes = held_out.captions, held_out.classes
    everything = [text for own in captions for text in own]
    of_classes: dict[str, float] = {}
    model.eval()
    # A compiled model runs uncompiled: other shapes and another mode would compile for minutes.
    with torch.compiler.set_stance("force_eager") if settings.compile else nullcontext():
        images, texts = _embed(model, held_out.pixels, everything, tokenizer, settings)
        if classes:
            said, count = class_prompts(classes.names, classes.prompts), len(classes.names)
            sentences = [*chain(*said)]
            views, prompts = _embed(model, classes.pixels, sentences, tokenizer, settings)
            weights = class_weights(prompts.cpu().numpy(), [*map(len, said)])
            score = partial(logits, weights=weights)
            answers = class_answers(views.cpu().numpy(), classes.labels, score, count)
            of_classes["zero_shot_n"] = float(len(views))
            for k in (1, TOP) if count >= TOP else (1,):
                of_classes[f"zero_shot_top{k}"] = percent(float(answers.hits(k).mean()))
    model.train()
    vectors = images.cpu().numpy(), texts.cpu().numpy()
    scores = recall_scores(find_both(make_captioned(*vectors, captions, held_out.identities)))
    numbers: dict[str, float] = {name: scores[name] for name in ("n", "captions") if name in scores}
    for way in WAYS:
        numbers |= {f"{way}_{k.replace('@', '')}": recall for k, recall in scores[way].items()}
    numbers["R1"] = sum(scores[way]["R@1"] for way in WAYS) / 2
    firsts = np.cumsum([0, *(len(own) for own in captions[:-1])])  # int[n]: each image's first text
    temperature = model.temperature.detach()
    numbers["loss"] = validation_loss(images, texts[firsts], temperature, settings)
    return {f"validation/{name}": value for name, value in (numbers | of_classes).items()}


@torch.no_grad()
def _embed(
    model: DualEncoder,
    pixels: np.ndarray,
    texts: list[str],
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """float[n, d] of images, uint8[n, crop_px, crop_px, 3], and float[m, d] of m texts,
    L2-normalised; `micro_batch_size` of them go through the model at once."""
    device, of_images, of_texts = model.log_temperature.device, [], []
    size = settings.micro_batch_size
    with torch.autocast(device.type, torch.bfloat16, enabled=model.bf16):
        for first in range(0, len(pixels), size):
            part = torch.from_numpy(pixels[first : first + size])
            of_images.append(model.embed_images(part.to(device)))
        for first in range(0, len(texts), size):
            encoded = encode_texts(texts[first : first + size], tokenizer, settings)
            of_texts.append(model.embed_texts(encoded.map(lambda tensor: tensor.to(device))))
    images, vectors = (F.normalize(torch.cat(of).float(), dim=-1) for of in (of_images, of_texts))
    return images, vectors


def validation_loss(
    images: torch.Tensor, texts: torch.Tensor, temperature: torch.Tensor, settings: Settings
) -> float:
    """The training's loss of n pairs, in their order, `batch_size` of them at a time.

    Fewer pairs than that are one batch; of more, the rest that fills none is left out.
    """
    size = min(settings.batch_size, len(images))
    target = torch.arange(size, device=images.device)  # int64[size]
    cross_entropy = partial(F.cross_entropy, label_smoothing=settings.label_smoothing)
    losses = []
    for first in range(0, len(images) // size * size, size):
        rows = slice(first, first + size)
        with full_precision():
            scores = images[rows] @ texts[rows].T / temperature  # float[size, size]
        losses.append((cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2)
    return torch.stack(losses).mean().item()
