"""python -m alignset.train --shards OUT/shards --output RUNS/a --preset tiny

Several processes: torchrun --nproc_per_node=2 -m alignset.train --shards ...
"""

import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

from alignset.called import CALL, give
from alignset.signals import run_main
from alignset.train.errors import SettingsError
from alignset.train.presets import PRESETS
from alignset.train.runs.flags import (
    EARLIER,
    OPEN_CLIP,
    exit_status,
    settings_parser,
    take_settings,
)
from alignset.train.runs.slurm import join_tasks
from alignset.train.settings import Settings

NAME = "python -m alignset.train"
# What the short help says, a line a flag.
FIRST = {
    "input and output": {
        "shards": "folders, files, globs, URLs of .tar shards (required)",
        "output": "folder of this run (required)",
        "validate": "shards of held-out pairs that the model is scored on",
        "preset": "which values: tiny, laptop, one-gpu, b7-base, ...",
    },
    "model": {
        "start_from": "the AlignModel to continue from; empty: from scratch",
        "image_tower": "EfficientNet, such as b0",
        "text_tower": "BERT, such as mini",
    },
    "optimizer": {
        "steps": "of the whole run",
        "batch_size": "pairs of a step, over all processes",
        "micro_batch_size": "pairs that go through the towers at once",
        "precision": "auto (bf16 on a GPU), bf16, fp32 or highest",
    },
}


def parse_flags(arguments: list[str], name: str = NAME) -> tuple[Settings, str, Path]:
    """The settings (a preset, then the flags given), where the shards are, and the run folder.

    Args:
      name: how the command was called.
    """
    parser = settings_parser(
        name,
        str(__doc__).replace(NAME, name),
        FIRST,
        PRESETS,
        usage="%(prog)s --shards=SHARDS --output=FOLDER [flags]",
        peers=OPEN_CLIP | EARLIER,
    )
    parser.add_argument(
        "--shards",
        required=True,
        help="folders, files, globs, URLs of .tar shards, comma-separated; A::2,B::1 weighs sets",
    )
    flags = vars(parser.parse_args(arguments))
    if flags.get("epochs") and "steps" in flags:
        raise SettingsError("--steps and --epochs both say how long the run is: pass one of them")
    begins = flags.get("start_from")
    if begins and (Path(begins) / "model").is_dir():  # a run's folder
        flags["start_from"] = os.path.join(begins, "model")
    return take_settings(flags, PRESETS), flags["shards"], flags["run"]


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name))


def _run(arguments: list[str], name: str) -> int:
    settings, where, run = parse_flags(arguments, name)
    join_tasks()
    is_main_thread = threading.current_thread() is threading.main_thread()
    if is_main_thread and not CALL.get():  # no other may set handlers
        # Before the first step a warning of Slurm's ends the run as SIGTERM does.
        signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))
    # Here too, before there is a run of these settings that others can't go on with.
    settings.micro_batches(int(os.environ.get("WORLD_SIZE", "1")))
    # Only now: torch and transformers take seconds, and a wrong flag should not.
    from alignset.train.data.find_shards import find_sets, find_shards
    from alignset.train.runs.run_folder import has_ended

    sets = find_sets(where)
    try:
        if settings.validate:
            find_shards(settings.validate)
    except SettingsError as error:
        hint = "alignset curate --holdout=0.01 makes OUT/holdout"
        raise SettingsError(f"--validate: {error} ({hint})") from error
    from alignset.train.runs.processes import capability, find_device, keep_freed_memory  # torch

    # The run's from then on: on another device it would learn something else.
    device = find_device(settings.device)
    settings = settings.resolve(device.type, capability(device))
    is_main = os.environ.get("RANK", "0") == "0"
    is_finished = has_ended(run, settings)
    if not is_finished:
        from torch.random import fork_rng

        from alignset.train.loop import train
        from alignset.train.runs.processes import begun_together
        from alignset.train.start import begin

        keep_freed_memory()
        gpus = [device] if device.type == "cuda" else []
        with (
            begun_together(run, device.type, partial(begin, settings, sets, run)) as held_out,
            fork_rng(gpus),  # a caller in Python has a seed of its own; the GPU is chosen by now
        ):
            train(settings, sets, run, held_out)
    elif is_main:
        from alignset.train.start import open_training

        open_training(settings, sets, run)
    if is_main:
        opening = f"{run} is finished: its" if is_finished else "done: the"
        best = run / "model-best"
        also = f", and the best of its validations in {best}" if best.exists() else ""
        give(run, f"{opening} model is in {run / 'model'}{also}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
