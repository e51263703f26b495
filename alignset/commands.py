"""Commands as functions: they take a command's words and flags, and return what it makes.

Each flag is an argument by its name. None is as good as not given; True stands for the flag alone,
a list or a dict for the text with commas. `help=True` prints the flags.

Raises:
  UsageError: a flag is unknown, missing or wrong, or an input is not there; says what to do.
  FailedRunError: the command failed; `__cause__` is the error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from alignset.__main__ import COMMANDS, command_of
from alignset.called import CALL, Call, EndedError, text_of
from alignset.extras import explain_missing_package
from alignset.pipeline.errors import FailedRunError, UsageError

Word = str | os.PathLike[str]


class TrainedRun(NamedTuple):
    """A run that has ended.

    Fields:
      path: its folder. model: the folder of its model, for `evaluate` and transformers.
      metrics: the last value of each number in its metrics.jsonl.
    """

    path: Path
    model: Path
    metrics: dict[str, Any]


def _command(name: str) -> Callable[..., Any]:
    """The function of a command: its words and flags in, the object of its lines out."""

    def command(*words: Word, **flags: object) -> Any:
        call = Call(flags)
        token = CALL.set(call)
        try:
            own_words = [text_of("an argument", word) for word in words]
            status = command_of(name)(own_words, f"alignset {name}")
        except EndedError as error:
            why, status = error.args
            kind = UsageError if status == 2 else FailedRunError
            raise kind(why) from (None if status == 2 else error.__context__)
        except ModuleNotFoundError as error:
            raise UsageError(explain_missing_package(error)) from error
        except SystemExit:  # of --help
            return None
        finally:
            CALL.reset(token)
        if status == 130:
            raise KeyboardInterrupt("stopped; the same call resumes it")
        if status:
            raise FailedRunError(f"alignset {name} ended with status {status}")
        return call.result

    command.__name__ = command.__qualname__ = name
    command.__doc__ = f"`alignset {name}`: {COMMANDS[name][1]}.\n\n{__doc__.partition(chr(10))[2]}"
    return command


evaluate, export, report, search, takedown = map(
    _command, ("evaluate", "export", "report", "search", "takedown")
)


def train(**flags: object) -> TrainedRun | None:
    """Trains an ALIGN model on `shards`, or resumes a call that was interrupted."""
    for name, mark in (("shards", "::"), ("captions", ":")):  # of their weights
        if isinstance(of := flags.get(name), Mapping):
            flags[name] = [f"{place}{mark}{weight}" for place, weight in of.items()]
    run: Path | None = _command("train")(**flags)
    if run is None:
        return None
    metrics: dict[str, Any] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        metrics |= json.loads(line)
    return TrainedRun(run, run / "model", metrics)
