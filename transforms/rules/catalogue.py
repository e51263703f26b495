"""All reasons for which a pair is dropped, in the order in which they are judged.

A pair that fails several gets the first of them. A reason may stand in both planes: one looks at
URL and text, the other at the image. What else is known of the rules is derived here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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

OF_TEXTS: tuple[Reason, ...] = (
    *given.OF_ROWS,
    language.MIN_LANGUAGE_SCORE,
    words.MIN_WORDS,
    words.MAX_WORDS,
    popularity.MAX_IMAGES_PER_TEXT,
    popularity.MAX_TEXTS_PER_IMAGE,
    rare_ngrams.VOCABULARY_SIZE,
)
OF_IMAGES: tuple[Reason, ...] = (
    *given.OF_FILES,
    sizes.MIN_SIDE,
    sizes.MAX_ASPECT,
    unsafe.MAX_UNSAFE_SCORE,
    overlap.MIN_EVALUATION_DISTANCE,
)
RULES = [entry for entry in (*OF_TEXTS, *OF_IMAGES) if isinstance(entry, Rule)]


def limits(entries: Iterable[Reason], until: Stage | None = None) -> list[Limit]:
    """Those with a threshold on a measure that is known at a stage; last those whose measure is
    recorded of dropped rows alone."""
    found = [entry for entry in entries if isinstance(entry, Limit)]
    found = [limit for limit in found if until is None or limit.stage <= until]
    return sorted(found, key=lambda limit: limit.measure.dropped_only)


# What a text is dropped for by counts of the whole corpus.
OF_COUNTS = [entry for entry in OF_TEXTS if isinstance(entry, OfCorpus)]
# In the order of the report: images first.
LIMITS = {limit.name: limit for limit in (*limits(OF_IMAGES), *limits(OF_TEXTS))}


def steps(entries: Iterable[Reason]) -> dict[str, tuple[str, ...]]:
    """Each step of the funnel with the reasons it can give, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        found[entry.step] = (*found.get(entry.step, ()), entry.reason)
    return found


def measures(entries: Sequence[Reason]) -> list[Measure]:
    return list({limit.measure.axis: limit.measure for limit in limits(entries)}.values())


TEXT_STEPS, IMAGE_STEPS = steps(OF_TEXTS), steps(OF_IMAGES)
STEPS = TEXT_STEPS | IMAGE_STEPS
# What was done to a set after its run; in the funnel of such a set alone.
TAKEDOWN_STEPS = steps(given.AFTER_RUN)
STEP_OF_TAKEDOWNS = {entry.reason: entry.step for entry in given.AFTER_RUN}
STEP_OF_TEXTS = {entry.reason: entry.step for entry in OF_TEXTS}
STEP_OF_IMAGES = {entry.reason: entry.step for entry in OF_IMAGES}
REASONS = tuple(dict.fromkeys([*STEP_OF_TEXTS, *STEP_OF_IMAGES, *STEP_OF_TAKEDOWNS]))
# The reasons by which an image was looked at and judged; None is of what was kept.
JUDGED = (None, *(limit.reason for limit in limits(OF_IMAGES)))
# With --decontaminate_only: what drops nothing.
OPEN = {"language": ""} | {rule.name: rule.opened for rule in RULES if rule.opened is not None}
_BOTH_PLANES = STEP_OF_TEXTS.keys() & STEP_OF_IMAGES.keys()


def plane_of(step: str) -> str:
    """The plane of a step of the funnel."""
    return TEXTS if step in TEXT_STEPS else IMAGES


def list_name(plane: str, reason: str) -> str:
    """What the pairs are called that a plane dropped for a reason: the reason, and the plane where
    both give it."""
    return f"{reason} ({plane})" if reason in _BOTH_PLANES else reason
