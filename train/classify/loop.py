"""The two stages of classification fine-tuning (section 5.3): read it top to bottom."""

import json
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
import torch.nn.functional as F

from alignset.train.classify.classifier import ImageClassifier, save_classifier, to_pixels
from alignset.train.classify.labelled_images import (
    LabelledImages,
    TrainingBatches,
    evaluation_batches,
)
from alignset.train.classify.settings import ClassifySettings, ClassifyStage
from alignset.train.data.whole_files import write_whole
from alignset.train.model.pretrained import load_pretrained
from alignset.train.runs import processes
from alignset.train.runs.checkpoints import load_last_checkpoint, save_checkpoint
from alignset.train.runs.device import find_device, prepare_device
from alignset.train.runs.progress import Progress, check_finite, gradient_norm
from alignset.train.runs.run_folder import cut_metrics

Scores = dict[str, float]  # what `evaluate` says


class ClassifyCheckpoint(TypedDict):
    """All that the next step depends on; before the first there is no state of the latter two."""

    step: int
    results: dict[str, Scores]  # by the stage's name
    model: NotRequired[dict[str, Any]]
    optimizer: NotRequired[dict[str, Any]]


@dataclass(frozen=True)
class ClassifyJob:
    settings: ClassifySettings
    images: LabelledImages
    validation: LabelledImages
    run: Path

    @property
    def an_epoch(self) -> int:  # steps
        return len(self.images.paths) // self.settings.batch_size

    @property
    def steps(self) -> int:  # of each stage
        return self.settings.steps or self.settings.epochs * self.an_epoch


def classify(job: ClassifyJob) -> None:
    """Trains from the last checkpoint, or from the start, and writes what `evaluate` says after
    each stage to `job.run / "results.json"`, and then `job.run / "model"`."""
    rank, stages = processes.rank(), job.settings.stage_list()
    align, _ = load_pretrained(job.settings.model)
    model = ImageClassifier(align.vision_model, job.images.classes)
    device = find_device(job.settings.device)
    prepare_device(device, "fp32")
    model.prepare(job.settings, processes=processes.count())
    last_checkpoint: ClassifyCheckpoint | None = load_last_checkpoint(job.run / "checkpoints")
    checkpoint: ClassifyCheckpoint = last_checkpoint or {"step": 0, "results": {}}
    start, results = checkpoint["step"], checkpoint["results"]
    if start:
        model.load_state_dict(checkpoint.pop("model"))  # or it would stay in memory to the end
    model.to(device).to(memory_format=torch.channels_last)

    if rank == 0:
        cut_metrics(job.run / "metrics.jsonl", start)
    total = len(stages) * job.steps  # steps are counted through both stages
    progress = Progress(job.run, job.settings, start=start, steps=total, quiet=rank > 0)
    for number, stage in enumerate(stages):
        last = (number + 1) * job.steps
        if start < last:
            optimizer = _train_stage(job, stage, model, progress, checkpoint)
            processes.average_buffers(model)
            results[stage.name] = evaluate(model, job.validation, stage.eval_px, job.settings)
            progress.say(f"{stage.name}: {results[stage.name]}")
            _save(job, last, model, optimizer, results)
    progress.close()
    if rank == 0:
        kind = {"task": "classification", "unit": "percent", "classes": len(job.images.classes)}
        # Before the model, which says that the run is finished.
        write_whole(job.run / "results.json", json.dumps(kind | results) + "\n")
        save_classifier(model, stages[-1].eval_px, job.run / "model")


def _train_stage(
    job: ClassifyJob,
    stage: ClassifyStage,
    model: ImageClassifier,
    progress: Progress,
    checkpoint: ClassifyCheckpoint,
) -> torch.optim.Optimizer:
    """The stage's steps that are behind `checkpoint`; gives the optimiser."""
    settings, rank = job.settings, processes.rank()
    before = job.steps * settings.stage_list().index(stage)
    start = max(before, checkpoint["step"])
    model.freeze(stage.frozen)
    optimizer = _make_optimizer(model, settings)
    state = checkpoint.pop("optimizer", {})
    if start > before:
        optimizer.load_state_dict(state)
    replica = processes.replicate(model.train())
    share = rank, processes.count()
    batches = TrainingBatches(job.images, settings, stage.train_px, *share).after(start)
    for step in range(start + 1, before + job.steps + 1):
        pixels, labels = next(batches)  # uint8[b, px, px, 3], int64[b]
        torch.manual_seed(zlib.crc32(f"{settings.seed} {rank} {step}".encode()))
        rate = stage.learning_rate * settings.rate_share(step - before, job.steps, job.an_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        optimizer.zero_grad()
        loss, right = _add_gradients(replica, pixels, labels, settings.micro_batch_size)
        optimizer.step()

        saves = step % settings.checkpoint_every == 0 and step < before + job.steps
        measure = partial(measure_step, step, loss, right, model)
        progress.step(step, measure, {"learning_rate": rate}, check=saves)
        progress.show_samples(step, pixels, [model.classes[label] for label in labels])
        if saves:
            processes.average_buffers(model)
            _save(job, step, model, optimizer, checkpoint["results"])
    return optimizer


def _add_gradients(
    replica: torch.nn.Module, pixels: np.ndarray, labels: np.ndarray, micro_batch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adds the gradients of the mean cross-entropy of uint8[b, px, px, 3] and int64[b].

    Returns:
      float[], float[]: the loss and the share that is classified right.
    """
    device = next(replica.parameters()).device
    parts = list(
        zip(
            torch.split(torch.from_numpy(pixels), micro_batch_size),
            torch.split(torch.from_numpy(labels).to(device), micro_batch_size),
            strict=True,
        )
    )
    loss, right = torch.zeros((), device=device), torch.zeros((), device=device)
    for i, (part, targets) in enumerate(parts):
        with processes.unsynchronised(replica, i < len(parts) - 1):
            logits = replica(to_pixels(part.to(device)))  # [m, classes]
            part_loss = F.cross_entropy(logits, targets, reduction="sum") / len(labels)
            torch.autograd.backward(part_loss)
        loss += part_loss.detach()
        right += (logits.argmax(dim=1) == targets).sum() / len(labels)
    return loss, right


def measure_step(
    step: int, loss: torch.Tensor, right: torch.Tensor, model: ImageClassifier
) -> dict[str, float]:
    numbers = {
        "loss": processes.mean(loss),
        "accuracy": processes.mean(right),
        "gradient_norm": gradient_norm(model),
    }
    rate = "frozen_learning_rate" if model.frozen else "learning_rate"
    check_finite(step, numbers, f"try a lower --{rate}, in a new --run")
    return numbers


@torch.inference_mode()
def evaluate(
    model: ImageClassifier, images: LabelledImages, px: int, settings: ClassifySettings
) -> Scores:
    """n, and in percent how many have their class first, or among the first five.

    All processes have to call it: each classifies its part.
    """
    device = next(model.parameters()).device
    mine = images.part(processes.rank(), processes.count())
    counts = np.zeros(3, np.int64)
    model.eval()
    sizes = {"batch_size": settings.micro_batch_size, "threads": settings.decode_threads}
    for pixels, labels in evaluation_batches(mine, px, **sizes):
        logits = model(to_pixels(torch.from_numpy(pixels).to(device)))  # [b, classes]
        best = logits.topk(min(5, len(images.classes))).indices.cpu().numpy()
        hits = best == labels[:, None]
        counts += len(labels), hits[:, 0].sum(), hits.any(axis=1).sum()
    n, first, among_five = np.sum(processes.gather(counts.tolist()), axis=0).tolist()
    return {"n": n, "top_1": round(100 * first / n, 3), "top_5": round(100 * among_five / n, 3)}


def _make_optimizer(model: ImageClassifier, settings: ClassifySettings) -> torch.optim.Optimizer:
    """SGD; the tower's learning rate is a share of the classification layer's."""
    groups: list[dict[str, Any]] = [{"params": model.head.parameters(), "share": 1.0}]
    if not model.frozen:
        tower = [p for p in model.tower.parameters() if p.requires_grad]
        groups.append({"params": tower, "share": settings.tower_share})
    return torch.optim.SGD(
        groups,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def _save(
    job: ClassifyJob,
    step: int,
    model: ImageClassifier,
    optimizer: torch.optim.Optimizer,
    results: dict[str, Scores],
) -> None:
    if processes.rank() == 0:
        state: ClassifyCheckpoint = {
            "step": step,
            "results": results,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        save_checkpoint(job.run / "checkpoints", state, keep=job.settings.keep_checkpoints)
