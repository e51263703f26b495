"""Fine-tunes an AlignModel's image tower on labelled images, in two stages.

    python -m alignset.train.classify --model=M --images=TRAIN --validation=VAL --output=C

TRAIN and VAL have a folder of images for each class. The layer that is added is
trained alone, then everything. Prints one JSON object with the results.
"""

import json
import os
import sys
from dataclasses import fields

from alignset.signals import run_main
from alignset.train.classify.settings import PRESETS, ClassifySettings
from alignset.train.errors import SettingsError
from alignset.train.runs.flags import exit_status, settings_parser, take_settings

NAME = "python -m alignset.train.classify"
_HELP = {of.name: of.metadata["help"] for of in fields(ClassifySettings)}
# What the short help says, a line a flag.
FIRST = {
    "model and images": {
        **{flag: f"{_HELP[flag]} (required)" for flag in ("model", "images", "validation")},
        "output": "folder of this run (required)",
        "preset": "which values: imagenet, fine-grained, tiny",
        "protocol": "vtab: many tasks in --images, without --validation",
    },
    "training": {flag: _HELP[flag] for flag in ("stages", "batch_size", "epochs", "learning_rate")},
}


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name))


def _run(arguments: list[str], name: str) -> int:
    description, usage = str(__doc__).replace(NAME, name), "%(prog)s [flags]"
    parser = settings_parser(name, description, FIRST, PRESETS, usage=usage)
    parser.add_argument("--protocol", default="", choices=("", "vtab"), help="of many tasks: vtab")
    parser.add_argument("--trials", type=int, default=50, help="of the protocol's search")
    flags = vars(parser.parse_args(arguments))
    settings, run, protocol = take_settings(flags, PRESETS), flags["run"], flags["protocol"]
    for flag in ("model", "images") if protocol else ("model", "images", "validation"):
        if not getattr(settings, flag):
            raise SettingsError(f"--{flag} is missing ({name} --help)")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if protocol:
        vtab = f"--protocol={protocol}"
        for is_wrong, why in (
            (settings.validation, f"{vtab} takes test/ of each task: leave --validation out"),
            (flags["trials"] < 1, f"--trials must be 1 or more; got {flags['trials']}"),
            (processes > 1, f"{vtab} runs in one process: start it without torchrun"),
        ):
            if is_wrong:
                raise SettingsError(why)
    # Only now: torch and transformers take seconds, and a wrong flag should not.
    from alignset.train.runs.processes import capability, find_device

    device = find_device(settings.device)
    settings = settings.resolve(device.type, capability(device))
    if protocol:
        from alignset.train.classify.vtab import run_protocol

        print(json.dumps(run_protocol(settings, run, flags["trials"])))
        print(f"done: the table is {run / 'table.md'}", file=sys.stderr)
        return 0
    from alignset.train.classify.classifier import ClassifyJob, classify, find_images, open_job

    images, classes = find_images(settings.images)
    validation, _ = find_images(settings.validation, classes)
    job, size = ClassifyJob(settings, classes, images, validation, run), settings.batch_size
    if size > (count := len(images)):
        raise SettingsError(f"batch_size must be at most the {count} training images; got {size}")
    if size % processes:
        raise SettingsError(f"batch_size must be a multiple of {processes} processes; got {size}")
    first = os.environ.get("RANK", "0") == "0"
    if not (run / "model").exists():
        classify(job)
    elif first:
        open_job(job)
    if first:
        print((run / "results.json").read_text(), end="")
        print(f"done: the classifier is in {run / 'model'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
