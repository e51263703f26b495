"""Help in two lengths: `--help` shows the flags that are wanted first, on one screen of a terminal,
and `--help=all` shows every flag. And parsers of the flags' values."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
