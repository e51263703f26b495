"""The fields of settings: what each is for, what it may be, whether it may differ on resuming."""

import math
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any

from alignset.train.errors import SettingsError

Range = tuple[float, float, str]  # the least value, the first that is too large, both in words

COUNT: Range = (1, math.inf, "at least 1")
NOT_NEGATIVE: Range = (0, math.inf, "at least 0 and finite")
POSITIVE: Range = (math.ulp(0.0), math.inf, "larger than 0 and finite")
FRACTION: Range = (0, 1, "at least 0 and below 1")
SHARE: Range = (math.ulp(0.0), 1 + math.ulp(1.0), "larger than 0 and at most 1")
MOMENTUM: Range = (math.ulp(0.0), 1.0, "larger than 0 and below 1")


def setting(default: Any, meaning: str, *, free: bool = False, told: bool = False) -> Any:
    """A field of settings.

    Args:
      meaning: what its flag's help says.
      free: whether it may differ when a run is resumed: it does not change what is learned.
      told: whether it may differ then although it does, which a line says.
    """
    return field(default=default, metadata={"help": meaning, "free": free, "told": told})


def check_fields(
    settings: object, ranges: Mapping[str, Range], names: Mapping[str, Collection[str]]
) -> None:
    """Checks fields of settings.

    Args:
      ranges: of numbers, by field. names: those that a field may have.

    Raises:
      SettingsError: naming the field, what is allowed, and the value.
    """
    for name, (least, end, allowed) in ranges.items():
        value = getattr(settings, name)
        if not least <= value < end:  # also refuses nan
            raise SettingsError(f"{name} must be {allowed}; got {value}")
    for name, choices in names.items():
        if getattr(settings, name) not in choices:
            *others, last = choices
            raise SettingsError(
                f"{name} must be {', '.join(others)} or {last}; got {getattr(settings, name)!r}"
            )
