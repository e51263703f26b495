"""python -m train --shards OUT/shards --run RUNS/a --preset tiny

On several processes: torchrun --nproc_per_node=2 -m -- train --shards ... (without the bare --,
torchrun takes our --run for one of its own flags).
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from train.errors import SettingsError
from train.presets import PRESETS
from train.runs.flags import Parser, add_settings, exit_status, stoppable, take_settings
from train.settings import Settings

if TYPE_CHECKING:
    from train.data.find_shards import ShardSet
    from train.evaluate.validation import HeldOut


def parse_flags(arguments: list[str]) -> tuple[Settings, str, Path]:
    """The settings (a preset, then the flags given), where the shards are, and the run folder."""
    parser = Parser(prog="python -m train", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--shards",
        required=True,
        help="folders, files, globs, URLs of .tar shards, comma-separated; A::2,B::1 weighs sets",
    )
    parser.add_argument("--run", required=True, type=Path, help="folder of this run")
    add_settings(parser, PRESETS, "tiny")
    flags = vars(parser.parse_args(arguments))
    for name in ("image_tower", "text_tower", "text_dropout", "vocabulary_size", "temperature"):
        if flags.get("start_from") and name in flags:
            raise SettingsError(f"--{name} is what --start_from brings: leave it out")
    for name in ("validate_every", "validate_pairs"):
        if name in flags and not flags.get("validate"):
            raise SettingsError(f"--{name} is of no use without --validate=SHARDS: add that")
    return take_settings(flags, PRESETS), flags["shards"], flags["run"]


def main(arguments: list[str]) -> int:
    return exit_status(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    settings, where, run = parse_flags(arguments)
    # Here too, before there is a run of these settings that others can't go on with.
    settings.micro_batches(int(os.environ.get("WORLD_SIZE", "1")))
    # Only now: torch and transformers take seconds, and a wrong flag should not.
    from train.data.find_shards import find_sets
    from train.runs.run_folder import held, open_run

    sets = find_sets(where)
    if settings.validate:
        _check_validate(settings.validate)
    first = os.environ.get("RANK", "0") == "0"
    finished = (run / "model").exists()
    held_out = None
    if first:
        if settings.validate and not finished:
            from train.evaluate.validation import read_held_out

            held_out = read_held_out(settings)
        if settings.start_from:  # before the folder is made: the right name could not go on in it
            from train.model.pretrained import check_pretrained

            check_pretrained(settings.start_from)
        open_run(run, settings, sets, settings.start_from)
    if not finished:
        with held(run, first):
            _train(settings, sets, run, held_out)
    if first:
        begun = f"{run} is finished: its" if finished else "done: the"
        best = run / "model-best"
        also = f", and the best of its validations in {best}" if best.exists() else ""
        print(f"{begun} model is in {run / 'model'}{also}", file=sys.stderr)
    return 0


def _check_validate(where: str) -> None:
    from train.data.find_shards import find_shards

    try:
        find_shards(where)
    except SettingsError as error:
        raise SettingsError(f"--validate: {error}") from error


def _train(
    settings: Settings, sets: "list[ShardSet]", run: Path, held_out: "HeldOut | None"
) -> None:
    from train.loop import train
    from train.runs.allocator import keep_freed_memory
    from train.runs.processes import start_processes, stop_processes

    keep_freed_memory()
    start_processes()
    try:
        train(settings, sets, run, held_out)
    finally:
        stop_processes()


if __name__ == "__main__":
    sys.exit(stoppable(main))
