"""The training loop: read it top to bottom."""

import sys
from collections.abc import Generator, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from alignset.train.data.batches import Batch, TrainingData
from alignset.train.data.find_shards import ShardSet
from alignset.train.data.inputs import Inputs, ahead, to_inputs
from alignset.train.data.position import Position
from alignset.train.errors import SettingsError
from alignset.train.evaluate.validation import HeldOut, Validation
from alignset.train.memory import most_used
from alignset.train.model.dual_encoder import DualEncoder, compile_towers, export_model
from alignset.train.optim.guarded_step import GuardedStep
from alignset.train.optim.optimizer import learning_rate, make_optimizer, set_learning_rate
from alignset.train.runs import processes
from alignset.train.runs.checkpoints import (
    Checkpoint,
    CheckpointWriter,
    capture,
    load_last_checkpoint,
    restore,
)
from alignset.train.runs.device import find_device, prepare_device
from alignset.train.runs.model_card import write_card
from alignset.train.runs.processes import StopRequest
from alignset.train.runs.progress import Progress, StepOutput, measure
from alignset.train.runs.run_folder import cut_metrics
from alignset.train.settings import Settings
from alignset.train.start import read_shards, start_model
from alignset.train.step import step_gradients


def train(
    settings: Settings, sets: list[ShardSet], run: Path, held_out: HeldOut | None = None
) -> None:
    """Trains from the last checkpoint in `run`, or from scratch, and writes `run/model`.

    Args:
      held_out: what the first process validates on; the settings say when.
    """
    rank, count = processes.rank(), processes.count()
    micro_batches, _ = settings.micro_batches(count)  # of each step, on each process
    device = find_device(settings.device)
    prepare_device(device, settings.precision)
    indexes = read_shards(settings, sets, run)
    settings = settings.of_samples(sum(index.total for index in indexes))
    if rank == 0 and settings.steps <= settings.warmup_steps:
        print(
            f"the learning rate rises until the last step and never falls (steps is "
            f"{settings.steps}, warmup_steps {settings.warmup_steps}): pass a lower --warmup_steps",
            file=sys.stderr,
        )
    model, tokenizer = _make_model(settings, run, device)
    optimizer = make_optimizer(model, settings)
    start, position, skipped = _resume(run, settings, model, optimizer)
    guard = GuardedStep(model, optimizer, settings, skipped=skipped)
    replica = processes.replicate(model)
    data = TrainingData(sets, settings, rank, count, indexes)
    inputs = _inputs_ahead(data.batches(position), tokenizer, settings, device)
    progress = Progress(
        run,
        settings,
        batch_size=settings.batch_size,
        start=start,
        steps=settings.steps,
        quiet=rank > 0,
    )
    validation = Validation(run, settings, tokenizer, held_out, progress)
    keep = settings.keep_checkpoints
    with StopRequest() as stop, CheckpointWriter(run / "checkpoints", keep) as writer:
        for step in range(start + 1, settings.steps + 1):
            optimizer.zero_grad()
            output = step_gradients(replica, islice(inputs, micro_batches), settings, step)
            set_learning_rate(optimizer, step, settings)
            guard.step(step)
            model.clamp_temperature()

            writer.check()
            stops = stop.after_step()
            saves = step == settings.steps or step % settings.checkpoint_every == 0
            validates = validation.due(step)
            # Raises where the run diverged: a checkpoint must not keep what is worth nothing.
            measure_now = partial(measure, step, output, model, guard)
            course = _course(step, settings, output)
            progress.step(step, measure_now, course, check=saves or validates)
            if step == start + 1:
                progress.say(f"this step took up to {most_used(device) / 1e9:.1f} GB of memory")
            progress.show_samples(step, output.inputs.pixels.numpy(), output.inputs.captions)
            if validates:  # before the checkpoint: what that has is not done again
                validation.after(step, model)
            if saves or stops:  # where the step was left out, it is as behind the one before
                _save(writer, model, optimizer, guard, output, step, averaged=saves)
            if stops:
                writer.wait()
                raise KeyboardInterrupt
    progress.close()
    if rank == 0:
        _finish(model, tokenizer, settings, sets, run)


def _make_model(
    settings: Settings, run: Path, device: torch.device
) -> tuple[DualEncoder, PreTrainedTokenizerFast]:
    """As it is before the first step, on the device, and the run's tokenizer."""
    align, tokenizer = start_model(settings, run)
    share = settings.batch_size // processes.count()
    model = DualEncoder(align, settings, batch_size=share)
    model.to(device).to(memory_format=torch.channels_last).train()
    if settings.compile:
        compile_towers(model.align)
    return model, tokenizer


def _inputs_ahead(
    batches: Generator[Batch, None, None],
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
    device: torch.device,
) -> Iterator[Inputs]:
    """Micro-batches; a thread makes the next one."""
    gpu = torch.cuda.current_device() if device.type == "cuda" else None
    return ahead(batches, partial(to_inputs, tokenizer=tokenizer, settings=settings, gpu=gpu))


def _course(step: int, settings: Settings, output: StepOutput) -> dict[str, float]:
    """Where a step is in the run: its learning rate, and how far the data has come."""
    position = output.inputs.position
    rate = learning_rate(step, settings)
    return {"learning_rate": rate, "epoch": position.epoch, **position.counts()}


def _finish(
    model: DualEncoder,
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
    sets: list[ShardSet],
    run: Path,
) -> None:
    """Writes the cards, and then the model, with which the run has ended."""
    card = partial(write_card, run=run, settings=settings, sets=sets)
    for folder in (run, *run.glob("model-best")):
        card(folder)
    export_model(model, tokenizer, settings, run / "model", card)


def _resume(
    run: Path, settings: Settings, model: DualEncoder, optimizer: torch.optim.Optimizer
) -> tuple[int, Position, int]:
    """How many steps are done, where the data continues, and how many steps were left out; the
    model and the optimizer are restored from the last checkpoint."""
    checkpoint: Checkpoint | None = load_last_checkpoint(run / "checkpoints")
    if processes.rank() == 0:
        cut_metrics(run / "metrics.jsonl", checkpoint["step"] if checkpoint else 0)
    if checkpoint is None:
        return 0, Position(), 0
    if checkpoint["step"] > settings.steps:
        raise SettingsError(
            f"{run} has gone {checkpoint['step']} steps, and --steps={settings.steps} is less: "
            "pass as many or more, or another --run"
        )
    start, position = restore(checkpoint, model, optimizer)
    before, count = len(checkpoint["processes"]), processes.count()
    others = f", with {count} processes, which were {before}" if before != count else ""
    if processes.rank() == 0:
        print(f"resuming after step {start} of {settings.steps}{others}", file=sys.stderr)
    return start, position, checkpoint["skipped_steps"]


def _save(
    writer: CheckpointWriter,
    model: DualEncoder,
    optimizer: torch.optim.Optimizer,
    guard: GuardedStep,
    output: StepOutput,
    step: int,
    *,
    averaged: bool,
) -> None:
    """Begins to write a checkpoint; all processes call it.

    Args:
      averaged: whether BatchNorm's statistics become all processes'. Where a run is only stopped
        they don't, since that would change what is learned behind the stop.
    """
    if averaged:
        processes.average_buffers(model)
        guard.keep_statistics()
    position = output.inputs.position
    state = capture(step, model, optimizer, position, guard.skipped, averaged=averaged)
    if processes.rank() == 0:
        writer.save(state)
