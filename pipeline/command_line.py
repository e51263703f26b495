"""Shared code of the commands around a dataset: `report`, `look`, `takedown` and `deduplicate` take
their flags, and end, alike."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from alignset.called import CALL, CalledParser, end
from alignset.extras import explain_missing_package
from alignset.pipeline.errors import UsageError
from alignset.pipeline.shown_texts import escape_controls
from alignset.transforms.workers.limited_process import ChildError

FAILURES = (Exception, ChildError)  # that end a command in one line

_LONGEST = 1000  # characters of a message, which may quote what a file holds
DISTANCES = {"min_blocked_phash_distance": 6, "min_blocked_pdq_distance": 32}
# Why pairs are taken out of a finished dataset, and how a card says it.
OPT_OUT, WITHDRAWN = "opt_out", "withdrawn"
REMOVAL_REASONS = {
    OPT_OUT: "somebody did not want them used",
    WITHDRAWN: "their hosts opted out since, or have them no more",
    "licence": "their licence does not allow it",
    "privacy": "they show or name people",
    "illegal": "they may not be published",
    "duplicate": "they are in the dataset twice",
    "quality": "they were found to be bad",
    "other": "for another reason",
}


class CommandParser(CalledParser):
    """Tells a wrong flag in one line, and ends the program with status 2. No flag can be
    abbreviated, and the description stays as it was written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options
        )

    def error(self, message: str) -> NoReturn:
        sys.exit(end(self.prog, f"{self.misspelt() or message}; see --help", 2))


class _PlainFormatter(logging.Formatter):
    """Log lines that give a terminal no commands, whatever columns and URLs they name."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        is_ours = record.name.startswith("alignset") and not record.exc_info
        return "\n".join(map(escape_controls, [text] if is_ours else text.split("\n")))


def log_plainly(level: int) -> None:
    """Has log lines printed on standard error, unless a program around it logs already."""
    if CALL.get():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def print_end(name: str, why: object, status: int) -> int:
    """Tells on standard error, in one line, why a command ends; returns the status."""
    return end(name, escape_controls(str(why)[:_LONGEST]), status)


def print_failure(name: str, error: BaseException, advice: str = "") -> int:
    """Tells that a command failed by an error that nobody expected; returns the status 1, or 2
    where a package is missing.

    Args:
      advice: what is to be done, behind the error's last line.
    """
    if isinstance(error, ModuleNotFoundError):
        return print_end(name, explain_missing_package(error), 2)
    return print_end(name, f"failed: {plain_reason(error)[: _LONGEST // 2]}{advice}", 1)


def end_of(name: str, command: Callable[[], int | None], advice: str = "") -> int:
    """Runs a command; returns its status, and tells in one line of an error that ended it.

    Args:
      command: returns its status too; None: 0.
      advice: as of `print_failure`.
    """
    try:
        return int(command() or 0)
    except UsageError as error:
        return print_end(name, error, error.status)
    except FAILURES as error:
        return print_failure(name, error, advice)


def plain_reason(error: BaseException) -> str:
    """The last line of an error, without what Beam adds to it."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
    # Beam adds the step, and what comes from another process has its type before it.
    line = re.sub(r" ?\[while running '[^']*'\]", "", lines[-1]).strip()
    return escape_controls(re.sub(r"^(?:\w+\.)+\w+Error: ", "", line))


def was_interrupted(error: BaseException | None) -> bool:
    """Whether a signal ended a command in order; within a bundle Beam raises a RuntimeError of
    it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
