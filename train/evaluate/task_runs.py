"""One task, from its flags to its outcome."""

import importlib
from argparse import Namespace
from collections.abc import Callable

from alignset.train.errors import SettingsError
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.task_result import TaskResult


def check_flags(flags: Namespace) -> None:
    """Raises SettingsError for what every task refuses."""
    if flags.batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1; got {flags.batch_size}")


def run_task(task: str, flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """What the module of a task's name gives.

    Raises:
      SettingsError, TrainingError: as the task says.
    """
    outcome: TaskResult = importlib.import_module(f"alignset.train.evaluate.tasks.{task}").evaluate(
        flags, open_embedding
    )
    return outcome
