"""python -m alignset.train --shards OUT/shards --run RUNS/a --preset tiny

Several processes: torchrun --nproc_per_node=2 -m -- alignset.train --shards ...
(without the bare --, torchrun takes our --run for one of its own flags).
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alignset.signals import run_main
from alignset.train.errors import SettingsError
from alignset.train.peer_flags import EARLIER, OPEN_CLIP
from alignset.train.presets import PRESETS
from alignset.train.runs.flags import exit_status, settings_parser, take_settings
from alignset.train.settings import Settings

if TYPE_CHECKING:
    from alignset.train.data.find_shards import ShardSet
    from alignset.train.evaluate.validation import HeldOut

NAME = "python -m alignset.train"
# What the short help says, a line a flag.
FIRST = {
    "input and output": {
        "shards": "folders, files, globs, URLs of .tar shards (required)",
        "run": "folder of this run (required)",
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
        usage="%(prog)s --shards=SHARDS --run=FOLDER [flags]",
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
    return take_settings(flags, PRESETS), flags["shards"], flags["run"]


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name))


def _run(arguments: list[str], name: str) -> int:
    settings, where, run = parse_flags(arguments, name)
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
    from alignset.train.runs.device import find_device, keep_freed_memory  # brings torch

    # The run's from then on: on another device it would learn something else.
    device = find_device(settings.device)
    settings = settings.on(device.type)
    is_main = os.environ.get("RANK", "0") == "0"
    is_finished = has_ended(run, settings)
    if not is_finished:
        from alignset.train.loop import train
        from alignset.train.runs.processes import begun_together

        keep_freed_memory()
        begin = partial(_begin, settings, sets, run)
        with begun_together(run, device.type, begin) as held_out:
            train(settings, sets, run, held_out)
    elif is_main:
        _open(settings, sets, run)
    if is_main:
        opening = f"{run} is finished: its" if is_finished else "done: the"
        best = run / "model-best"
        also = f", and the best of its validations in {best}" if best.exists() else ""
        print(f"{opening} model is in {run / 'model'}{also}", file=sys.stderr)
    return 0


def _open(settings: Settings, sets: "list[ShardSet]", run: Path) -> None:
    from alignset.train.runs.run_folder import open_run

    if settings.start_from:  # before the folder is made: the right name could not go on in it
        from alignset.train.model.pretrained import check_pretrained

        check_pretrained(settings.start_from)
    weights = settings.start_from, settings.image_weights, settings.text_weights
    open_run(run, settings, sets, weights)


def _begin(settings: Settings, sets: "list[ShardSet]", run: Path) -> "HeldOut | None":
    """Work of the first process alone: it refuses invalid runs, reads the validation pairs, and
    opens the run's folder."""
    if settings.check_memory and not settings.start_from:  # a model's size is in no setting
        from alignset.train.memory import check_memory
        from alignset.train.runs.device import find_device, memory_of

        device = find_device(settings.device)
        available = memory_of(device)
        if device.type == "cpu":
            available //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        check_memory(settings, int(os.environ.get("WORLD_SIZE", "1")), available)
    held_out = None
    if settings.validate:
        from alignset.train.evaluate.validation import read_held_out

        held_out = read_held_out(settings)
    brought = settings.image_weights or settings.text_weights or settings.tokenizer
    if brought and not settings.start_from:
        from alignset.train.model.tower_weights import check_tower_weights

        check_tower_weights(settings)
    _open(settings, sets, run)
    return held_out


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
