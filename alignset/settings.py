"""The declaration of a setting: its flag, help, check and all else that is known of it stand in its
field, and whoever needs one of these reads it there. And the parsers and the help of such flags:
`--help` shows the flags that are wanted first, on one screen of a terminal, and `--help=all` all.

    @dataclass(frozen=True)
    class PageSettings(Checked):
        depth: int = setting(3, "links to follow", allowed=between(0, 9), needs="pages")
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple


class Allowed(NamedTuple):
    """Values that a setting can have: in words, behind "must be", and as a condition."""

    words: str
    holds: Callable[[Any], bool]


def between(least: float, most: float = math.inf, words: str = "") -> Allowed:
    """Allows finite numbers from `least` to `most`.

    >>> between(1).words, between(0, 9).holds(9), between(0).holds(math.nan)
    ('>= 1', True, False)
    >>> between(0).holds(10**400), between(0).holds(math.inf)
    (True, False)
    """
    if not words:
        words = f">= {least}" if most == math.inf else f"from {least} to {most}"
    return Allowed(words, lambda value: least <= value <= most and value < math.inf)


def above(least: float, words: str = "") -> Allowed:
    """Allows finite numbers above `least`."""
    return between(math.nextafter(least, math.inf), words=words or f"> {least}")


def one_of(names: Collection[str], words: str = "") -> Allowed:
    """Allows some texts."""
    return Allowed(words or f"one of {', '.join(names)}", lambda value: value in names)


def matching(pattern: str, words: str) -> Allowed:
    """Allows texts that a regular expression matches whole."""
    return Allowed(words, lambda value: re.fullmatch(pattern, value) is not None)


def setting(
    default: Any,
    help: str,
    *,
    brief: str | bool = "",
    allowed: Allowed | None = None,
    step: str = "",
    needs: str | None = None,
    decides: bool = True,
    **more: Any,
) -> Any:
    """Declares a field of settings.

    Args:
      help: of its flag. brief: in the short help, "" where that leaves it out; True:
        the help up to its first semicolon.
      allowed: the values that it can have.
      step: the parts of the pipeline that it belongs to, by blanks.
      needs: the names of conditions without which it has no effect, by blanks; None: its step's.
      decides: whether it decides what comes out, and not only how, or how fast.
      more: what a command knows of its own settings.
    """
    brief = help.partition(";")[0] if brief is True else brief
    known = {"help": help, "brief": brief, "allowed": allowed, "decides": decides}
    parts = {"step": step.split(), "needs": (step if needs is None else needs).split()}
    return field(default=default, metadata={**known, **parts, **more})


@dataclass(frozen=True)
class Checked:
    """Settings that are checked when they are made: each field against what it allows, and then
    what the class and its bases check of several fields, in `check`.

    Attributes:
      refusal: the error that names the first wrong field, what is allowed and the value.
    """

    refusal: ClassVar[type[Exception]] = ValueError

    def __post_init__(self) -> None:
        for of in fields(self):
            value, allowed = getattr(self, of.name), of.metadata.get("allowed")
            if allowed and not allowed.holds(value):
                raise self.refusal(f"{of.name} must be {allowed.words}; got {value!r}")
        for kind in type(self).__mro__:
            if "check" in vars(kind):
                vars(kind)["check"](self)

    def check(self) -> None:
        """Raises `refusal` where fields do not go together."""


def declared_fields(kind: type) -> list[Field[Any]]:
    """The fields of a class of settings that have a flag."""
    return [of for of in fields(kind) if "help" in of.metadata]


# ---- Flags and their help --------------------------------------------------------------------

First = Mapping[str, Mapping[str, str]]


def add_help(parser: argparse.ArgumentParser, first: First, defaults: Mapping[str, object]) -> None:
    """Adds `--help` to a parser that was made with `add_help=False`.

    Args:
      first: what the short help says: by title, of each flag that is wanted first.
      defaults: the values of flags that are not given; empty and false ones are not shown.
    """
    parser.add_argument(
        "-h",
        "--help",
        nargs="?",
        metavar="all",
        action=_Help,
        default=argparse.SUPPRESS,
        help="shows the flags that are wanted first; --help=all shows every flag",
        first=first,
        defaults=defaults,
    )


class _Help(argparse.Action):
    def __init__(self, *, first: First, defaults: Mapping[str, object], **options: Any) -> None:
        super().__init__(**options)
        self._first, self._defaults = first, defaults

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if values == "all":
            parser.print_help(sys.stdout)
            parser.exit()
        lines = [parser.format_usage().strip(), "", (parser.description or "").strip(), ""]
        for title, flags in self._first.items():
            lines.append(f"{title}:")
            for flag, meaning in flags.items():
                default = self._defaults.get(flag)
                default_text = "" if default in (None, "", False) else f" ({default})"
                lines.append(f"  --{flag:<17} {meaning}{default_text}")
        lines += ["", "--help=all shows all flags.", parser.epilog or ""]
        print("\n".join(lines).rstrip())
        parser.exit()


def boolean(text: str) -> bool:
    """Parses true or false."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false; got {text!r}")
    return text.lower() == "true"


def whole_number(text: str) -> int:
    """Parses digits. `int` takes 1_000 and digits of other alphabets too."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, such as 3; got {text!r}")
    return int(text)


def number(text: str) -> float:
    """Parses a finite number."""
    decimal = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text)
    if not decimal or not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError(f"must be a number, such as 0.28; got {text!r}")
    return float(text)


PARSERS: dict[type, Callable[[str], Any]] = {bool: boolean, int: whole_number, float: number}


class _Joined(argparse.Action):
    """All values of a flag that was given several times."""

    def __call__(
        self, parser: object, flags: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        before = getattr(flags, self.dest, "")
        setattr(flags, self.dest, f"{before},{value}" if before else value)


def add_flag(
    group: argparse._ActionsContainer,
    name: str,
    kind: Any,
    about: Mapping[str, Any],
    parsers: Mapping[type, Callable[[str], Any]] = PARSERS,
    **options: Any,
) -> None:
    """Adds the flag of a setting.

    Args:
      kind: its type. about: its metadata, which may have `parse`, where the type does not parse a
        value; `alone`, the value of the flag alone, which is true of a bool; `several`, whether
        values of several such flags are joined, or "append": a list; and a `metavar`.
      parsers: by type. options: of argparse.
    """
    alone = True if kind is bool else about.get("alone")
    several: Any = about.get("several")
    options = {"metavar": about.get("metavar", "BOOL" if alone else None), **options}
    if alone:
        options |= {"nargs": "?", "const": alone}
    group.add_argument(
        f"--{name}",
        type=about.get("parse") or parsers.get(kind, kind),
        action=_Joined if several is True else several or "store",
        **options,
    )
