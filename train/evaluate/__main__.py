"""python -m alignset.train.evaluate TASK --model RUN --data DATA

Prints one JSON object; --page=FILE writes images beside it. Several --model are compared.
"""

import difflib
import importlib
import importlib.metadata
import json
import platform
import sys
from dataclasses import fields
from functools import cache
from typing import Any

from alignset.called import give
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
    values = vars(parser.parse_args(flags))
    models = values.pop("model")
    line = evaluate(task, *(kind(**values, model=model) for model in models))
    give(json.loads(line), line)
    return 0


def evaluate(task: str, *models: TaskSettings) -> str:
    """The line of JSON that a task prints; writes its page where one is asked for. Several models
    have `results`, and `differences` of each further one from the first.

    Raises:
      SettingsError: a flag, a model or a dataset is wrong. TrainingError: a model or a shard is
        broken.
    """
    # Only now: torch takes seconds, and a wrong flag should not.
    from alignset.train.evaluate.bootstrap import METHOD
    from alignset.train.evaluate.embedding import Embedding
    from alignset.train.evaluate.page import TaskResult, check_page, differences, write_page
    from alignset.train.model.embed import open_embedder
    from alignset.train.runs.trained_images import trained_images

    check_page(models[0].page)

    @cache  # what is wrong with a dataset is told before a model is read, and with any model then
    def open_embeddings() -> list[Embedding]:
        return [Embedding(open_embedder(of.model), of.cache, of.batch_size) for of in models]

    module = importlib.import_module(f"alignset.train.evaluate.tasks.{task}")
    outcomes, results = list[TaskResult](), list[dict[str, Any]]()
    for number, settings in enumerate(models):
        outcome = module.evaluate(settings, lambda number=number: open_embeddings()[number])
        model = open_embeddings()[number].embedder
        images = [identity.hex() for identity in outcome.identities]
        known = trained_images(settings.model, {*images}) if images else None
        if known is not None:
            outcome.result["also_trained_on"] = count = sum(image in known for image in images)
            if count:
                of_all = f"{count:,} of these {len(images):,} images"
                print(f"warning: {settings.model} was trained on {of_all}", file=sys.stderr)
        decide = [of.name for of in fields(settings) if of.metadata["decides"]]
        outcomes.append(outcome)
        results.append(
            {
                "task": task,
                "unit": "percent",
                **outcome.result,
                "bootstrap": METHOD,
                "model": {"name": model.name, "kind": model.kind, "sha256": model.digest},
                "data": {n: value for n in decide if (value := getattr(settings, n)) != ""},
                "versions": {"python": platform.python_version()}
                | {name: importlib.metadata.version(name) for name in PACKAGES},
            }
        )
    if any(outcome.identities != outcomes[0].identities for outcome in outcomes):
        raise SettingsError("--data changed while it was read: try again")
    first, *others = outcomes
    paired = [differences(first, outcome) for outcome in others if first.samples]
    try:
        line = json.dumps(
            {"task": task, "results": results, "differences": paired} if others else results[0],
            allow_nan=False,
        )
    except ValueError as error:
        raise SettingsError(
            "a number of the result is not defined: --data has too few things, or all of them are "
            "equal in what is measured"
        ) from error
    if models[0].page:
        write_page(models, results, outcomes, paired)
    return line


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
