"""The training loop: read it top to bottom."""

from functools import partial
from itertools import islice
from pathlib import Path

import torch

from train.data.ahead import ahead
from train.data.batches import TrainingData
from train.data.find_shards import ShardSet
from train.data.inputs import to_inputs
from train.data.position import Position
from train.evaluate.validation import HeldOut, Validation
from train.model.dual_encoder import DualEncoder, compile_towers, export_model
from train.optim.guarded_step import GuardedStep
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
from train.start import read_shards, start_model
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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint: Checkpoint | None = load_last_checkpoint(run / "checkpoints")
    if rank == 0:
        cut_metrics(run / "metrics.jsonl", checkpoint["step"] if checkpoint else 0)
    indexes = read_shards(settings, sets, run)
    align, tokenizer = start_model(settings, run)
    model = DualEncoder(align, settings, batch_size=settings.batch_size // count)
    model.to(device).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, settings)
    start, position, skipped = 0, Position(), 0
    if checkpoint:
        start, position = restore(checkpoint, model, optimizer)
        skipped = checkpoint["skipped_steps"]
        del checkpoint  # three times the weights
    guard = GuardedStep(model, optimizer, settings, skipped=skipped)
    if settings.compile:
        compile_towers(model.align)
    replica = processes.replicate(model)

    data = TrainingData(sets, settings, rank, count, indexes)
    prepare = partial(to_inputs, tokenizer=tokenizer, settings=settings)
    inputs = ahead(data.batches(position), 1, prepare)
    progress = Progress(run, settings, start=start, steps=settings.steps, quiet=rank > 0)
    if start:
        progress.say(f"going on after step {start} of {settings.steps}")
    validation = Validation(run, settings, tokenizer, held_out, progress)

    for step in range(start + 1, settings.steps + 1):
        optimizer.zero_grad()
        output = step_gradients(replica, islice(inputs, micro_batches), settings, step)
        set_learning_rate(optimizer, step, settings)
        guard.step(step)
        model.clamp_temperature()

        saved = step == settings.steps or step % settings.checkpoint_every == 0
        validated = validation.due(step)
        rest = {
            "learning_rate": learning_rate(step, settings),
            "epoch": output.inputs.position.epoch,
            **output.inputs.position.counts(),
        }
        # Raises where the run diverged: a checkpoint must not keep what is worth nothing.
        measured = partial(measure, step, output, model, guard)
        progress.step(step, measured, rest, check=saved or validated)
        progress.show_samples(step, output.inputs.pixels.numpy(), output.inputs.captions)
        if validated:  # before the checkpoint: what that has is not done again
            validation.after(step, model)
        if saved and not guard.left_out:  # or its weights might be what is wrong
            processes.average_buffers(model)
            guard.keep_statistics()
            state = capture(step, model, optimizer, output.inputs.position, guard.skipped)
            if rank == 0:
                save_checkpoint(run / "checkpoints", state, keep=settings.keep_checkpoints)

    progress.close()
    if rank == 0:
        export_model(model, tokenizer, settings, run / "model")
