"""python -m train --shards OUT/shards --run RUNS/a --preset tiny

On several processes: torchrun --nproc_per_node=2 -m -- train --shards ... (without the bare --,
torchrun takes our --run for one of its own flags).
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from train.errors import Diverged, SettingsError, TrainingError
from train.presets import PRESETS
from train.settings import Settings


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise SettingsError(f"{message} (python -m train --help lists all flags)")


def parse_flags(arguments: list[str]) -> tuple[Settings, str, Path]:
    """The settings (a preset, then the flags given), where the shards are, and the run folder."""
    parser = _Parser(prog="python -m train", description=__doc__, allow_abbrev=False)
    parser.add_argument("--shards", required=True, help="folder, file or glob of .tar shards")
    parser.add_argument("--run", required=True, type=Path, help="folder of this run")
    parser.add_argument("--preset", default="tiny", choices=PRESETS, help="default: tiny")
    for setting in dataclasses.fields(Settings):
        parse = _boolean if setting.type is bool else setting.type
        values = ", ".join(f"{name}: {getattr(p, setting.name)}" for name, p in PRESETS.items())
        parser.add_argument(
            f"--{setting.name}",
            type=parse,
            metavar=setting.type.__name__.upper(),
            default=argparse.SUPPRESS,
            help=values,
        )
    given = vars(parser.parse_args(arguments))
    shards, run, preset = given.pop("shards"), given.pop("run"), given.pop("preset")
    return dataclasses.replace(PRESETS[preset], **given), shards, run


def main(arguments: list[str]) -> int:
    rank = int(os.environ.get("RANK", "0"))
    try:
        settings, where, run = parse_flags(arguments)
        # Only now: torch and transformers take seconds, and a wrong flag should not.
        from train.data import find_shards
        from train.run_folder import open_run

        shards = find_shards(where)
        if rank == 0:
            open_run(run, settings, shards)
        if (run / "model").exists():
            print(f"{run} is finished: its model is in {run / 'model'}", file=sys.stderr)
            return 0
        _train(settings, shards, run)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        if rank == 0 or not isinstance(error, Diverged):
            print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    print(f"done: the model is in {run / 'model'}", file=sys.stderr)
    return 0


def _train(settings: Settings, shards: list[str], run: Path) -> None:
    from train.loop import train
    from train.processes import start_processes, stop_processes

    start_processes()
    try:
        train(settings, shards, run)
    finally:
        stop_processes()


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false; got {text!r}")
    return text.lower() == "true"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
