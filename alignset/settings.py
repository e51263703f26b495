"""The declaration of a setting: its flag, help, check and all else that is known of it stand in its
field, and whoever needs one of these reads it there.

    @dataclass(frozen=True)
    class PageSettings(Checked):
        depth: int = setting(3, "links to follow", allowed=between(0, 9), needs="pages")
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
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
    """
    if not words:
        words = f">= {least}" if most == math.inf else f"from {least} to {most}"
    return Allowed(words, lambda value: least <= value <= most and math.isfinite(value))


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
    brief: str = "",
    allowed: Allowed | None = None,
    step: str = "",
    needs: str | None = None,
    decides: bool = True,
    **more: Any,
) -> Any:
    """Declares a field of settings.

    Args:
      help: of its flag. brief: in the short help; "" where that leaves it out.
      allowed: the values that it can have.
      step: the parts of the pipeline that it belongs to, by blanks.
      needs: the names of conditions without which it has no effect, by blanks; None: its step's.
      decides: whether it decides what comes out, and not only how, or how fast.
      more: what a command knows of its own settings.
    """
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
