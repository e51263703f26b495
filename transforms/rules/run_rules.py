"""The rules of a run, as its workers have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from alignset.transforms.rules.catalogue import COMPUTING, limits, with_custom
from alignset.transforms.rules.custom import CustomLimit, RuleFile, limits_in
from alignset.transforms.rules.rule import IMAGES, TEXTS, Numbers, Reason


@dataclass(frozen=True)
class RunRules:
    """The reasons by which a run drops pairs, in order.

    Attributes:
      numbers: the thresholds, by flag. files: with the rules of users.
    """

    numbers: Numbers
    files: tuple[RuleFile, ...] = ()

    @property
    def texts(self) -> Sequence[Reason]:
        return _entries(TEXTS, self.files)

    @property
    def images(self) -> Sequence[Reason]:
        return _entries(IMAGES, self.files)

    @property
    def custom(self) -> tuple[CustomLimit, ...]:
        """Those that compute their own measure: of users, and of the product."""
        return (*COMPUTING, *limits_in(self.files))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that hold what rules of users measured."""
        return tuple(dict.fromkeys(limit.column for limit in self.custom))

    @property
    def judged(self) -> set[str | None]:
        """The reasons by which an image was looked at and judged; None is of what was kept."""
        return {None, *(limit.reason for limit in limits(self.images))}


def step_of(entries: Sequence[Reason]) -> Mapping[str, str]:
    """The step of each reason."""
    return {entry.reason: entry.step for entry in entries}


@lru_cache(maxsize=64)
def _entries(plane: str, files: tuple[RuleFile, ...]) -> Sequence[Reason]:
    return with_custom(plane, limits_in(files))
