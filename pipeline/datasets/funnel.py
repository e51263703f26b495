"""The funnel: what each step saw, kept and dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from alignset.pipeline.runs.documents import Step
from alignset.transforms.rules.catalogue import PRODUCT, TAKEDOWN_STEPS, Catalogue
from alignset.transforms.rules.given import TAKEN_DOWN

Name = TypeVar("Name")
Drops = Mapping[str, int]  # how many pairs were dropped for each reason


def funnel(
    seen: int,
    texts: Drops,
    images: Drops | None = None,
    taken_down: int | None = None,
    catalogue: Catalogue = PRODUCT,
) -> list[Step]:
    """The steps in order, each with how many pairs it saw, kept, and dropped for each reason.

    Args:
      seen: how many pairs came. texts, images: the drops of each stage; no images where the dataset
        has none.
      taken_down: how many pairs were taken out after the run; None where nothing was.
    """
    parts = [(catalogue.text_steps, texts)]
    if images is not None:
        parts.append((catalogue.image_steps, images))
    if taken_down is not None:
        parts.append((TAKEDOWN_STEPS, {TAKEN_DOWN: taken_down}))
    table = []
    for steps, drops in parts:
        for name, reasons in steps.items():
            dropped = {reason: drops.get(reason, 0) for reason in reasons}
            table.append(Step(name, seen, seen - sum(dropped.values()), dropped))
            seen = table[-1].kept
    return table


def drops_of(table: list[Step], steps: Mapping[str, object]) -> dict[str, int]:
    """The drops of some steps of a funnel."""
    return {reason: n for of in table if of.step in steps for reason, n in of.dropped.items()}


def most_first(counts: Mapping[Name, int]) -> dict[Name, int]:
    """Counts by name, the highest first; equal ones by their names, no name like an empty one."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0] or "")))
