"""Fine-tunes an AlignModel's image tower on labelled images, in two stages.

    python -m alignset.train.classify --model=M --images=TRAIN --validation=VAL --run=C

TRAIN and VAL have a folder of images for each class. The layer that is added is
trained alone, then everything. Prints one JSON object with the results.
"""

import dataclasses
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alignset.command_help import add_help
from alignset.signals import run_main
from alignset.train.classify.settings import GROUPS, PRESETS, TRIALS, ClassifySettings
from alignset.train.errors import SettingsError, counted
from alignset.train.runs.flags import Parser, add_settings, exit_status, local_folder, take_settings

if TYPE_CHECKING:
    from alignset.train.classify.loop import ClassifyJob

NAME = "python -m alignset.train.classify"
# What the short help says, a line a flag.
FIRST = {
    "model and images": {
        "model": "a saved AlignModel, or a published name (required)",
        "images": "a folder of images for each class (required)",
        "validation": "the same, to evaluate with (required)",
        "run": "folder of this run (required)",
        "preset": "which values: imagenet, fine-grained, tiny",
        "protocol": "vtab: many tasks in --images, without --validation",
    },
    "training": {
        "stages": "2; 1: the classification layer alone",
        "batch_size": "images of a step, over all processes",
        "epochs": "of each stage",
        "learning_rate": "of the layer in the second stage",
    },
}


def parse_flags(arguments: list[str], name: str = NAME) -> tuple[ClassifySettings, Path, int]:
    """The settings (a preset, then the flags given), the run folder, and how many trials the
    protocol has; 0: there is none.

    Args:
      name: how the command was called.
    """
    parser = Parser(
        prog=name,
        usage="%(prog)s [flags]",
        description=str(__doc__).replace(NAME, name),
        add_help=False,
    )
    parser.add_argument("--run", required=True, type=local_folder, help="folder of this run")
    parser.add_argument("--protocol", default="", choices=("", "vtab"), help="of many tasks: vtab")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of the protocol's search")
    values = {"preset": "tiny", "trials": TRIALS, **dataclasses.asdict(PRESETS["tiny"])}
    add_help(parser, FIRST, values)
    add_settings(parser, PRESETS, "tiny", GROUPS)
    flags = vars(parser.parse_args(arguments))
    settings = take_settings(flags, PRESETS)
    protocol = bool(flags["protocol"])
    for flag in ("model", "images") if protocol else ("model", "images", "validation"):
        if not getattr(settings, flag):
            raise SettingsError(f"--{flag} is missing ({name} --help)")
    if protocol and settings.validation:
        raise SettingsError("--protocol=vtab takes test/ of each task: leave --validation out")
    if protocol and flags["trials"] < 1:
        raise SettingsError(f"--trials must be 1 or more; got {flags['trials']}")
    return settings, flags["run"], flags["trials"] if protocol else 0


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name))


def _run(arguments: list[str], name: str) -> int:
    settings, run, trials = parse_flags(arguments, name)
    # Only now: torch and transformers take seconds, and a wrong flag should not.
    from alignset.train.classify.labelled_images import find_images
    from alignset.train.classify.loop import ClassifyJob

    if trials:
        return _run_protocol(settings, run, trials)
    images = find_images(settings.images)
    job = ClassifyJob(settings, images, find_images(settings.validation, images.classes), run)
    _check_batch(settings.batch_size, len(images.paths), int(os.environ.get("WORLD_SIZE", "1")))
    first = os.environ.get("RANK", "0") == "0"
    if not (run / "model").exists():
        _train(job)
    elif first:
        _open(job)
    if first:
        print((run / "results.json").read_text(), end="")
        print(f"done: the classifier is in {run / 'model'}", file=sys.stderr)
    return 0


def _run_protocol(settings: ClassifySettings, run: Path, trials: int) -> int:
    from alignset.train.classify.vtab import Protocol

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError("--protocol=vtab runs in one process: start it without torchrun")
    protocol = Protocol(settings, run, trials, train=_train, check=_open)
    tasks = counted(len(protocol.tasks), "task")
    print(f"{tasks}, {counted(trials, 'trial')} each, then one run on all images", file=sys.stderr)
    print(json.dumps(protocol.results()))
    print(f"done: the table is {run / 'table.md'}", file=sys.stderr)
    return 0


def _open(job: "ClassifyJob") -> None:
    from alignset.train.model.pretrained import check_pretrained
    from alignset.train.runs.run_folder import open_run

    check_pretrained(job.settings.model)
    open_run(job.run, job.settings, [], (job.settings.model,))


def _train(job: "ClassifyJob") -> None:
    from alignset.train.classify.loop import classify
    from alignset.train.runs.device import find_device
    from alignset.train.runs.processes import begun_together

    device = find_device(job.settings.device).type
    with begun_together(job.run, device, partial(_open, job)):
        classify(job)


def _check_batch(size: int, number: int, processes: int) -> None:
    if size > number:
        raise SettingsError(f"batch_size must be at most the {number} training images; got {size}")
    if size % processes:
        raise SettingsError(
            f"batch_size must be a multiple of the {processes} processes; got {size}"
        )


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
