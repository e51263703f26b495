"""All reasons for which a pair is dropped, in the order in which they are judged.

A pair that fails several gets the first of them. A reason may stand in both stages: one looks at
URL and text, the other at the image. Everything else about the rules is derived here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from alignset.transforms.rules import given
from alignset.transforms.rules.columns import OF_HASHES, VERIFIED, column_rules
from alignset.transforms.rules.custom import RuleFile, limits_in
from alignset.transforms.rules.personal_data import MAX_PERSONAL_DATA
from alignset.transforms.rules.rule import (
    Given,
    Limit,
    Measure,
    Numbers,
    OfCorpus,
    Reason,
    Rule,
    Stage,
)
from alignset.transforms.rules.thresholds import (
    MAX_ASPECT,
    MAX_IMAGES_PER_TEXT,
    MAX_PAIRS_PER_CONCEPT,
    MAX_TEXTS_PER_IMAGE,
    MAX_UNSAFE_SCORE,
    MAX_WORDS,
    MIN_EVALUATION_DISTANCE,
    MIN_LANGUAGE_SCORE,
    MIN_SIDE,
    MIN_WORDS,
    TEXTS_OF_CONTENT,
    VOCABULARY_SIZE,
)

_TEXTS: tuple[Reason, ...] = (
    *given.OF_ROWS,
    MIN_LANGUAGE_SCORE,
    MIN_WORDS,
    MAX_WORDS,
    MAX_IMAGES_PER_TEXT,
    MAX_TEXTS_PER_IMAGE,
    VOCABULARY_SIZE,
)
_IMAGES: tuple[Reason, ...] = (
    *given.OF_FILES,
    MIN_SIDE,
    MAX_ASPECT,
    MAX_UNSAFE_SCORE,
    MIN_EVALUATION_DISTANCE,
    TEXTS_OF_CONTENT,
    *given.OF_DATASET,
)
# The flag of `given.LESS_SIMILAR`, and the column that it goes by.
KEEP_MOST_SIMILAR, SIMILARITY = "keep_most_similar", "similarity"
# What a text is dropped for by counts of the whole corpus.
OF_COUNTS = [entry for entry in _TEXTS if isinstance(entry, OfCorpus)]


def limits(entries: Iterable[Reason], until: Stage | None = None) -> list[Limit]:
    """The rules with a threshold on a measure that is known at a stage. Rules whose measure is
    recorded of dropped rows alone are last."""
    all_limits = [entry for entry in entries if isinstance(entry, Limit)]
    all_limits = [limit for limit in all_limits if until is None or limit.stage <= until]
    return sorted(all_limits, key=lambda limit: limit.measure.dropped_only)


def steps(entries: Iterable[Reason]) -> dict[str, tuple[str, ...]]:
    """Each step of the funnel with the reasons it can give, in order."""
    reasons: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        reasons[entry.step] = (*reasons.get(entry.step, ()), entry.reason)
    return reasons


def step_of(entries: Iterable[Reason]) -> dict[str, str]:
    """The step of each reason."""
    return {entry.reason: entry.step for entry in entries}


# What was done to a dataset after its run; in the funnel of such a dataset alone.
TAKEDOWN_STEPS = steps(given.AFTER_RUN)
STEP_OF_TAKEDOWNS = step_of(given.AFTER_RUN)
STEPS_OF_COPIES = step_of((TEXTS_OF_CONTENT, *given.OF_DATASET, given.LESS_SIMILAR))


@dataclass(frozen=True)
class Catalogue:
    """The reasons of a run or of a dataset.

    Attributes:
      custom: the rules of users among them, and MAX_PERSONAL_DATA where it is on. Each is judged
        behind the rules of its stage.
      texts, images: the reasons of each stage, in order.
      is_sized: whether an earlier version reduced languages to a size. is_balanced: whether
        concepts are reduced.
      is_ranked: whether a share of the most similar pairs is kept.
      columns: the rules on columns of the input.
      limits: by flag, in the order of the report: images first.
      opened: the thresholds that drop nothing, by flag, as with --decontaminate_only.
    """

    custom: tuple[Limit, ...] = ()
    is_sized: bool = False
    is_balanced: bool = False
    is_ranked: bool = False
    columns: tuple[Reason, ...] = ()

    @cached_property
    def texts(self) -> tuple[Reason, ...]:
        own = (*_TEXTS, given.BEYOND_LANGUAGE_SIZE) if self.is_sized else _TEXTS
        own = (*own, MAX_PAIRS_PER_CONCEPT) if self.is_balanced else own
        return self._reasons_of(own, given.OF_FAILED_TEXT_RULES)

    @cached_property
    def images(self) -> tuple[Reason, ...]:
        own: list[Reason] = [*_IMAGES, *([given.LESS_SIMILAR] if self.is_ranked else [])]
        if OF_HASHES in self.columns:  # whatever such a file holds
            reasons = [entry.reason for entry in own]
            own.insert(reasons.index(given.NOT_AN_IMAGE), OF_HASHES)
        return self._reasons_of(own, given.OF_FAILED_IMAGE_RULES)

    def _reasons_of(self, own: Sequence[Reason], failure: Given) -> tuple[Reason, ...]:
        further = (e for e in (*self.columns, *self.custom) if e != OF_HASHES)
        entries = [*own, *(entry for entry in further if entry.judges == failure.judges)]
        if any(limit.judges == failure.judges for limit in (*self.computing, *self.custom)):
            entries.append(failure)
        return tuple(sorted(entries, key=lambda entry: entry.stage))

    @cached_property
    def computing(self) -> tuple[Limit, ...]:
        """The rules that compute their own measure: rules of users, and perhaps the product's."""
        entries = limits((*_TEXTS, *_IMAGES, *self.custom))
        return tuple(limit for limit in entries if limit.measure.compute)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(e for e in (*self.texts, *self.images) if isinstance(e, Rule))

    @cached_property
    def limits(self) -> Mapping[str, Limit]:
        return {limit.name: limit for limit in (*limits(self.images), *limits(self.texts))}

    @cached_property
    def measures(self) -> Mapping[str, Measure]:
        """Measures by axis, images' first."""
        return {limit.measure.axis: limit.measure for limit in self.limits.values()}

    @cached_property
    def opened(self) -> Mapping[str, object]:
        opened = {rule.name: rule.opened for rule in self.rules if rule.opened is not None}
        return {"language": ""} | opened

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        entries = (*self.texts, *self.images, *given.AFTER_RUN)
        return tuple(dict.fromkeys(entry.reason for entry in entries))

    @cached_property
    def text_steps(self) -> Mapping[str, tuple[str, ...]]:
        return steps(self.texts)

    @cached_property
    def image_steps(self) -> Mapping[str, tuple[str, ...]]:
        return steps(self.images)

    def list_name(self, stage: str, reason: str) -> str:
        """The name of the pairs that a stage dropped for a reason: the reason, and the stage where
        both give it."""
        both = all(reason in (e.reason for e in of) for of in (self.texts, self.images))
        return f"{reason} ({stage})" if both else reason


PRODUCT = Catalogue()  # without rules of users
Settings = tuple[tuple[str, float | str], ...]


def make_catalogue(custom: tuple[Limit, ...], numbers: Numbers) -> Catalogue:
    """The catalogue with some rules of users, and what flags of a run add."""
    if not MAX_PERSONAL_DATA.is_off(numbers.get(MAX_PERSONAL_DATA.name, MAX_PERSONAL_DATA.default)):
        custom = (*custom, MAX_PERSONAL_DATA)
    return Catalogue(
        custom,
        is_sized=bool(numbers.get("like")),
        is_balanced=bool(numbers.get(MAX_PAIRS_PER_CONCEPT.name)),
        is_ranked=numbers.get(KEEP_MOST_SIMILAR, 1) != 1,
        columns=column_rules(numbers),
    )


def catalogue_of(files: tuple[RuleFile, ...], numbers: Numbers) -> Catalogue:
    """The same with the rules of users in some files.

    Raises:
      RuleFileError: a file cannot be imported, or a rule in it cannot be used.
    """
    flags = {MAX_PAIRS_PER_CONCEPT.name, MAX_PERSONAL_DATA.name, KEEP_MOST_SIMILAR}
    own = tuple((name, of) for name, of in numbers.items() if name in flags)
    return _cached_catalogue(files, own + column_numbers(numbers))


@lru_cache(maxsize=64)
def _cached_catalogue(files: tuple[RuleFile, ...], settings: Settings) -> Catalogue:
    return make_catalogue(limits_in(files), dict(settings)) if files or settings else PRODUCT


def column_numbers(numbers: Numbers) -> Settings:
    """The numbers that are of rules on columns of the input."""
    return tuple((name, of) for name, of in numbers.items() if "=" in name or name == VERIFIED)
