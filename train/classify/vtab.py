"""Many small tasks of classification under one protocol: VTAB-1k, as the paper's table 6 (5.3).

    alignset classify --protocol=vtab --model=M --images=TASKS --run=RUNS/vtab

TASKS has a folder for each task, with `train` and `test`, and each of these has a folder of images
for each class. 1,000 of a task's training images are used: 800 to learn from and 200 to choose
with. Trials with settings drawn at random learn from the 800; the best of them learns from all
1,000, and classifies the test images. Source: Zhai et al., 2019 (arXiv 1910.04867).
"""

import hashlib
import json
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignset.train.classify.labelled_images import LabelledImages, find_images
from alignset.train.classify.loop import ClassifyJob
from alignset.train.classify.settings import ClassifySettings
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import Diverged, SettingsError, counted

_LEAST = 5  # images of a task to learn from, of which one chooses
EXAMPLES, VALIDATION = 1_000, 200  # images of a task, and how many of them only choose
PUBLISHED_MEAN = {"ALIGN": 79.99}  # table 6, of 19 tasks
GROUPS = {
    "natural": ("caltech101", "cifar100", "dtd", "flowers102", "pets", "sun397", "svhn"),
    "specialized": ("diabetic_retinopathy", "eurosat", "patch_camelyon", "resisc45"),
    "structured": (
        *("clevr_count", "clevr_distance", "dmlab", "dsprites_location", "dsprites_orientation"),
        *("kitti", "smallnorb_azimuth", "smallnorb_elevation"),
    ),
}
_GROUP_OF = {task: group for group, tasks in GROUPS.items() for task in tasks}
_RATE = (0.1, 10.0)  # the learning rates' factor lies between, its logarithm evenly
_LENGTH = (0.5, 1.0, 2.0)  # of the steps
_RESOLUTION = (0.75, 1.0, 1.25)
_AREA = (0.08, 0.35, 0.6, 1.0)  # min_area of a crop
_PX = 16  # sides are multiples of it


def trial_settings(settings: ClassifySettings, task: str, number: int) -> ClassifySettings:
    """Settings of a trial: the first one as the settings say, the others changed at random by seed,
    task and number."""
    if number == 0:
        return settings
    rng = random.Random(f"{settings.seed} {task} {number}")
    rate = _RATE[0] * (_RATE[1] / _RATE[0]) ** rng.random()
    resolution = rng.choice(_RESOLUTION)
    sides = ("frozen_train_px", "frozen_eval_px", "train_px", "eval_px")
    return replace(
        settings,
        frozen_learning_rate=settings.frozen_learning_rate * rate,
        learning_rate=settings.learning_rate * rate,
        steps=max(1, round(settings.steps * rng.choice(_LENGTH))),
        horizontal_flip=rng.random() < 0.5,
        min_area=rng.choice(_AREA),
        **{
            name: max(_PX, round(getattr(settings, name) * resolution / _PX) * _PX)
            for name in sides
        },
    )


def examples(images: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """The images to learn from and those to choose with: 800 and 200, or 4 and 1 of 5 where there
    are fewer. Which ones follows from their files' names alone."""

    def place(number: int) -> bytes:
        path = Path(images.paths[number])
        return hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).digest()

    order = sorted(range(len(images.paths)), key=place)[:EXAMPLES]
    last = len(order) - len(order) * VALIDATION // EXAMPLES
    return _some(images, order[:last]), _some(images, order[last:])


def _some(images: LabelledImages, numbers: list[int]) -> LabelledImages:
    paths = [images.paths[number] for number in numbers]
    return LabelledImages(paths, [images.labels[number] for number in numbers], images.classes)


def find_tasks(root: str) -> list[str]:
    """The tasks' names, in order.

    Raises:
      SettingsError: there is none, or one lacks a folder.
    """
    tasks = sorted(p.name for p in Path(root).glob("*") if p.is_dir() and p.name[0] != ".")
    form = "a folder for each task, with train/CLASS/ and test/CLASS/ in it"
    if not tasks:
        raise SettingsError(f"no tasks in {root!r}: --images must have {form}")
    for task in tasks:
        for part in ("train", "test"):
            if not (Path(root) / task / part).is_dir():
                raise SettingsError(f"{root}/{task} has no {part}/: --images must have {form}")
    return tasks


class Protocol:
    """The tasks of a folder, and what has been found out of them in the run's folder.

    Args:
      train: trains a job, or resumes it. check: raises SettingsError where a job's folder is of
        other settings.
    """

    def __init__(
        self,
        settings: ClassifySettings,
        run: Path,
        trials: int,
        *,
        train: Callable[[ClassifyJob], None],
        check: Callable[[ClassifyJob], None],
    ):
        self._settings, self._run, self._trials = settings, run, trials
        self._train, self._check = train, check
        self.tasks = find_tasks(settings.images)
        self._sets = {task: self._find(task) for task in self.tasks}  # what is wrong is told first

    def _find(self, task: str) -> tuple[LabelledImages, LabelledImages]:
        root = Path(self._settings.images) / task
        images = find_images(str(root / "train"))
        if len(images.paths) < _LEAST:
            raise SettingsError(
                f"{root}/train has {counted(len(images.paths), 'image')}: give {_LEAST} or more"
            )
        return images, find_images(str(root / "test"), images.classes)

    def results(self) -> dict[str, Any]:
        """Runs what has not been run yet, task by task, and writes table.md and results.json."""
        of_tasks = {task: self._result(task) for task in self.tasks}
        result = summed_up(of_tasks)
        write_whole(self._run / "table.md", markdown(result))
        write_whole(self._run / "results.json", json.dumps(result) + "\n")
        return result

    def _result(self, task: str) -> dict[str, Any]:
        images, test = self._sets[task]
        training, chosen_with = examples(images)
        base = self._of_task(task, len(training.paths))
        scores = []
        for number in range(self._trials):
            settings = trial_settings(base, task, number)
            folder = self._run / task / f"trial-{number:02}"
            job = ClassifyJob(replace(settings, trackers=""), training, chosen_with, folder)
            scores.append(self.score(job, keep=False)["top_1"])
            print(
                f"{task}: trial {number + 1} of {self._trials}: top-1 {scores[-1]:.1f}, "
                f"best {max(scores):.1f}",
                file=sys.stderr,
            )
        best = scores.index(max(scores))
        settings = trial_settings(base, task, best)
        both = _some(images, [images.paths.index(p) for p in training.paths + chosen_with.paths])
        final = self.score(ClassifyJob(settings, both, test, self._run / task / "final"), keep=True)
        return {
            "group": _GROUP_OF.get(task.lower().replace("-", "_"), "other"),
            **{name: final[name] for name in ("n", "top_1")},
            "classes": len(images.classes),
            "examples": len(both.paths),
            "trial": best,
            "validation_top_1": scores[best],
        }

    def _of_task(self, task: str, examples: int) -> ClassifySettings:
        """The settings with the task's folders, and with steps: trials change their number."""
        root = f"{self._settings.images}/{task}"
        size = min(self._settings.batch_size, examples)
        return replace(
            self._settings,
            images=f"{root}/train",
            validation=f"{root}/test",
            batch_size=size,
            steps=self._settings.steps or self._settings.epochs * max(1, examples // size),
        )

    def score(self, job: ClassifyJob, *, keep: bool) -> dict[str, float]:
        """How good the last stage is; of one that diverged, as bad as can be."""
        path = job.run / "scores.json"
        if path.exists():
            self._check(job)
        else:
            try:
                self._train(job)
                results = json.loads((job.run / "results.json").read_text())
                scores = results[job.settings.stage_list()[-1].name]
            except Diverged as error:
                if keep:
                    raise
                print(f"{job.run.name} of {job.run.parent.name}: {error}", file=sys.stderr)
                scores = {"n": len(job.validation.paths), "top_1": 0.0}
            write_whole(path, json.dumps(scores) + "\n")
        if not keep:
            for folder in ("model", "checkpoints"):
                shutil.rmtree(job.run / folder, ignore_errors=True)
        scores = json.loads(path.read_text())
        return dict(scores)


def summed_up(of_tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The results of all tasks, with the mean of each group and of all."""
    groups: dict[str, list[float]] = {}
    for result in of_tasks.values():
        groups.setdefault(result["group"], []).append(result["top_1"])
    every = [score for scores in groups.values() for score in scores]
    return {
        "task": "classification",
        "protocol": "vtab",
        "unit": "percent",
        "tasks": of_tasks,
        "groups": {name: _mean(scores) for name, scores in sorted(groups.items())},
        "mean": _mean(every),
        "published_mean": PUBLISHED_MEAN,
    }


def _mean(scores: list[float]) -> float:
    return round(sum(scores) / len(scores), 3)


def markdown(result: dict[str, Any]) -> str:
    """A row for each task, each group and all, beside the paper's table 6."""
    rows = [("task", "group", "n", "top-1", "published")]
    rows += [
        (task, of["group"], f"{of['n']}", f"{of['top_1']:.1f}", "")
        for task, of in sorted(
            result["tasks"].items(), key=lambda item: (item[1]["group"], item[0])
        )
    ]
    rows += [("mean", group, "", f"{mean:.1f}", "") for group, mean in result["groups"].items()]
    count = len(result["tasks"])
    means = ", ".join(f"{model} {mean} (19 tasks)" for model, mean in PUBLISHED_MEAN.items())
    rows.append(("mean", f"all {count}", "", f"{result['mean']:.1f}", means))
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|---|---|", *lines[1:]]) + "\n"
