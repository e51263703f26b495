"""python -m alignset.train.evaluate TASK --model RUN --data DATA

Prints one JSON object; --page=FILE writes images beside it.
"""

import difflib
import importlib
import importlib.metadata
import json
import platform
import sys
from argparse import Namespace
from functools import cache

from alignset.signals import run_main
from alignset.train.errors import SettingsError
from alignset.train.evaluate.task_flags import TASKS, overview, task_parser
from alignset.train.runs.flags import exit_status

NAME = "python -m alignset.train.evaluate"
_DROPPED = {
    "knn": "scikit-learn's KNeighborsClassifier takes the vectors of alignset embed",
    "suite": "evaluate each task; docs/published_results.md has published figures",
}
NO_MATTER = ("model", "page", "cache", "batch_size")  # flags without which a result is the same
PACKAGES = ("torch", "transformers", "numpy", "pillow")


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name))


def _run(arguments: list[str], name: str) -> int:
    task, *rest = arguments or ["--help"]
    if task in ("-h", "--help"):
        print(overview(name))
        return 0
    if task.startswith("-"):
        raise SettingsError(f"name a task first: {', '.join(TASKS)} ({name} --help)")
    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TASKS)}"
        hint = _DROPPED.get(task, hint)
        raise SettingsError(f"there is no task {task!r}; {hint}")
    flags = task_parser(name, task).parse_args(rest)
    print(evaluate(task, flags))
    return 0


def evaluate(task: str, flags: Namespace) -> str:
    """The line of JSON that a task prints, which has no path of the cache; writes its page where
    one is asked for.

    Raises:
      SettingsError: a flag, a model or a dataset is wrong. TrainingError: a model or a shard is
        broken.
    """
    # Only now: torch takes seconds, and a wrong flag should not.
    from alignset.train.evaluate.bootstrap import METHOD
    from alignset.train.evaluate.embedding import Embedding
    from alignset.train.evaluate.page import TaskResult, check_page, write_page
    from alignset.train.model.embed import open_embedder

    if flags.batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1; got {flags.batch_size}")
    check_page(flags.page)

    @cache  # what is wrong with a dataset is told before a model is read
    def open_embedding() -> Embedding:
        return Embedding(open_embedder(flags.model), flags.cache, flags.batch_size)

    module = importlib.import_module(f"alignset.train.evaluate.tasks.{task}")
    outcome: TaskResult = module.evaluate(flags, open_embedding)
    model = open_embedding().embedder
    result = {
        "task": task,
        "unit": "percent",
        **outcome.result,
        "bootstrap": METHOD,
        "model": {"name": model.name, "kind": model.kind, "sha256": model.digest},
        "data": {
            name: value
            for name, value in vars(flags).items()
            if name not in NO_MATTER and value not in ("", None)
        },
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    try:
        line = json.dumps(result, allow_nan=False)
    except ValueError as error:
        raise SettingsError(
            "a number of the result is not defined: --data has too few things, or all of them are "
            "equal in what is measured"
        ) from error
    if flags.page:
        write_page(flags.page, result, outcome)
    return line


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
