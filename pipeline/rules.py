"""The flags of the rules, out of their catalogue, and those that only language and blocklists have.

Source: ALIGN (Jia et al., 2021), section 3 and appendix A.
"""

# No `from __future__ import annotations` here: options.py reads the fields' types.
import re
from argparse import ArgumentTypeError
from dataclasses import field, make_dataclass, replace
from functools import cache, cached_property
from itertools import permutations, starmap
from typing import TYPE_CHECKING, Any, ClassVar

from alignset.command_help import number
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.rules.catalogue import (
    KEEP_MOST_SIMILAR,
    LIKE,
    PRODUCT,
    Catalogue,
    RunRules,
    catalogue_of,
    of_columns,
)
from alignset.transforms.rules.columns import HASHES, MAX, MIN, REQUIRED, VERIFIED
from alignset.transforms.rules.concepts import MAX_PAIRS_PER_CONCEPT
from alignset.transforms.rules.custom import RuleFile
from alignset.transforms.rules.language_codes import (
    ALL,
    FOUND_BY,
    NUMBERED,
    UNDETERMINED,
    LanguageRule,
    wanted_languages,
    word_limits,
)
from alignset.transforms.rules.rule import IMAGES, Rule

INPUT = "input_"  # before the name of an input column where its own is one of ours
MOST_COLUMN_RULES = 32
REPORTED = {"opt_outs": "report"}  # with --decontaminate_only, beside `Catalogue.opened`


class _Checked:
    """Which pairs are kept. `min_x` and `max_x` name the kept range."""

    files: ClassVar[tuple[RuleFile, ...]] = ()  # with the rules of users
    of_files: ClassVar[Catalogue] = PRODUCT  # without rules on input columns

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init__(self, **values: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    def __post_init__(self) -> None:
        languages = wanted_languages(self.language)  # which raises where one is not known
        if len(wanted_languages(self.like)) > 1 or not {self.like} <= {"", *languages}:
            raise ValueError(f"like must be one of the languages of --language; got {self.like!r}")
        if self.language_detector not in ("", *FOUND_BY):
            raise ValueError(
                f"language_detector must be {' or '.join(FOUND_BY)}, or empty; got "
                f"{self.language_detector!r}"
            )
        found = FOUND_BY.get(self.language_detector, NUMBERED)
        if self.language != ALL and (other := {*languages} - {*found, UNDETERMINED}):
            raise ValueError(
                f"{self.language_detector} finds no {', '.join(sorted(other))}: leave "
                "--language_detector out, which takes the vote"
            )
        word_limits(self.words_per_language)
        if not 0 < self.keep_most_similar <= 1:
            raise ValueError(
                "keep_most_similar must be above 0, and 1 at most, which keeps all; got "
                f"{self.keep_most_similar}"
            )
        if self.concepts and not self.max_pairs_per_concept:
            raise ValueError("concepts needs --max_pairs_per_concept, how many pairs each may have")
        for rule in self.catalogue.rules:
            rule.check(self.numbers[rule.name])
        self._check_own_names()
        self._check_blocked_distances()
        for low, high in permutations(self.catalogue.limits.values(), 2):
            if low.measure is high.measure and low.beyond and not high.beyond:
                self._check_order(low.name, high.name, "image" if low.plane == IMAGES else "text")

    def _check_order(self, low: str, high: str, thing: str) -> None:
        least, most = self.numbers[low], self.numbers[high]
        if least > most:
            raise ValueError(
                f"{low} must be <= {high}, or no {thing} passes; got {least} and {most}"
            )

    def _check_own_names(self) -> None:
        """Checks names of users' rules against rules on input columns, which flags make."""
        reasons = {rule.reason: rule for rule in self.catalogue.columns if isinstance(rule, Rule)}
        for limit in self.catalogue.custom:
            if rule := reasons.get(limit.reason):
                raise ValueError(
                    f"the rule {limit.name}: the reason {limit.reason!r} is that of --{rule.name}; "
                    "choose another"
                )

    def _check_blocked_distances(self) -> None:
        for name, bits in (("min_blocked_phash_distance", 64), ("min_blocked_pdq_distance", 256)):
            if not 0 <= getattr(self, name) <= bits:
                raise ValueError(f"{name} must be from 0 to {bits}; got {getattr(self, name)}")

    @property
    def catalogue(self) -> Catalogue:
        """The rules, with those on input columns."""
        return catalogue_of(self.files, self.numbers)

    @property
    def run_rules(self) -> RunRules:
        """Settings by which workers judge."""
        return RunRules(self.numbers, self.files, self.language_rule)

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The thresholds, by flag; of rules on input columns by flag and column."""
        numbers = {rule.name: getattr(self, rule.name) for rule in self.of_files.rules}
        for kind in (MIN, MAX):
            for column, bound in _items(kind, getattr(self, kind)):
                try:
                    numbers[f"{kind}={carried_name(column)}"] = number(bound)
                except ArgumentTypeError as error:
                    raise ValueError(f"{kind} takes NAME=NUMBER; got {column}={bound}") from error
        for column in filter(None, getattr(self, REQUIRED).split(",")):
            numbers[f"{REQUIRED}={carried_name(column)}"] = True
        if (count := len(of_columns(numbers))) > MOST_COLUMN_RULES:
            raise ValueError(f"{MIN}, {MAX} and {REQUIRED} take {MOST_COLUMN_RULES}; got {count}")
        if self.like:
            numbers[LIKE] = self.like
        if self.max_pairs_per_concept:
            numbers[MAX_PAIRS_PER_CONCEPT.name] = self.max_pairs_per_concept
        if self.keep_most_similar < 1:
            numbers[KEEP_MOST_SIMILAR] = self.keep_most_similar
        if hashes := self._verification:
            numbers[VERIFIED] = f"{hashes[0]}={carried_name(hashes[1])}"
        return numbers

    @property
    def _verification(self) -> tuple[str, str] | None:
        """The hash function and the column of `--verify_hash`; img2dataset has a list of them the
        other way around."""
        text = getattr(self, VERIFIED)
        if not text:
            return None
        words = [word.strip(" \"'") for word in text.strip("[]() ").split(",")]
        kind, _, column = text.partition("=")
        if len(words) == 2 and words[1] in HASHES:
            column, kind = words
        if kind not in HASHES or not column:
            raise ValueError(
                f"{VERIFIED} takes {', '.join(f'{name}=COLUMN' for name in HASHES)}; got {text!r}"
            )
        return kind, column

    @property
    def judged_columns(self) -> list[str]:
        """The input columns that are judged, by the names that they are carried by."""
        columns = of_columns(self.numbers)
        return [str(of if name == VERIFIED else name).partition("=")[2] for name, of in columns]

    @property
    def language_rule(self) -> LanguageRule:
        """Settings about an alt-text's language."""
        languages, detector = wanted_languages(self.language), self.language_detector
        rule = LanguageRule(languages, self.min_language_score, detector=detector)
        if not rule.has_vote:
            return rule
        own, usual = word_limits(self.words_per_language), (self.min_words, self.max_words)
        words = tuple(own.get(code, usual) for code in NUMBERED)
        (like,) = wanted_languages(self.like) or ("",)
        return replace(rule, words=words, has_own_words=bool(own), like=like)


def _items(flag: str, text: str) -> list[tuple[str, str]]:
    """The items of a flag of columns."""
    items: list[tuple[str, str]] = []
    for item in filter(None, text.split(",")):
        column, equals, value = item.rpartition("=")
        if not equals or re.search(r"[\s=]", column) or not column:
            raise ValueError(
                f"{flag} takes NAME=VALUE, such as --{flag}=similarity=0.28, of a NAME without "
                f"blanks or '='; got {item!r}"
            )
        if column in dict(items):
            raise ValueError(f"{flag} names {column} twice; pass one value")
        items.append((column, value))
    return items


def carried_name(column: str) -> str:
    """The name by which a column of the input is carried: another where its own is one of ours."""
    return INPUT + column if column in names_of_ours() else column


@cache
def names_of_ours() -> frozenset[str]:
    """The columns that files of ours have in every run, of languages, and of how images look."""
    from alignset.transforms.columns.rejects import REJECTED  # with Arrow
    from alignset.transforms.shards.shard_files import LOOK_SCHEMA, SHARD_SCHEMA

    return frozenset({*REJECTED.names, *SHARD_SCHEMA.names, *LOOK_SCHEMA.names, *LANGUAGE_COLUMNS})


def flag_of(name: str, default: Any, help_text: str) -> tuple[str, type, Any]:
    """A flag as `make_dataclass` takes fields."""
    return name, type(default), field(default=default, metadata={"help": help_text})


_OF_LANGUAGES = (
    (
        "language",
        "en",
        "language of the alt-texts, or a list such as de,fr,ja; all finds each text's, and empty "
        "keeps all texts",
    ),
    (
        "language_detector",
        "",
        "vote or langdetect; empty is eldc for English and else the vote",
    ),
    (LIKE, "", "of each language no more pairs than of this one, such as en, by their keys"),
    (
        "words_per_language",
        "",
        "other least and most words of languages: FILE with lines such as fi 2 16, or "
        "fi:2-16,ja:2-30",
    ),
)
_BEHIND_RULES = (
    (MAX_PAIRS_PER_CONCEPT.name, MAX_PAIRS_PER_CONCEPT.default, MAX_PAIRS_PER_CONCEPT.help),
    ("concepts", "", "FILE with a word or two in each line: of these alone, and a text has one"),
    (
        KEEP_MOST_SIMILAR,
        1.0,
        "this share of the dataset, the pairs with the highest column similarity "
        "(docs/similarity.md)",
    ),
    (
        "min_blocked_phash_distance",
        6,
        "bits of 64 to the nearest perceptual hash of a blocklist, at least",
    ),
    ("min_blocked_pdq_distance", 32, "bits of 256 to the nearest PDQ of a blocklist, at least"),
    *(
        (
            kind,
            "",
            f"NAME=VALUE,...: this column of the input, such as a score, at {most}; may be given "
            "several times (docs/columns.md)",
        )
        for kind, most in ((MIN, "least"), (MAX, "most"))
    ),
    (REQUIRED, "", "NAME,...: drop pairs without a value in this column of the input"),
    (
        VERIFIED,
        "",
        "sha256=COLUMN, or md5: keep only files with the hash that the input has in this column",
    ),
)


if TYPE_CHECKING:
    Rules = _Checked
else:
    _own = ((rule.name, rule.default, rule.help) for rule in PRODUCT.rules)
    _flags = starmap(flag_of, (*_OF_LANGUAGES, *_own, *_BEHIND_RULES))
    Rules = make_dataclass("Rules", _flags, bases=(_Checked,), frozen=True)
    Rules.__module__, Rules.__doc__ = __name__, _Checked.__doc__
