"""The training loop: read it top to bottom."""

from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import BertTokenizerFast

from train import processes
from train.checkpoints import capture, load_last_checkpoint, restore, save_checkpoint
from train.data import Batch, Position, TrainingData, read_texts
from train.errors import SettingsError
from train.loss import contrastive_loss
from train.model import DualEncoder, export_model
from train.optimizer import learning_rate, make_optimizer
from train.presets import Settings
from train.progress import Progress
from train.run_folder import cut_metrics
from train.tokenizer import learn_tokenizer, load_tokenizer, save_tokenizer


def train(settings: Settings, shards: list[str], run: Path) -> None:
    """Trains from the last checkpoint in `run`, or from scratch, and writes `run/model`."""
    rank, count = processes.rank(), processes.count()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = load_last_checkpoint(run / "checkpoints")
    _check_processes(settings, checkpoint, count)
    tokenizer = _tokenizer(settings, shards, run)

    torch.manual_seed(settings.seed)  # the same weights on every process
    model = DualEncoder(settings, len(tokenizer)).to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(model.train(), settings)
    torch.manual_seed(settings.seed + rank)  # but not the same dropout
    start, position = 0, Position()
    if checkpoint:
        start, position = restore(checkpoint, model, optimizer)
    replica = DistributedDataParallel(model) if processes.grouped() else model

    batches = TrainingData(shards, settings, rank, count).batches(position)
    if rank == 0:
        cut_metrics(run / "metrics.jsonl", start)
    progress = Progress(run, settings, start=start, quiet=rank > 0)
    if checkpoint:
        progress.say(f"going on after step {start} of {settings.steps}")

    for step in range(start + 1, settings.steps + 1):
        batch = next(batches)
        pixels, input_ids, mask = to_tensors(batch, tokenizer, settings, device)
        images, texts, temperature = replica(pixels, input_ids, mask)  # [b, d], [b, d], []
        loss = contrastive_loss(
            images, texts, temperature, label_smoothing=settings.label_smoothing
        )
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        optimizer.step()

        saved = step == settings.steps or step % settings.checkpoint_every == 0
        # Raises where the run diverged: a checkpoint must not keep what is worth nothing.
        progress.step(step, batch, model, (loss, images, texts), check=saved)
        if saved:
            state = capture(step, model, optimizer, batch.position)
            if rank == 0:
                save_checkpoint(run / "checkpoints", state, keep=settings.keep_checkpoints)

    progress.close()
    if rank == 0:
        export_model(model, tokenizer, settings, run / "model")


def to_tensors(
    batch: Batch, tokenizer: BertTokenizerFast, settings: Settings, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """float[b, 3, h, w] in [-1, 1] (channels last in memory), int64[b, t], int64[b, t]."""
    pixels = torch.from_numpy(batch.pixels).to(device)  # uint8[b, h, w, 3]
    pixels = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    # Padded to the batch's longest text, not to max_tokens: with the mask, both give the same.
    tokens = tokenizer(
        batch.texts,
        padding=True,
        truncation=True,
        max_length=settings.max_tokens,
        return_tensors="pt",
    )
    return pixels, tokens["input_ids"].to(device), tokens["attention_mask"].to(device)


def _tokenizer(settings: Settings, shards: list[str], run: Path) -> BertTokenizerFast:
    """The run's tokenizer, learned by its first process when it is not there yet."""
    folder = run / "tokenizer"
    if processes.rank() == 0 and not folder.exists():
        sizes = {"vocabulary_size": settings.vocabulary_size, "max_tokens": settings.max_tokens}
        save_tokenizer(learn_tokenizer(lambda: read_texts(shards), **sizes), folder)
    processes.wait_for_all()
    return load_tokenizer(folder)


def _check_processes(settings: Settings, checkpoint: dict | None, count: int) -> None:
    if settings.batch_size % count:
        raise SettingsError(
            f"batch_size must be a multiple of the {count} processes; got {settings.batch_size}"
        )
    before = len(checkpoint["processes"]) if checkpoint else count
    if before != count:
        raise SettingsError(
            f"this run was trained by {before} processes, which share out its data: "
            f"go on with {before}; got {count}"
        )
