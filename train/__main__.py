"""python -m train --shards OUT/shards --run RUNS/a --preset tiny

On several processes: torchrun --nproc_per_node=2 -m -- train --shards ...
(without the bare --, torchrun takes our --run for one of its own flags).
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from command_help import add_help
from train.errors import SettingsError
from train.presets import PRESETS
from train.runs.flags import Parser, add_settings, exit_status, stoppable, take_settings
from train.settings import GROUPS, Settings

if TYPE_CHECKING:
    from train.data.find_shards import ShardSet

NAME = "python -m train"
# What the short help says, a line a flag.
FIRST = {
    "input and output": {
        "shards": "folders, files, globs, URLs of .tar shards (required)",
        "run": "folder of this run (required)",
        "preset": "which values: tiny, laptop, one-gpu, b7-base, ...",
    },
    "model": {
        "start_from": "the AlignModel to go on with; empty: from scratch",
        "image_tower": "EfficientNet, such as b0",
        "text_tower": "BERT, such as mini",
    },
    "optimizer": {
        "learning_rate": "at the end of the warm-up; then it falls to zero",
        "steps": "of the whole run",
        "batch_size": "pairs of a step, over all processes",
        "micro_batch_size": "pairs that go through the towers at once",
        "precision": "fp32 or bf16",
    },
}


def parse_flags(arguments: list[str], name: str = NAME) -> tuple[Settings, str, Path]:
    """The settings (a preset, then the flags given), where the shards are, and the run folder.

    Args:
      name: how the command was called.
    """
    parser = Parser(
        prog=name,
        usage="%(prog)s --shards=SHARDS --run=FOLDER [flags]",
        description=str(__doc__).replace(NAME, name),
        add_help=False,
    )
    parser.add_argument(
        "--shards",
        required=True,
        help="folders, files, globs, URLs of .tar shards, comma-separated; A::2,B::1 weighs sets",
    )
    parser.add_argument("--run", required=True, type=Path, help="folder of this run")
    add_help(parser, FIRST, {"preset": "tiny", **dataclasses.asdict(PRESETS["tiny"])})
    add_settings(parser, PRESETS, "tiny", GROUPS)
    flags = vars(parser.parse_args(arguments))
    for flag in ("image_tower", "text_tower", "text_dropout", "vocabulary_size", "temperature"):
        if flags.get("start_from") and flag in flags:
            raise SettingsError(f"--{flag} is what --start_from brings: leave it out")
    return take_settings(flags, PRESETS), flags["shards"], flags["run"]


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name))


def stoppable_main(arguments: list[str], name: str = NAME) -> int:
    return stoppable(lambda: main(arguments, name))


def _run(arguments: list[str], name: str) -> int:
    settings, where, run = parse_flags(arguments, name)
    # Here too, before there is a run of these settings that others can't go on with.
    settings.micro_batches(int(os.environ.get("WORLD_SIZE", "1")))
    # Only now: torch and transformers take seconds, and a wrong flag should not.
    from train.data.find_shards import find_sets
    from train.runs.run_folder import held, open_run

    sets = find_sets(where)
    first = os.environ.get("RANK", "0") == "0"
    if first:
        if settings.start_from:  # before the folder is made: the right name could not go on in it
            from train.model.pretrained import check_pretrained

            check_pretrained(settings.start_from)
        open_run(run, settings, sets, settings.start_from)
    finished = (run / "model").exists()
    if not finished:
        with held(run, first):
            _train(settings, sets, run)
    if first:
        begun = f"{run} is finished: its" if finished else "done: the"
        print(f"{begun} model is in {run / 'model'}", file=sys.stderr)
    return 0


def _train(settings: Settings, sets: "list[ShardSet]", run: Path) -> None:
    from train.loop import train
    from train.runs.allocator import keep_freed_memory
    from train.runs.processes import start_processes, stop_processes

    keep_freed_memory()
    start_processes()
    try:
        train(settings, sets, run)
    finally:
        stop_processes()


if __name__ == "__main__":
    sys.exit(stoppable_main(sys.argv[1:]))
