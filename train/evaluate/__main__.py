"""python -m alignset.train.evaluate TASK --model RUN --data DATA

Prints one JSON object; --page=FILE writes images beside it.
"""

import difflib
import importlib
import importlib.metadata
import json
import platform
import sys
from dataclasses import fields
from functools import cache

from alignset.signals import run_main
from alignset.train.errors import SettingsError
from alignset.train.evaluate.task_table import TASKS, TaskSettings
from alignset.train.runs.flags import Parser, add_settings, exit_status

NAME = "python -m alignset.train.evaluate"
PACKAGES = ("torch", "transformers", "numpy", "pillow")


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name))


def _run(arguments: list[str], name: str) -> int:
    task, *flags = arguments or ["--help"]
    if task in ("-h", "--help"):
        print(f"usage: {name} TASK --model MODEL --data DATA [flags]\n")
        print("Measures what a model is worth, and prints one JSON object.\n")
        for each, kind in TASKS.items():
            print(f"  {each:<13} {kind.does}")
        print(f"\n{name} TASK --help shows the flags of a task.")
        return 0
    if task.startswith("-"):
        raise SettingsError(f"name a task first: {', '.join(TASKS)} ({name} --help)")
    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TASKS)}"
        raise SettingsError(f"there is no task {task!r}; {hint}")
    kind = TASKS[task]
    parser = Parser(
        prog=f"{name} {task}",
        usage="%(prog)s [flags]",
        description=f"{kind.does[0].upper()}{kind.does[1:]}. Prints one JSON object.",
    )
    add_settings(parser, kind)
    print(evaluate(task, kind(**vars(parser.parse_args(flags)))))
    return 0


def evaluate(task: str, settings: TaskSettings) -> str:
    """The line of JSON that a task prints; writes its page where one is asked for.

    Raises:
      SettingsError: a flag, a model or a dataset is wrong. TrainingError: a model or a shard is
        broken.
    """
    # Only now: torch takes seconds, and a wrong flag should not.
    from alignset.train.evaluate.bootstrap import METHOD
    from alignset.train.evaluate.embedding import Embedding
    from alignset.train.evaluate.page import TaskResult, check_page, write_page
    from alignset.train.model.embed import open_embedder

    check_page(settings.page)

    @cache  # what is wrong with a dataset is told before a model is read
    def open_embedding() -> Embedding:
        return Embedding(open_embedder(settings.model), settings.cache, settings.batch_size)

    module = importlib.import_module(f"alignset.train.evaluate.tasks.{task}")
    outcome: TaskResult = module.evaluate(settings, open_embedding)
    model = open_embedding().embedder
    decide = [of.name for of in fields(settings) if of.metadata["decides"]]
    result = {
        "task": task,
        "unit": "percent",
        **outcome.result,
        "bootstrap": METHOD,
        "model": {"name": model.name, "kind": model.kind, "sha256": model.digest},
        "data": {name: value for name in decide if (value := getattr(settings, name)) != ""},
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
    if settings.page:
        write_page(settings, result, outcome)
    return line


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
