"""Result of a task: numbers for the line of JSON, and images for the page."""

import importlib
import importlib.metadata
import json
import platform
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from alignset.train.errors import SettingsError
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.embedding import Embedding

NO_MATTER = ("model", "page", "cache", "batch_size")  # flags without which a result is the same
_PACKAGES = ("torch", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class Card:
    """An image and what is said of it.

    Attributes:
      place: of the image in the dataset that the task went through; -1: there is none.
      lines: the first is its title.
      right: whether the model was right; None: that is not what it is about.
    """

    place: int
    lines: tuple[str, ...]
    right: bool | None = None


@dataclass(frozen=True)
class Section:
    title: str
    cards: list[Card]


@dataclass
class TaskResult:
    """The result of one task.

    Attributes:
      result: what is printed, besides what every task says.
      sections: the page's.
      files: goes through the files of the dataset's images again, for the page.
    """

    result: dict[str, Any]
    sections: list[Section] = field(default_factory=list)
    files: Callable[[], Iterable[bytes]] = tuple


def check_flags(flags: Namespace) -> None:
    """Raises SettingsError for what every task refuses."""
    if flags.batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1; got {flags.batch_size}")


def run_task(task: str, flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """Runs the task's module, and raises what that raises."""
    module = importlib.import_module(f"alignset.train.evaluate.tasks.{task}")
    outcome: TaskResult = module.evaluate(flags, open_embedding)
    return outcome


def whole_result(
    task: str, embedding: Embedding, flags: Namespace, outcome: TaskResult
) -> dict[str, Any]:
    """The object that is printed: the task's numbers, and what they are of.

    Args:
      flags: the task's. Those that say what is measured are in it; no path of the cache is.
    """
    model = embedding.embedder
    return {
        "task": task,
        "unit": "percent",
        **outcome.result,
        "bootstrap": bootstrap.settings(),
        "model": {"name": model.name, "kind": model.kind, "sha256": model.digest},
        "data": {
            name: value
            for name, value in vars(flags).items()
            if name not in NO_MATTER and value not in ("", None)
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    }


def as_json(result: object) -> str:
    """A result as JSON, which has no NaN. Raises SettingsError where a number is not finite."""
    try:
        return json.dumps(result, allow_nan=False)
    except ValueError as error:
        raise SettingsError(
            "a number of the result is not defined: --data has too few things, or all of them are "
            "equal in what is measured"
        ) from error


def percent(share: float) -> float:
    return round(100 * share, 3)


def percents(interval: bootstrap.Interval) -> list[float]:
    """An interval, in percent, as JSON has it."""
    return [percent(end) for end in interval]
