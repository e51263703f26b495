"""What a reader of the report asks first, answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.plain_text import printable
from alignset.pipeline.datasets.shortfalls import flags
from alignset.pipeline.report.sliders import is_left_out
from alignset.pipeline.report.tables import Row, percent
from alignset.pipeline.shown_texts import counted
from alignset.transforms.rules.rule import IMAGES, TEXTS, Limit


class Answer(NamedTuple):
    """What a reader asks first, with its answer; `key`: the list of examples of it, or ""."""

    title: str
    said: str
    key: str = ""


def answers(
    facts: Facts, failing: Sequence[Row], listed: Mapping[str, Sequence[object]]
) -> list[Answer]:
    """What a reader asks first, each with its answer.

    Args:
      listed: the lists of examples by name.
    """
    told = []
    dropped = facts.dropped
    if dropped:
        reason, count = next(iter(dropped.items()))
        flag = flags(facts.catalogue).get(reason, "").partition(",")[0]
        by = f" The rule's flag is {flag}." if flag else ""
        share = percent(count, facts.seen)
        said = f"{printable(reason)} dropped {counted(count, 'pair')}, {share} of all."
        told.append(Answer("What cost most", f"{said}{by}", _examples_of(facts, reason, listed)))
    for limit in facts.catalogue.limits.values():
        if limit.looser and (said := _with_looser(facts, limit, limit.looser[1])):
            told.append(Answer(limit.looser[0], said))
    if failing:
        worst = failing[0]
        rate = f", {worst.share}" if worst.share else ""
        told.append(
            Answer(
                "Where fetching failed most",
                f"{worst.name}: {worst.count:,} failed{rate}. {worst.more}.",
            )
        )
    return told


def _examples_of(facts: Facts, reason: str, listed: Mapping[str, Sequence[object]]) -> str:
    """The longest of the lists of a reason, which both planes may have."""
    list_name = facts.catalogue.list_name
    names = [printable(list_name(plane, reason)) for plane in (TEXTS, IMAGES)]
    having = [name for name in names if listed.get(name)]
    return max(having, key=lambda name: len(listed[name]), default="")


def _with_looser(facts: Facts, limit: Limit, part: float) -> str:
    """What a threshold of a part of the run's own, or less, would bring."""
    records, own = facts.records.of(limit.plane), facts.rules.get(limit.name)
    axis = records.axis(limit.measure.axis)
    if axis is None or own not in axis.edges or is_left_out(facts, limit.name):
        return ""
    lower = [edge for edge in axis.edges if edge <= part * own]
    if not lower:
        return ""
    bins = {int(place): n for place, n in records.whole.alone.get(limit.name, {}).items()}
    places, counts = np.array([*bins], np.int64), np.array([*bins.values()], np.int64)
    now, then = (
        int(counts[axis.passes(places, edge, beyond=limit.beyond)].sum())
        for edge in (own, lower[-1])
    )
    return (
        f"--{limit.name}={lower[-1]:g} would bring up to {counted(then - now, 'pair')} more "
        f"({percent(then - now, now)}), --{limit.name}={own:g} keeps {now:,}."
    )
