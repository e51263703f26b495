"""The rules of a run, as its workers have them."""

from __future__ import annotations

from dataclasses import dataclass

from alignset.transforms.rules.catalogue import OF_IMAGES, OF_TEXTS
from alignset.transforms.rules.rule import Numbers, Reason


@dataclass(frozen=True)
class RunRules:
    """The reasons by which a run drops pairs, in order, and the thresholds, by flag."""

    numbers: Numbers

    @property
    def texts(self) -> tuple[Reason, ...]:
        return OF_TEXTS

    @property
    def images(self) -> tuple[Reason, ...]:
        return OF_IMAGES
