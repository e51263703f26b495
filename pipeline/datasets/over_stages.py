"""The funnel of a set over all sets that it was made of, and whether one was made of another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from msgspec import UnsetType

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.runs.documents import Funnel, Manifest, Stage, Step
from alignset.transforms.storage.documents import DocumentError, read_document

_MOST_STAGES = 100  # that are looked at: a funnel may be anybody's
_PLACE = re.compile(r"history/\d+(/history/\d+)*")


def was_made_of(facts: Facts, earlier: Facts) -> bool:
    """Whether the history of a set has the manifest of another, as that is now."""
    if facts.funnel is None or not isinstance(earlier.run, Manifest):
        return False
    for stage in all_stages(facts.funnel)[:_MOST_STAGES]:
        if _PLACE.fullmatch(stage.folder):
            with suppress(DocumentError, OSError):
                path = f"{facts.out}/{stage.folder}/manifest.json"
                if read_document(path, Manifest) == earlier.run:
                    return True
    return False


def steps_over_stages(facts: Facts) -> list[Step]:
    """The funnel from the first set on, where each set was made of all that one other kept and of
    nothing else; the set's own funnel otherwise, as where rejected pairs were read again."""
    chain = [] if facts.funnel is None else _chain(facts.funnel)
    return _summed([*chain, facts.steps]) if chain else facts.steps


def has_other_input(facts: Facts) -> bool:
    """Whether a set was made of sets, and its funnel over all of them cannot be told."""
    return facts.funnel is not None and bool(all_stages(facts.funnel)) and not _chain(facts.funnel)


def _chain(funnel: Funnel) -> list[Sequence[Step]]:
    """The funnels of the earlier sets, the first of them first; empty where these are no chain."""
    history = [] if isinstance(funnel.history, UnsetType) else funnel.history
    steps: Sequence[Step] = funnel.steps
    chain: list[Sequence[Step]] = []
    while history:
        if len(history) > 1 or not _follows(steps, history[0]):
            return []
        steps, history = history[0].steps, history[0].history
        chain.append(steps)
    return chain[::-1]


def _follows(steps: Sequence[Step], stage: Stage) -> bool:
    return bool(steps) and bool(stage.steps) and steps[0].seen == stage.pairs


def _summed(chain: Sequence[Sequence[Step]]) -> list[Step]:
    """One funnel of several, each of which sees what the one before has kept."""
    dropped: dict[str, Counter[str]] = {}
    for steps in (chain[-1], *chain[:-1]):  # in the order of the last one's steps
        for step in steps:
            dropped.setdefault(step.step, Counter()).update(step.dropped)
    seen, summed = chain[0][0].seen, []
    for name, reasons in dropped.items():
        kept = seen - reasons.total()
        summed.append(Step(name, seen, kept, dict(reasons)))
        seen = kept
    return summed
