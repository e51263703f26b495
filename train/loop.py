"""The training loop: read it top to bottom."""

from functools import partial
from itertools import islice
from pathlib import Path

import torch
from transformers import AlignModel, PreTrainedTokenizerFast

from train.data.batches import Position, TrainingData
from train.data.find_shards import ShardSet
from train.data.inputs import to_inputs
from train.data.samples import read_texts
from train.errors import SettingsError
from train.evaluate.validation import HeldOut, Validation
from train.model.dual_encoder import DualEncoder, compile_towers, export_model, new_align
from train.model.pretrained import load_pretrained
from train.model.tokenizer import learn_tokenizer, load_tokenizer, save_tokenizer
from train.optim.optimizer import learning_rate, make_optimizer, set_learning_rate
from train.runs import processes
from train.runs.checkpoints import (
    Checkpoint,
    capture,
    load_last_checkpoint,
    restore,
    save_checkpoint,
)
from train.runs.progress import Progress, measure
from train.runs.run_folder import cut_metrics
from train.settings import Settings
from train.step import step_gradients


def train(
    settings: Settings, sets: list[ShardSet], run: Path, held_out: HeldOut | None = None
) -> None:
    """Trains from the last checkpoint in `run`, or from scratch, and writes `run/model`.

    Args:
      held_out: what the first process validates on; the settings say when.
    """
    rank, count = processes.rank(), processes.count()
    micro_batches, _ = settings.micro_batches(count)  # of each step, on each process
    checkpoint: Checkpoint | None = load_last_checkpoint(run / "checkpoints")
    _check_processes(checkpoint, count)
    if rank == 0:
        cut_metrics(run / "metrics.jsonl", checkpoint["step"] if checkpoint else 0)
    align, tokenizer = _start(settings, sets, run)
    model = DualEncoder(align, settings, batch_size=settings.batch_size // count)
    optimizer, start, position = _set_up(model, settings, checkpoint)
    replica = processes.replicate(model)

    batches = TrainingData(sets, settings, rank, count).batches(position)
    inputs = (to_inputs(batch, tokenizer, settings) for batch in batches)
    progress = Progress(run, settings, start=start, steps=settings.steps, quiet=rank > 0)
    if checkpoint:
        progress.say(f"going on after step {start} of {settings.steps}")
    validation = Validation(run, settings, tokenizer, held_out, progress)

    for step in range(start + 1, settings.steps + 1):
        optimizer.zero_grad()
        output = step_gradients(replica, islice(inputs, micro_batches), settings, step)
        set_learning_rate(optimizer, step, settings)
        optimizer.step()
        model.clamp_temperature()

        saved = step == settings.steps or step % settings.checkpoint_every == 0
        validated = validation.due(step)
        rest = _counted(step, settings, output.inputs.position)
        # Raises where the run diverged: a checkpoint must not keep what is worth nothing.
        progress.step(step, partial(measure, step, output, model), rest, check=saved or validated)
        progress.show_samples(step, output.inputs.pixels.numpy(), output.inputs.captions)
        if validated:  # before the checkpoint: what that has is not done again
            validation.after(step, model)
        if saved:
            processes.average_buffers(model)
            state = capture(step, model, optimizer, output.inputs.position)
            if rank == 0:
                save_checkpoint(run / "checkpoints", state, keep=settings.keep_checkpoints)

    progress.close()
    if rank == 0:
        export_model(model, tokenizer, settings, run / "model")


def _start(
    settings: Settings, sets: list[ShardSet], run: Path
) -> tuple[AlignModel, PreTrainedTokenizerFast]:
    """The model before the first step, the same on every process, and the run's tokenizer."""
    if settings.start_from:
        align, processor = load_pretrained(settings.start_from)
        return align, processor.tokenizer
    tokenizer = _tokenizer(settings, sets, run)
    torch.manual_seed(settings.seed)
    return new_align(settings, len(tokenizer)), tokenizer


def _set_up(
    model: DualEncoder, settings: Settings, checkpoint: Checkpoint | None
) -> tuple[torch.optim.Optimizer, int, Position]:
    """Brings the model to its device, as the checkpoint has it where there is one; returns its
    optimizer, how many steps it has made, and what it has read."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, settings)
    start, position = 0, Position()
    if checkpoint:
        start, position = restore(checkpoint, model, optimizer)
    if settings.compile:
        compile_towers(model.align)
    return optimizer, start, position


def _counted(step: int, settings: Settings, position: Position) -> dict[str, float]:
    """The metrics of a step that need no look at what it computed."""
    rate = learning_rate(step, settings)
    return {"learning_rate": rate, "epoch": position.epoch, **position.counts()}


def _tokenizer(settings: Settings, sets: list[ShardSet], run: Path) -> PreTrainedTokenizerFast:
    """The run's tokenizer, learned by its first process when it is not there yet."""
    folder = run / "tokenizer"
    if processes.rank() == 0 and not folder.exists():
        sizes = {"vocabulary_size": settings.vocabulary_size, "max_tokens": settings.max_tokens}
        shards = [shard for shard_set in sets for shard in shard_set.shards]
        save_tokenizer(learn_tokenizer(lambda: read_texts(shards), **sizes), folder)
    processes.wait_for_all()
    return load_tokenizer(folder)


def _check_processes(checkpoint: Checkpoint | None, count: int) -> None:
    before = len(checkpoint["processes"]) if checkpoint else count
    if before != count:
        raise SettingsError(
            f"this run was trained by {before} processes, which share out its data: "
            f"go on with {before}; got {count}"
        )
