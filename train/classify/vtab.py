"""Many small tasks of classification under one protocol: VTAB-1k (Zhai et al., 2019, arXiv
1910.04867), as the paper's table 6 (5.3).

1,000 of a task's training images are used: 800 to learn from and 200 to choose with. Trials with
settings drawn at random learn from the 800; the best of them learns from all, and classifies the
test images.
"""

import hashlib
import json
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from alignset.train.classify.classifier import ClassifyJob, Files, classify, find_images, open_job
from alignset.train.classify.settings import SIDES, ClassifySettings
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import Diverged, SettingsError, counted

_LEAST = 5  # images of a task to learn from, of which one chooses
EXAMPLES, VALIDATION = 1_000, 200  # images of a task, and how many of them only choose
PUBLISHED_MEAN = {"ALIGN": 79.99}  # table 6, of 19 tasks
GROUPS = {
    "natural": "caltech101 cifar100 dtd flowers102 pets sun397 svhn",
    "specialized": "diabetic_retinopathy eurosat patch_camelyon resisc45",
    "structured": "clevr_count clevr_distance dmlab dsprites_location dsprites_orientation kitti "
    "smallnorb_azimuth smallnorb_elevation",
}
_GROUP_OF = {task: group for group, tasks in GROUPS.items() for task in tasks.split()}
_PX = 16  # sides are multiples of it


def trial_settings(settings: ClassifySettings, task: str, number: int) -> ClassifySettings:
    """Settings of a trial: the first one as the settings say, the others changed at random by seed,
    task and number."""
    if number == 0:
        return settings
    rng = random.Random(f"{settings.seed} {task} {number}")
    rate = 0.1 * 100 ** rng.random()  # a factor from 0.1 to 10, its logarithm evenly
    resolution = rng.choice((0.75, 1.0, 1.25))
    sides = {name: round(getattr(settings, name) * resolution / _PX) * _PX for name in SIDES}
    return replace(
        settings,
        frozen_learning_rate=settings.frozen_learning_rate * rate,
        learning_rate=settings.learning_rate * rate,
        steps=max(1, round(settings.steps * rng.choice((0.5, 1.0, 2.0)))),
        horizontal_flip=rng.random() < 0.5,
        min_area=rng.choice((0.08, 0.35, 0.6, 1.0)),
        **{name: max(_PX, side) for name, side in sides.items()},
    )


def examples(images: Files) -> tuple[Files, Files]:
    """The images to learn from and those to choose with: 800 and 200, or 4 and 1 of 5 where there
    are fewer. Which ones follows from their files' names alone."""

    def place(file: tuple[str, int]) -> bytes:
        path = Path(file[0])
        return hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).digest()

    chosen = sorted(images, key=place)[:EXAMPLES]
    last = len(chosen) - len(chosen) * VALIDATION // EXAMPLES
    return chosen[:last], chosen[last:]


def run_protocol(settings: ClassifySettings, run: Path, trials: int) -> dict[str, Any]:
    """Runs what has not been run yet, task by task, and writes table.md and results.json. Raises
    SettingsError where there is no task, one lacks images, or a folder is of other settings."""
    root, jobs, tasks = settings.images, [], {}
    for task in sorted(path.name for path in Path(root).glob("[!.]*") if path.is_dir()):
        images, classes = find_images(f"{root}/{task}/train")  # what is wrong is told first
        test, _ = find_images(f"{root}/{task}/test", classes)
        if len(images) < _LEAST:
            there = counted(len(images), "image")
            raise SettingsError(f"{root}/{task}/train has {there}, and needs {_LEAST} or more")
        own = replace(settings, images=f"{root}/{task}/train", validation=f"{root}/{task}/test")
        jobs.append(ClassifyJob(own, classes, images, test, run / task))
    if not jobs:
        form = "a folder for each task, with train/CLASS/ and test/CLASS/ in it"
        raise SettingsError(f"no tasks in {root!r}: --images must have {form}")
    each = f"{counted(len(jobs), 'task')}, {counted(trials, 'trial')} each"
    print(f"{each}, then one run on all images", file=sys.stderr)
    groups: dict[str, list[float]] = {}
    for job in jobs:
        of_task = tasks[job.run.name] = _run_task(job, trials)
        groups.setdefault(of_task["group"], []).append(of_task["top_1"])
    result = {
        **{"task": "classification", "protocol": "vtab", "unit": "percent", "tasks": tasks},
        "groups": {name: round(fmean(scores), 3) for name, scores in sorted(groups.items())},
        "mean": round(fmean(of_task["top_1"] for of_task in tasks.values()), 3),
        "published_mean": PUBLISHED_MEAN,
    }
    write_whole(run / "table.md", markdown(result))
    write_whole(run / "results.json", json.dumps(result) + "\n")
    return result


def _run_task(job: ClassifyJob, trials: int) -> dict[str, Any]:
    task, (training, chosen_with) = job.run.name, examples(job.images)
    size = min(job.settings.batch_size, len(training))
    steps = job.settings.steps or job.settings.epochs * max(1, len(training) // size)
    base = replace(job.settings, batch_size=size, steps=steps)  # trials change the steps
    scores: list[float] = []
    for number in range(trials):
        settings = replace(trial_settings(base, task, number), trackers="")
        of_trial = (settings, job.classes, training, chosen_with, job.run / f"trial-{number:02}")
        scores.append(score(ClassifyJob(*of_trial), keep=False)["top_1"])
        best = f"top-1 {scores[-1]:.1f}, best {max(scores):.1f}"
        print(f"{task}: trial {number + 1} of {trials}: {best}", file=sys.stderr)
    trial, both = scores.index(max(scores)), training + chosen_with
    settings, run = trial_settings(base, task, trial), job.run / "final"
    final = score(job._replace(settings=settings, images=both, run=run), keep=True)
    return {
        "group": _GROUP_OF.get(task.lower().replace("-", "_"), "other"),
        **{name: final[name] for name in ("n", "top_1")},
        **{"classes": len(job.classes), "examples": len(both)},
        **{"trial": trial, "validation_top_1": scores[trial]},
    }


def score(job: ClassifyJob, *, keep: bool) -> dict[str, float]:
    """How good the last stage is; of one that diverged, as bad as can be."""
    path = job.run / "results.json"
    if (job.run / "model" if keep else path).exists():
        open_job(job)
    else:
        try:
            classify(job)
        except Diverged as error:
            if keep:
                raise
            print(f"{job.run.name} of {job.run.parent.name}: {error}", file=sys.stderr)
            scores = {"n": len(job.validation), "top_1": 0.0}
            write_whole(path, json.dumps({"diverged": scores}) + "\n")
    for folder in () if keep else ("model", "checkpoints"):
        shutil.rmtree(job.run / folder, ignore_errors=True)
    *_, scores = json.loads(path.read_text()).values()
    return dict(scores)


def markdown(result: dict[str, Any]) -> str:
    """A row for each task, each group and all, beside the paper's table 6."""
    tasks = sorted(result["tasks"].items(), key=lambda item: (item[1]["group"], item[0]))
    return "".join(
        [
            "| task | group | n | top-1 | published |\n|---|---|---|---|---|\n",
            *(f"| {t} | {of['group']} | {of['n']} | {of['top_1']:.1f} |  |\n" for t, of in tasks),
            *(f"| mean | {group} |  | {x:.1f} |  |\n" for group, x in result["groups"].items()),
            f"| mean | all {len(tasks)} |  | {result['mean']:.1f} | ",
            f"ALIGN {PUBLISHED_MEAN['ALIGN']} (19 tasks) |\n",
        ]
    )
