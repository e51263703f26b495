"""How a command ends: for a shell with lines and a status, for a call of Python with an object or
an error. A call's flags are objects, for which the command's parser gets words."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from numbers import Real
from typing import Any, TextIO


@dataclass
class Call:
    """A command that Python calls: flags, until its parser takes them, and what it gives."""

    flags: Mapping[str, object]
    result: Any = None


CALL: ContextVar[Call | None] = ContextVar("CALL", default=None)


class EndedError(Exception):
    """A called command that ends early: why, and the status that a shell would get."""


def give(result: object, *lines: str, file: TextIO | None = None) -> None:
    """Prints lines, or in a call hands over the object that they stand for."""
    if call := CALL.get():
        call.result = result
    else:
        print("".join(f"{line}\n" for line in lines), end="", file=file)


def end(name: str, why: object, status: int) -> int:
    """Prints why a command ends, behind a name; returns its status, or in a call raises both."""
    if CALL.get():
        raise EndedError(str(why), status)
    print(f"{name}: {why}", file=sys.stderr)
    return status


class CalledParser(argparse.ArgumentParser):
    """A parser that also takes the flags of a call."""

    _words: Sequence[str] | None = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = self.add_call(args)
        return super().parse_known_args(self._words, namespace)

    def misspelt(self) -> str:
        """Names the first unknown flag that nearly is one of the parser."""
        words = self._words or ()
        known = self.known_flags(words)
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            near = difflib.get_close_matches(flag, known, 1, 0.75)
            if near and near[0] != flag:
                return f"unknown flag {flag}: did you mean {near[0]}?"
        return ""

    def known_flags(self, words: Collection[str]) -> list[str]:
        """The flags of the parser, and of the command below it that is among the words."""
        known = [*self._option_string_actions]
        for choices in (action.choices for action in self._actions):
            for name, below in choices.items() if isinstance(choices, Mapping) else ():
                if isinstance(below, CalledParser) and name in words:
                    known += below.known_flags(words)
        return known

    def add_call(self, args: Any) -> Any:
        """The words of a parser, and behind them the flags of the call, once."""
        call = CALL.get()
        if call is None or self._subparsers is not None:  # one of which takes them
            return args
        flags, call.flags = call.flags, {}
        words = [*(args or ())]
        for name, value in flags.items():
            action = self._option_string_actions.get(f"--{name}")
            has_value = action is not None and action.nargs != 0
            is_repeated = isinstance(action, self._registry_get("action", "append"))
            words += flag_words(name, value, has_value=has_value, is_repeated=is_repeated)
        return words


def text_of(name: str, value: object) -> str:
    """A flag's value as a word has it. Raises EndedError where it cannot be one."""
    if isinstance(value, str | Real):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    raise EndedError(f"{name}: expected a text, a path or a number; got {value!r}", 2)


def flag_words(
    name: str,
    value: object,
    *,
    has_value: bool,
    is_repeated: bool,
    text: Callable[[str, Any], str] = text_of,
) -> list[str]:
    """The words of one flag; none where it is as good as not given.

    Args:
      has_value: whether it is `--name=true`, and not `--name` alone. is_repeated: whether each item
        is a flag; a dict then has their weights. text: of an item.
    """
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}={str(value).lower()}"] if has_value else [f"--{name}"] * value
    if isinstance(value, Mapping):
        if is_repeated:
            weights = [(f"--{name}", key, text(name, of)) for key, of in value.items()]
            return [word for words in weights for word in words]
        items = [
            f"{key}={'|'.join(text(name, of) for of in item)}"
            if isinstance(item, list | tuple)
            else f"{key}={text(name, item)}"
            for key, item in value.items()
        ]
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        items = [text(name, item) for item in value]
    else:
        return [f"--{name}={text(name, value)}"]
    if is_repeated:
        return [f"--{name}={item}" for item in items]
    if with_comma := [item for item in items if "," in item]:
        raise EndedError(f"{name}: {with_comma[0]!r} has a comma, which separates items", 2)
    return [f"--{name}={','.join(items)}"]
