"""Classification fine-tuning (section 5.3): images of classes, the model, both stages."""

import json
import os
import random
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import AlignVisionModel

from alignset.train.classify.settings import ClassifySettings
from alignset.train.data.batches import prefetch
from alignset.train.data.images import (
    CENTRAL_RATIO,
    central_square,
    class_folders,
    decode_image,
    random_box,
)
from alignset.train.data.samples import LONGEST_IMAGE
from alignset.train.data.whole_files import save_folder, write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.model.dual_encoder import cropping_processor, scale_pixels, use_stochastic_depth
from alignset.train.model.pretrained import check_pretrained, load_pretrained
from alignset.train.model.tower_layers import tower_blocks, use_ghost_groups, use_sums
from alignset.train.optim.optimizer import GuardedStep
from alignset.train.runs import processes
from alignset.train.runs.checkpoints import load_last_checkpoint, save_checkpoint
from alignset.train.runs.processes import find_device, prepare_device
from alignset.train.runs.progress import Progress
from alignset.train.runs.run_folder import cut_metrics, open_run

Files = list[tuple[str, int]]  # images, each with its class: an index of classes


class ClassifyJob(NamedTuple):
    settings: ClassifySettings
    classes: list[str]
    images: Files
    validation: Files
    run: Path


def find_images(root: str, classes: list[str] | None = None) -> tuple[Files, list[str]]:
    """The images root/class_name/anything.jpg, and the classes in order of their names or as given.

    Raises:
      SettingsError: there is no folder of a class, one is empty, or one is not in `classes`.
    """
    folders = class_folders(Path(root))
    classes = classes or [*folders]
    if unknown := sorted(folders.keys() - set(classes)):
        raise SettingsError(
            f"{root!r} has {unknown[0]!r}, which is not a class of the training images: take it out"
        )
    numbers = {name: classes.index(name) for name in folders}
    files = [(os.path.join(root, f), numbers[name]) for name, of in folders.items() for f in of]
    return files, classes


def _open(path: str) -> Image.Image:
    try:
        with open(path, "rb") as file:
            return decode_image(file.read(LONGEST_IMAGE + 1))  # which refuses so many
    except Exception as error:  # Pillow raises many kinds
        raise TrainingError(
            f"{path} can't be decoded ({error!r:.80}): replace it, or take it out"
        ) from error


def training_batches(
    images: Files, settings: ClassifySettings, px: int, last: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """uint8[b, px, px, 3] and int64[b], the labels: this process's share of each step behind the
    `last` one, for ever, the next one decoded meanwhile. Order, boxes and mirroring follow from
    seed and step. An epoch ends with its last full batch."""
    total, size = len(images), settings.batch_size

    def pixels(step: int, number: int) -> np.ndarray:
        rng, image = random.Random(f"{settings.seed} {step} {number}"), _open(images[number][0])
        box = random_box(*image.size, settings.min_area, rng)
        crop = np.asarray(image.resize((px, px), Image.Resampling.BILINEAR, box=box))
        return crop[:, ::-1] if settings.horizontal_flip and rng.random() < 0.5 else crop

    def decode(step: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(step - 1, total // size)
        order = np.random.default_rng([settings.seed, epoch]).permutation(total)
        numbers = order[place * size : (place + 1) * size][processes.rank() :: processes.count()]
        decoded = pool.map(partial(pixels, step), numbers.tolist())
        return np.stack(list(decoded)), np.array([images[number][1] for number in numbers])

    with ThreadPoolExecutor(settings.decode_threads) as pool:
        yield from prefetch((step for step in count(last + 1)), decode)


class ImageClassifier(nn.Module):
    """The tower with stochastic depth, and a head that starts at zero: all classes are equally
    likely. BatchNorm's momentum is for a step, of whose batch each process has a part."""

    def __init__(self, tower: AlignVisionModel, classes: list[str], settings: ClassifySettings):
        super().__init__()
        self.tower, self.classes, self.settings, self.frozen = tower, classes, settings, True
        *_, last_block = tower_blocks(tower)
        self.head = nn.Linear(last_block.projection.project_bn.num_features, len(classes))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        use_stochastic_depth(tower, settings.drop_path)
        use_sums(tower)
        use_ghost_groups(
            tower,
            group_size=settings.micro_batch_size,
            batch_size=settings.batch_size // processes.count(),
            momentum=settings.batch_norm_momentum,
        )

    def train(self, mode: bool = True) -> "ImageClassifier":
        super().train(mode)
        self.tower.train(mode and not self.frozen)
        for module in self.tower.modules():
            if isinstance(module, nn.BatchNorm2d) and not self.settings.train_statistics:
                module.eval()
        return self

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8[b, h, w, 3] -> float[b, classes], logits."""
        device, learns = self.head.weight.device, torch.is_grad_enabled() and not self.frozen
        bf16 = torch.autocast(device.type, torch.bfloat16, self.settings.precision == "bf16")
        with torch.set_grad_enabled(learns), bf16:
            features = self.tower(scale_pixels(pixels.to(device))).pooler_output
        return self.head(features.float())  # of [b, d]


def open_job(job: ClassifyJob) -> None:
    """Makes the run's folder, or checks that it is of these settings."""
    check_pretrained(job.settings.model)
    open_run(job.run, job.settings, [], (job.settings.model,))


def classify(job: ClassifyJob) -> None:
    """Trains from the last checkpoint, or from the start, in all processes of torchrun. Writes what
    `evaluate` says after each stage to RUN/results.json, and then RUN/model."""
    device = find_device(job.settings.device)
    with processes.begun_together(job.run, device.type, partial(open_job, job)):
        _train(job, device)


def _train(job: ClassifyJob, device: torch.device) -> None:
    settings, classes, images, validation, run = job
    rank, size = processes.rank(), settings.micro_batch_size
    align, _ = load_pretrained(settings.model)
    prepare_device(device, settings.precision)
    model = ImageClassifier(align.vision_model, classes, settings)
    # All that the next step depends on; before the first there is no state of model and optimizer.
    checkpoint = load_last_checkpoint(run / "checkpoints") or {"step": 0, "results": {}}
    start, results = checkpoint["step"], checkpoint["results"]
    skipped = checkpoint.get("skipped_steps", 0)
    if start:
        model.load_state_dict(checkpoint.pop("model"))  # or it would stay in memory to the end
    model.to(device).to(memory_format=torch.channels_last)

    def save(step: int) -> None:
        if rank == 0:
            states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state = {"step": step, "results": results, "skipped_steps": skipped, **states}
            save_checkpoint(run / "checkpoints", state, keep=settings.keep_checkpoints)

    an_epoch = len(images) // settings.batch_size  # steps
    steps = settings.steps or settings.epochs * an_epoch
    total = settings.stages * steps  # steps are counted through both stages
    if rank == 0:
        cut_metrics(run / "metrics.jsonl", start)
    lengths = {"batch_size": settings.batch_size, "start": start, "steps": total}
    progress = Progress(run, settings, **lengths, quiet=rank > 0)
    for before in range(start - start % steps, total, steps):
        last, frozen = before + steps, before == 0
        train_px, eval_px, learning_rate = settings.stage(frozen)
        model.frozen = frozen
        model.tower.requires_grad_(not frozen)
        optimizer = make_sgd(model, settings)
        state = checkpoint.pop("optimizer", {})
        if start > before:
            optimizer.load_state_dict(state)
        rate_flag = "frozen_learning_rate" if frozen else "learning_rate"
        advice = f"try a lower --{rate_flag}, in a new --output"
        guard = GuardedStep(model, optimizer, settings, skipped=skipped, advice=advice)
        replica, start = processes.replicate(model.train()), max(start, before)
        batches = training_batches(images, settings, train_px, start)
        for step in range(start + 1, last + 1):
            pixels, labels = next(batches)  # uint8[b, px, px, 3], int64[b]
            torch.manual_seed(zlib.crc32(f"{settings.seed} {rank} {step}".encode()))
            rate = learning_rate * settings.rate_share(step - before, steps, an_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            optimizer.zero_grad()
            loss, right = torch.zeros(2, device=device)  # of all, means
            for first in range(0, len(labels), size):
                with processes.unsynchronised(replica, first + size < len(labels)):
                    logits = replica(torch.from_numpy(pixels[first : first + size]))  # [m, classes]
                    targets = torch.from_numpy(labels[first : first + size]).to(device)
                    part_loss = F.cross_entropy(logits, targets, reduction="sum") / len(labels)
                    torch.autograd.backward(part_loss)
                loss += part_loss.detach()
                right += (logits.argmax(dim=1) == targets).sum() / len(labels)
            guard.step(step)

            saves = step % settings.checkpoint_every == 0 and step < last
            numbers = partial(measure, step, guard, loss=loss, accuracy=right)
            progress.step(step, numbers, {"learning_rate": rate}, check=saves)
            progress.show_samples(step, pixels, [classes[label] for label in labels])
            if saves:
                processes.average_buffers(model)
                skipped = guard.skipped
                save(step)
        processes.average_buffers(model)
        skipped = guard.skipped
        stage = "frozen" if frozen else "fine_tuned"
        results[stage] = evaluate(model, validation, eval_px)
        progress.say(f"{stage}: {results[stage]}")
        save(last)
    progress.close()
    if rank == 0:
        kind = {"task": "classification", "unit": "percent", "classes": len(classes)}
        # Before the model, which says that the run is finished.
        write_whole(run / "results.json", json.dumps(kind | results) + "\n")
        save_classifier(model, settings.stage(settings.stages == 1)[1], run / "model")


def make_sgd(model: ImageClassifier, settings: ClassifySettings) -> torch.optim.SGD:
    """Over what learns: each part with its share of the learning rate. Fused, so that `GuardedStep`
    can leave a step out."""
    shares = ((model.head, 1.0), (model.tower, settings.tower_share))[: 2 - model.frozen]
    optimizer = torch.optim.SGD(
        [{"params": part.parameters(), "share": share} for part, share in shares],
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    for part, _ in shares:  # or a first step that is left out would leave what memory holds there
        for weight in part.parameters():
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


def measure(step: int, guard: GuardedStep, **means: torch.Tensor) -> dict[str, float]:
    return guard.measured(step, {name: processes.mean(value) for name, value in means.items()})


@torch.inference_mode()
def evaluate(model: ImageClassifier, images: Files, px: int) -> dict[str, float]:
    """n, and in percent how many have their class first, or among the first five. All processes
    have to call it: each classifies its part."""
    mine = images[processes.rank() :: processes.count()]
    size, counts = model.settings.micro_batch_size, np.zeros(3, np.int64)
    model.eval()
    with ThreadPoolExecutor(model.settings.decode_threads) as pool:
        for first in range(0, len(mine), size):
            paths, labels = zip(*mine[first : first + size], strict=True)
            pixels = pool.map(lambda path: central_square(_open(path), px), paths)
            logits = model(torch.from_numpy(np.stack(list(pixels))))  # [b, classes]
            best = logits.topk(min(5, len(model.classes))).indices.cpu().numpy()
            hits = best == np.array(labels)[:, None]
            counts += len(labels), hits[:, 0].sum(), hits.any(axis=1).sum()
    n, top_1, top_5 = np.sum(processes.gather(counts.tolist()), axis=0).tolist()
    return {"n": n, "top_1": round(100 * top_1 / n, 3), "top_5": round(100 * top_5 / n, 3)}


def save_classifier(model: ImageClassifier, eval_px: int, folder: Path) -> None:
    """Writes `folder`, whole or not at all: an AlignVisionModel, the head, and a processor that
    crops as `central_square`."""
    model.tower.config.id2label = dict(enumerate(model.classes))
    model.tower.config.label2id = {name: i for i, name in enumerate(model.classes)}
    head = {name: p.contiguous() for name, p in model.head.state_dict().items()}
    processor = cropping_processor({"shortest_edge": round(eval_px / CENTRAL_RATIO)}, eval_px)
    savers = model.tower.save_pretrained, processor.save_pretrained
    save_folder(folder, *savers, lambda aside: save_file(head, aside / "head.safetensors"))
