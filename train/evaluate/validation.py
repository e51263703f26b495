"""A model scored on pairs that it is not trained on, while it is trained."""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import EfficientNetImageProcessor, PreTrainedTokenizerFast

from alignset.train.data.batches import Batch
from alignset.train.data.find_shards import find_shards
from alignset.train.data.images import readable_image
from alignset.train.data.inputs import to_inputs
from alignset.train.data.position import Position
from alignset.train.data.samples import caption_lines, read_pairs
from alignset.train.data.whole_files import put_back
from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate.held_out_classes import HeldOutClasses, read_classes, zero_shot_scores
from alignset.train.evaluate.retrieval import retrieval_scores
from alignset.train.model.dual_encoder import DualEncoder, export_model, image_processor
from alignset.train.runs import processes
from alignset.train.runs.curve import CURVE, CURVES, draw_curve, read_points
from alignset.train.runs.device import full_precision
from alignset.train.runs.progress import Progress
from alignset.train.settings import Settings

_READ_AT_ONCE = 32  # images, as their files: 1 GiB of the largest that are read


@dataclass(frozen=True)
class HeldOut:
    """Pairs that are not trained on, as an evaluation sees them."""

    pixels: np.ndarray  # uint8[n, crop_px, crop_px, 3]
    captions: list[list[str]]  # of each image, one or more
    identities: list[bytes]  # of each image's file
    skipped: int  # whose images can't be decoded
    classes: HeldOutClasses | None = None

    def digest(self) -> str:
        """Tells these pairs from others."""
        parts = [self.pixels.shape, self.captions, [name.hex() for name in self.identities]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_held_out(settings: Settings) -> HeldOut:
    """The first `validate_pairs` of `validate`, decoded and cropped as a finished model's own
    processor does it: 12 KB each at 64 px, 250 KB at 289.

    Raises:
      SettingsError: there is none. TrainingError: a shard can't be read.
    """
    several = settings.caption_lines or settings.caption_field
    split = caption_lines if several else lambda text: [text]
    samples = read_pairs(find_shards(settings.validate), settings.caption_field)
    crop = partial(_central_crop, image_processor(settings))
    crops: list[np.ndarray] = []
    captions: list[list[str]] = []
    identities: list[bytes] = []
    skipped = 0
    with ThreadPoolExecutor(settings.decode_threads) as pool:
        while missing := settings.validate_pairs - len(crops):
            part = list(islice(samples, min(missing, _READ_AT_ONCE)))
            if not part:
                break
            files = [pair.image for pair in part]
            for (_, data, text, _), pixels in zip(part, pool.map(crop, files), strict=True):
                if pixels is None:
                    skipped += 1
                    continue
                crops.append(pixels)
                captions.append(split(text))
                identities.append(hashlib.sha256(data).digest())
    if not crops:
        field = settings.caption_field
        caption = f" and a caption in --caption_field={field}" if field else ""
        raise SettingsError(
            f"--validate: no pair with a readable image{caption} in {settings.validate!r}: name "
            f"{'another field, or ' if field else ''}shards that have some, such as OUT/holdout"
        )
    classes = read_classes(settings, crop) if settings.validate_classes else None
    return HeldOut(np.stack(crops), captions, identities, skipped, classes)


def _central_crop(processor: EfficientNetImageProcessor, data: bytes) -> np.ndarray | None:
    """uint8[crop_px, crop_px, 3], or None where the image can't be decoded."""
    image = readable_image(data)
    if image is None:
        return None
    pixels: Any = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")[
        "pixel_values"
    ]  # uint8[1, 3, crop_px, crop_px]
    return np.asarray(pixels)[0].transpose(1, 2, 0)


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

    def after(self, step: int, model: DualEncoder) -> None:
        """The model's scores after this step."""
        start = time.perf_counter()
        if self.held_out is not None:
            scores = validation_scores(model, self.held_out, self.tokenizer, self.settings)
            better = scores["validation/R1"] > self._best_score  # of equal ones, the first
            if better:
                self._keep(step, model, scores)
            seconds = time.perf_counter() - start
            self.progress.show_validation(step, scores, seconds=seconds, best=better)
            loss, recall = (read_points(self.progress.metrics, name) for name in CURVES)
            draw_curve(loss, recall, self.best.with_name(CURVE))
        processes.wait_for_all()

    def _keep(self, step: int, model: DualEncoder, scores: dict[str, float]) -> None:
        record = json.dumps({"step": step, "pairs": self._digest, **scores}, indent=2) + "\n"

        def write(folder: Path) -> None:
            (folder / "validation.json").write_text(record)

        export_model(model, self.tokenizer, self.settings, self.best, write)
        self._best_score = scores["validation/R1"]

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
      R@1, 5 and 10 of both directions; R1, the mean of both R@1; loss; and the `zero_shot_scores`
      where there are classes.
    """
    images, texts, temperature, of_classes = _embed(model, held_out, tokenizer, settings)
    counts = [len(own) for own in held_out.captions]
    firsts = np.cumsum([0, *counts[:-1]])  # int[n]: each image's first text
    loss = validation_loss(images, texts[firsts], temperature, settings)
    scores = retrieval_scores(
        images.cpu().numpy(),
        texts.cpu().numpy(),
        held_out.captions,
        identities=held_out.identities,
    )
    ways = {way: scores[way] for way in ("image_to_text", "text_to_image")}
    numbers: dict[str, float] = {"n": scores["n"]}
    if "captions" in scores:
        numbers["captions"] = scores["captions"]
    for way, recalls in ways.items():
        numbers |= {f"{way}_{name.replace('@', '')}": value for name, value in recalls.items()}
    numbers |= {"R1": sum(recalls["R@1"] for recalls in ways.values()) / 2, "loss": loss}
    numbers |= of_classes
    return {f"validation/{name}": value for name, value in numbers.items()}


@torch.no_grad()
def _embed(
    model: DualEncoder,
    held_out: HeldOut,
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, float]]:
    """float[n, d] of images, float[m, d] of all their texts, L2-normalised, and float[]; and what
    the classes give."""
    images, texts = [], []
    of_classes: dict[str, float] = {}
    model.eval()
    # Of a compiled model too: other shapes and another mode would be compiled for minutes.
    eager = torch.compiler.set_stance("force_eager") if settings.compile else nullcontext()
    with eager:
        for rows in _parts(len(held_out.captions), settings.micro_batch_size):
            captions = [text for own in held_out.captions[rows] for text in own]
            batch = Batch(held_out.pixels[rows], captions, Position())
            of_images, of_texts, temperature = model(to_inputs(batch, tokenizer, settings))
            images.append(of_images)
            texts.append(of_texts)
        if held_out.classes is not None:
            of_classes = zero_shot_scores(model, held_out.classes, tokenizer, settings)
    model.train()
    return torch.cat(images), torch.cat(texts), temperature, of_classes


def _parts(n: int, size: int) -> Iterator[slice]:
    return (slice(first, first + size) for first in range(0, n, size))


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
    for rows in _parts(len(images) // size * size, size):
        with full_precision():
            scores = images[rows] @ texts[rows].T / temperature  # float[size, size]
        losses.append((cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2)
    return torch.stack(losses).mean().item()
