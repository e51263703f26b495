"""The training loop: read it top to bottom."""

import sys
import time
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from alignset.train.data.batches import TrainingData, make_inputs, prefetch
from alignset.train.data.find_shards import ShardSet
from alignset.train.data.order import Position
from alignset.train.errors import SettingsError
from alignset.train.evaluate.validation import HeldOut, Validation
from alignset.train.model.dual_encoder import DualEncoder, compile_towers, export_model
from alignset.train.optim.optimizer import (
    GuardedStep,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from alignset.train.runs import processes
from alignset.train.runs.checkpoints import (
    Checkpoint,
    CheckpointWriter,
    capture,
    load_last_checkpoint,
    restore,
)
from alignset.train.runs.model_card import write_card
from alignset.train.runs.processes import (
    find_device,
    gpu_peak,
    most_used,
    name_of,
    prepare_device,
    stop_request,
)
from alignset.train.runs.progress import Profile, Progress, measure
from alignset.train.runs.run_folder import cut_metrics
from alignset.train.settings import Settings
from alignset.train.start import read_shards, start_model
from alignset.train.step import step_gradients

_SAVE, _STOP = 1, 2  # what processes agree on behind a step


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
    settings = settings.set_steps(sum(index.total for index in indexes))
    if rank == 0 and settings.steps <= settings.warmup_steps:
        print(
            f"the learning rate rises until the last step and never falls (steps is "
            f"{settings.steps}, warmup_steps {settings.warmup_steps}): pass a lower --warmup_steps",
            file=sys.stderr,
        )
    align, tokenizer = start_model(settings, run)
    model = DualEncoder(align, settings, batch_size=settings.batch_size // count)
    model.to(device).to(memory_format=torch.channels_last).train()
    if settings.compile:
        compile_towers(model.align, settings)
    optimizer = make_optimizer(model, settings)
    start, position, skipped = _resume(run, settings, model, optimizer)
    guard = GuardedStep(
        model, optimizer, settings, skipped=skipped, longest=settings.max_gradient_norm
    )
    replica = processes.replicate(model)
    data = TrainingData(sets, indexes, settings, rank, count)
    gpu = torch.cuda.current_device() if device.type == "cuda" else None
    prepare = partial(make_inputs, tokenizer=tokenizer, settings=settings, gpu=gpu)
    made = prefetch(data.batches(position), prepare)  # a thread makes the next micro-batch
    lengths = {"batch_size": settings.batch_size, "start": start, "steps": settings.steps}
    progress = Progress(run, settings, **lengths, quiet=rank > 0)
    inputs = progress.time_waits(made)
    profile = Profile(settings.profile if rank == 0 else "", run / "profile.json")
    progress.say(f"the towers compute in {settings.precision} on {name_of(device)}")
    validation = Validation(run, settings, tokenizer, held_out, progress)
    keep, saved_s = settings.keep_checkpoints, time.monotonic()
    with stop_request() as must_stop, CheckpointWriter(run / "checkpoints", keep) as writer:
        for step in range(start + 1, settings.steps + 1):
            optimizer.zero_grad()
            output = step_gradients(replica, islice(inputs, micro_batches), settings, step)
            set_learning_rate(optimizer, step, settings)
            processes.average_buffers(model)
            guard.step(step)
            model.clamp_temperature()

            writer.check()
            order = _order(must_stop(), saved_s, settings)
            stops = order == _STOP
            is_due = step == settings.steps or step % settings.checkpoint_every == 0
            saves = is_due or order == _SAVE
            validates = validation.due(step)
            # Raises where the run diverged: a checkpoint must not keep what is worth nothing.
            measure_now = partial(measure, step, output, model, guard, settings)
            position = output.inputs.position
            course = {"learning_rate": learning_rate(step, settings), "epoch": position.epoch}
            course |= gpu_peak(device)
            progress.step(step, measure_now, course, check=saves or validates)
            if step == start + 1:
                used = f"{most_used(device) / 1e9:.1f} GB"
                progress.say(f"the first step took up to {used} of memory")
            progress.show_samples(step, output.inputs.pixels.numpy(), output.inputs.captions)
            profile.step(step)
            if validates:  # before the checkpoint: what that has is not done again
                validation.validate(step, model)
            if saves or stops:  # where the step was left out, it is as behind the one before
                state = capture(step, model, optimizer, position, guard.skipped)
                saved_s = time.monotonic()
                if rank == 0:
                    writer.save(state)
            if stops:
                writer.check(wait=True)
                raise KeyboardInterrupt
    profile.close()
    progress.close()
    if rank == 0:  # the cards, and then the model, with which the run has ended
        card = partial(write_card, run=run, settings=settings, sets=sets)
        for folder in (run, *run.glob("model-best")):
            card(folder)
        export_model(model, tokenizer, settings, run / "model", card)


def _order(stops: bool, saved_s: float, settings: Settings) -> int:
    """The order that signals of any process and the first one's clock give, to all alike.

    Args:
      saved_s: when the last checkpoint was written, by the monotonic clock.
    """
    minutes = (time.monotonic() - saved_s) / 60
    is_late = processes.rank() == 0 and 0 < settings.checkpoint_every_minutes <= minutes
    return processes.greatest_of_all(_STOP if stops else _SAVE * is_late)


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
            "pass as many or more, or another --output"
        )
    start, position = restore(checkpoint, model, optimizer)
    before, count = len(checkpoint["processes"]), processes.count()
    others = f", with {count} processes, which were {before}: they begin the next epoch"
    if processes.rank() == 0:
        also = others if before != count else ""
        print(f"resuming after step {start} of {settings.steps}{also}", file=sys.stderr)
    return start, position, checkpoint["skipped_steps"]
