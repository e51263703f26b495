"""All reasons for which a pair is dropped, in the order in which they are judged.

A pair that fails several gets the first of them. A reason may stand in both planes: one looks at
URL and text, the other at the image. What else is known of the rules is derived here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from alignset.transforms.rules import (
    given,
    language,
    overlap,
    popularity,
    rare_ngrams,
    sizes,
    unsafe,
    words,
)
from alignset.transforms.rules.custom import CustomLimit
from alignset.transforms.rules.rule import (
    IMAGES,
    TEXTS,
    Limit,
    Measure,
    OfCorpus,
    Reason,
    Rule,
    Stage,
)

_TEXTS: tuple[Reason, ...] = (
    *given.OF_ROWS,
    language.MIN_LANGUAGE_SCORE,
    words.MIN_WORDS,
    words.MAX_WORDS,
    popularity.MAX_IMAGES_PER_TEXT,
    popularity.MAX_TEXTS_PER_IMAGE,
    rare_ngrams.VOCABULARY_SIZE,
)
_IMAGES: tuple[Reason, ...] = (
    *given.OF_FILES,
    sizes.MIN_SIDE,
    sizes.MAX_ASPECT,
    unsafe.MAX_UNSAFE_SCORE,
    overlap.MIN_EVALUATION_DISTANCE,
)
# With the rules of users that this process goes by: see `use`.
OF_TEXTS: list[Reason] = []
OF_IMAGES: list[Reason] = []
RULES: list[Rule] = []


def limits(entries: Iterable[Reason], until: Stage | None = None) -> list[Limit]:
    """Those with a threshold on a measure that is known at a stage; last those whose measure is
    recorded of dropped rows alone."""
    found = [entry for entry in entries if isinstance(entry, Limit)]
    found = [limit for limit in found if until is None or limit.stage <= until]
    return sorted(found, key=lambda limit: limit.measure.dropped_only)


def steps(entries: Iterable[Reason]) -> dict[str, tuple[str, ...]]:
    """Each step of the funnel with the reasons it can give, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        found[entry.step] = (*found.get(entry.step, ()), entry.reason)
    return found


def measures(entries: Sequence[Reason]) -> list[Measure]:
    return list({limit.measure.axis: limit.measure for limit in limits(entries)}.values())


def with_custom(plane: str, custom: Sequence[Limit]) -> list[Reason]:
    """The reasons of a plane, the rules of users behind those of their stage."""
    entries = [*(_TEXTS if plane == TEXTS else _IMAGES)]
    entries += [limit for limit in custom if limit.plane == plane]
    if any(isinstance(entry, CustomLimit) or entry in custom for entry in entries):
        failed = given.OF_FAILED_TEXT_RULES if plane == TEXTS else given.OF_FAILED_IMAGE_RULES
        entries.append(failed)
    return sorted(entries, key=lambda entry: entry.stage)


# Rules of the product that compute their own measure, as those of users do.
COMPUTING = tuple(entry for entry in (*_TEXTS, *_IMAGES) if isinstance(entry, CustomLimit))


LIMITS: dict[str, Limit] = {}  # in the order of the report: images first
TEXT_STEPS: dict[str, tuple[str, ...]] = {}
IMAGE_STEPS: dict[str, tuple[str, ...]] = {}
# What was done to a set after its run; in the funnel of such a set alone.
TAKEDOWN_STEPS = steps(given.AFTER_RUN)
STEP_OF_TAKEDOWNS = {entry.reason: entry.step for entry in given.AFTER_RUN}
REASONS: list[str] = []
# With --decontaminate_only: what drops nothing.
OPEN: dict[str, object] = {}
# What a text is dropped for by counts of the whole corpus.
OF_COUNTS = [entry for entry in _TEXTS if isinstance(entry, OfCorpus)]


def use(custom: Sequence[Limit]) -> None:
    """Makes rules of users part of the catalogue of this process, in place of others."""
    OF_TEXTS[:], OF_IMAGES[:] = with_custom(TEXTS, custom), with_custom(IMAGES, custom)
    entries = [*OF_TEXTS, *OF_IMAGES]
    RULES[:] = [entry for entry in entries if isinstance(entry, Rule)]
    reasons = [entry.reason for entry in (*entries, *given.AFTER_RUN)]
    REASONS[:] = dict.fromkeys(reasons)
    opened = {rule.name: rule.opened for rule in RULES if rule.opened is not None}
    tables: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        (LIMITS, {limit.name: limit for limit in (*limits(OF_IMAGES), *limits(OF_TEXTS))}),
        (TEXT_STEPS, steps(OF_TEXTS)),
        (IMAGE_STEPS, steps(OF_IMAGES)),
        (OPEN, {"language": ""} | opened),
    )
    for table, now in tables:
        table.clear()
        table.update(now)


use(())


def plane_of(step: str) -> str:
    """The plane of a step of the funnel."""
    return TEXTS if step in TEXT_STEPS else IMAGES


def list_name(plane: str, reason: str) -> str:
    """What the pairs are called that a plane dropped for a reason: the reason, and the plane where
    both give it."""
    both = all(reason in (e.reason for e in entries) for entries in (OF_TEXTS, OF_IMAGES))
    return f"{reason} ({plane})" if both else reason
