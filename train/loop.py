"""The training loop: read it top to bottom."""

import sys
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from alignset.train.data.batches import TrainingData
from alignset.train.data.find_shards import ShardSet
from alignset.train.data.inputs import ahead, to_inputs
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
from alignset.train.runs.processes import stop_request
from alignset.train.runs.progress import Progress, measure
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
    align, tokenizer = start_model(settings, run)
    model = DualEncoder(align, settings, batch_size=settings.batch_size // count)
    model.to(device).to(memory_format=torch.channels_last).train()
    if settings.compile:
        compile_towers(model.align)
    optimizer = make_optimizer(model, settings)
    start, position, skipped = _resume(run, settings, model, optimizer)
    guard = GuardedStep(model, optimizer, settings, skipped=skipped)
    replica = processes.replicate(model)
    data = TrainingData(sets, indexes, settings, rank, count)
    gpu = torch.cuda.current_device() if device.type == "cuda" else None
    prepare = partial(to_inputs, tokenizer=tokenizer, settings=settings, gpu=gpu)
    inputs = ahead(data.batches(position), prepare)  # a thread makes the next micro-batch
    lengths = {"batch_size": settings.batch_size, "start": start, "steps": settings.steps}
    progress = Progress(run, settings, **lengths, quiet=rank > 0)
    validation = Validation(run, settings, tokenizer, held_out, progress)
    keep = settings.keep_checkpoints
    with stop_request() as must_stop, CheckpointWriter(run / "checkpoints", keep) as writer:
        for step in range(start + 1, settings.steps + 1):
            optimizer.zero_grad()
            output = step_gradients(replica, islice(inputs, micro_batches), settings, step)
            set_learning_rate(optimizer, step, settings)
            processes.average_buffers(model)
            guard.step(step)
            model.clamp_temperature()

            writer.check()
            stops = must_stop()
            saves = step == settings.steps or step % settings.checkpoint_every == 0
            validates = validation.due(step)
            # Raises where the run diverged: a checkpoint must not keep what is worth nothing.
            measure_now = partial(measure, step, output, model, guard)
            rate, position = learning_rate(step, settings), output.inputs.position
            course = {"learning_rate": rate, "epoch": position.epoch, **position.counts()}
            progress.step(step, measure_now, course, check=saves or validates)
            if step == start + 1:
                used = f"{most_used(device) / 1e9:.1f} GB"
                progress.say(f"the first step took up to {used} of memory")
            progress.show_samples(step, output.inputs.pixels.numpy(), output.inputs.captions)
            if validates:  # before the checkpoint: what that has is not done again
                validation.after(step, model)
            if saves or stops:  # where the step was left out, it is as behind the one before
                state = capture(step, model, optimizer, position, guard.skipped)
                if rank == 0:
                    writer.save(state)
            if stops:
                writer.check(wait=True)
                raise KeyboardInterrupt
    progress.close()
    if rank == 0:  # the cards, and then the model, with which the run has ended
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
    others = f", with {count} processes, which were {before}: they begin the next epoch"
    if processes.rank() == 0:
        also = others if before != count else ""
        print(f"resuming after step {start} of {settings.steps}{also}", file=sys.stderr)
    return start, position, checkpoint["skipped_steps"]
