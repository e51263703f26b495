"""One point: a model that is trained on a variant's shards and evaluated.

It runs in a process that does one after the other: torch, which takes seconds, is imported once.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignset.pipeline.errors import FailedRunError, UsageError
from alignset.signals import end_with_parent
from alignset.train.data.whole_files import write_whole


@dataclass(frozen=True)
class Point:
    """One training.

    Attributes:
      out: the folder of the ablation. shards: what is trained on.
      steps: of the training. budget: samples that are seen.
      train: flags of `alignset train`.
      evals: what is evaluated on, by name: what `alignset evaluate retrieval --data` takes.
    """

    out: Path
    variant: str
    budget: int
    seed: int
    shards: Path
    steps: int
    train: tuple[str, ...]
    evals: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.budget}-{self.seed}"

    @property
    def file(self) -> Path:
        return self.out / f"points/{self.name}.json"


def check_captioned(name: str, data: str) -> None:
    """Raises UsageError where there is nothing to evaluate on."""
    from alignset.train.errors import SettingsError, TrainingError
    from alignset.train.evaluate.sets.captioned import find_captioned

    try:
        if next((image for image in find_captioned(data) if image.captions), None) is None:
            raise SettingsError(f"{data} has no image with a caption")
    except (SettingsError, TrainingError) as error:
        raise UsageError(f"--eval={name}={data}: {error}") from error


def begin_job(folder: Path, parent: int) -> None:
    """Has this process write what it says into a file of its own, libraries too, and imports what
    trains, so that a training's time is its own. It ends with its parent, also by SIGKILL."""
    if sys.platform == "linux":
        end_with_parent()
    log = os.open(folder / f"job-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import alignset.train.evaluate.tasks.retrieval
    import alignset.train.loop
    import alignset.train.model.embed  # noqa: F401


def measure_point(point: Point) -> dict[str, Any]:
    """Trains, evaluates, and writes `point.file`; a training that was stopped resumes.

    Returns:
      what was written: of each evaluation set the hits of each image, see `hits`; `train_s`, and
      `samples_per_s` over the second half of the steps.

    Raises:
      FailedRunError: the training failed; its log says why.
    """
    from alignset.train.__main__ import main as train

    run, start = point.out / "runs" / point.name, time.monotonic()
    flags = {
        **{"shards": point.shards, "run": run, "steps": point.steps, "seed": point.seed},
        **{"warmup_steps": point.steps // 10, "checkpoint_every": point.steps, "trackers": ""},
        **{"samples_every": 0, "log_every": max(1, point.steps // 2)},
    }
    # The user's flags come last, so that they win.
    status = train([*(f"--{name}={value}" for name, value in flags.items()), *point.train])
    if status:
        raise FailedRunError(f"the training of {point.name} failed; {point.out}/logs says why")
    train_s = time.monotonic() - start
    scores = {name: hits(run / "model", data, run) for name, data in point.evals.items()}
    last = (run / "metrics.jsonl").read_text().splitlines()[-1]
    result = {
        **{"variant": point.variant, "budget": point.budget, "seed": point.seed},
        **{"steps": point.steps, "scores": scores, "train_s": round(train_s, 2)},
        "samples_per_s": json.loads(last)["samples_per_second"],
        "wall_s": round(time.monotonic() - start, 2),
    }
    write_whole(point.file, json.dumps(result))
    shutil.rmtree(run)
    return result


def hits(model: Path, data: str, cache: Path) -> dict[str, dict[str, Any]]:
    """Evaluates retrieval, by image.

    Args:
      cache: a folder for embeddings.

    Returns:
      for each k in 1, 5 and 10 (as text, for JSON) `image`: 1 for an image that has a text of its
      own among the first k; `text`: how many of its texts have it among their first k; `texts`:
      how many it has; `chance`: R@k in percent of a random order.
    """
    from alignset.train.evaluate.embedding import Embedding
    from alignset.train.evaluate.retrieval import KS, both_ranks, recall_scores
    from alignset.train.evaluate.sets.captioned import find_captioned
    from alignset.train.evaluate.tasks.retrieval import embed_captioned, hits_of_images, pairs_of
    from alignset.train.model.embed import open_embedder

    embedding = Embedding(open_embedder(str(model)), cache)
    pairs = pairs_of(embed_captioned(find_captioned(data), embedding, data))
    ranks = both_ranks(pairs)
    of_images = hits_of_images(pairs, *ranks).astype(int)
    chance = recall_scores(pairs, ranks)["chance"]
    return {
        str(k): {
            "image": of_images[:, 2 * number].tolist(),
            "text": of_images[:, 2 * number + 1].tolist(),
            "texts": of_images[:, -1].tolist(),
            "chance": sum(way[f"R@{k}"] for way in chance.values()) / len(chance),
        }
        for number, k in enumerate(KS)
    }


def threads_of_jobs(jobs: int) -> None:
    """Divides the cores among processes that are started from here on."""
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    sys.stdout.flush()
