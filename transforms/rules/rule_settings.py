"""The settings of the rules: languages, the rules of the catalogue, and input columns.

Source: ALIGN (Jia et al., 2021), section 3 and appendix A.
"""

# No `from __future__ import annotations` here: options.py reads the fields' types.
import re
from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import cached_property, partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

from alignset.settings import Allowed, Checked, between, number, one_of, setting
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.rules.catalogue import (
    KEEP_MOST_SIMILAR,
    PRODUCT,
    Catalogue,
    catalogue_of,
    column_numbers,
)
from alignset.transforms.rules.columns import (
    HASHES,
    KEEP,
    MAX,
    MIN,
    REQUIRED,
    VERIFIED,
    verified_column,
)
from alignset.transforms.rules.custom import RuleFile
from alignset.transforms.rules.language_codes import (
    ALL,
    FOUND_BY,
    NUMBERED,
    UNDETERMINED,
    voter_of,
    wanted_languages,
    word_limits,
)
from alignset.transforms.rules.personal_data import MAX_PERSONAL_DATA
from alignset.transforms.rules.rule import IMAGES, TEXTS, Limit, Rule, Stage
from alignset.transforms.rules.thresholds import MAX_PAIRS_PER_CONCEPT

if TYPE_CHECKING:
    import pyarrow as pa

    from alignset.transforms.columns.hashing import Bools

MOST_COLUMN_RULES = 32
_text_setting = partial(setting, step=TEXTS)


@dataclass(frozen=True)
class LanguageSettings(Checked):
    """Which languages texts are in."""

    language: str = _text_setting(
        "en",
        "language of the alt-texts, or a list such as es,fr,ja; all: any, with each text's; "
        "empty: any",
        brief="of the alt-texts; empty keeps all",
    )
    language_detector: str = _text_setting(
        "",
        "vote or langdetect; empty is eldc for English and else the vote",
        allowed=one_of(("", *FOUND_BY), f"{' or '.join(FOUND_BY)}, or empty"),
        needs="languages",
    )
    words_per_language: str = _text_setting(
        "",
        "limits on words by language: fi:2-16,ja:2-30, or a FILE with lines such as fi 2 16",
        needs="vote",
    )

    def check(self) -> None:
        languages = wanted_languages(self.language)  # which raises where one is not known
        found = FOUND_BY.get(self.language_detector, NUMBERED)
        if self.language != ALL and (other := {*languages} - {*found, UNDETERMINED}):
            raise ValueError(
                f"{self.language_detector} finds no {', '.join(sorted(other))}: leave "
                "--language_detector out, which takes the vote"
            )
        word_limits(self.words_per_language)


def rule_setting(rule: Rule) -> Any:
    """Declares the setting that is a rule's threshold; `Rule.check` checks it."""
    step, needs = (TEXTS, "") if rule.stage < Stage.FETCH else (IMAGES, IMAGES)
    needs = f"{needs} {rule.needs}"
    return setting(rule.default, rule.help, brief=rule.brief, step=step, needs=needs)


if TYPE_CHECKING:

    class _Thresholds(LanguageSettings):
        def __getattr__(self, name: str) -> Any: ...

else:
    _rules = [(rule.name, type(rule.default), rule_setting(rule)) for rule in PRODUCT.rules]
    _Thresholds = make_dataclass("_Thresholds", _rules, bases=(LanguageSettings,), frozen=True)
    _Thresholds.__module__ = __name__

_blocked_setting = partial(setting, step=IMAGES, needs="images blocklist")
_column_setting = partial(setting, decides=False)  # in documents stands each column by itself


@dataclass(frozen=True)
class RuleSettings(_Thresholds):
    """Which pairs are kept. `min_x` and `max_x` name the kept range.

    Attributes:
      files: with the rules of users. of_users: the thresholds of these, by flag.
      carried: the columns of the input that go with the pairs, once that was found.
    """

    max_personal_data: int = rule_setting(MAX_PERSONAL_DATA)
    max_pairs_per_concept: int = rule_setting(MAX_PAIRS_PER_CONCEPT)
    concepts: str = _text_setting(
        "", "FILE with a word or two in each line: balance these, and drop texts without any"
    )
    keep_most_similar: float = setting(
        1.0,
        "this share of the dataset, the pairs with the highest column similarity (docs/rules.md)",
        allowed=Allowed("above 0, and 1 at most, which keeps all", lambda share: 0 < share <= 1),
        needs=IMAGES,
    )
    min_blocked_phash_distance: int = _blocked_setting(
        6,
        "bits of 64 to the nearest perceptual hash of a blocklist, at least",
        allowed=between(0, 64),
    )
    min_blocked_pdq_distance: int = _blocked_setting(
        32, "bits of 256 to the nearest PDQ of a blocklist, at least", allowed=between(0, 256)
    )
    min_column: str = _column_setting(
        "",
        "NAME=VALUE,...: this column of the input, at least; repeatable (docs/inputs.md)",
        several=True,
    )
    max_column: str = _column_setting(
        "",
        "NAME=VALUE,...: this column of the input, at most; repeatable (docs/inputs.md)",
        several=True,
    )
    keep_column: str = _column_setting(
        "",
        "NAME=VALUE|VALUE,...: only these values of this column of the input; repeatable. "
        "A value with ',' or '|' needs a rule of yours (docs/rules.md)",
        several=True,
    )
    require_column: str = _column_setting(
        "", "NAME,...: drop pairs without a value in this column of the input", several=True
    )
    verify_hash: str = _column_setting(
        "",
        "sha256=COLUMN or md5=COLUMN: keep only files with the hash in this column",
        needs=IMAGES,
    )
    files: tuple[RuleFile, ...] = ()
    of_users: Mapping[str, float] = field(default_factory=dict, hash=False)
    carried: "tuple[pa.Field, ...]" = ()

    def check(self) -> None:
        if self.concepts and not self.max_pairs_per_concept:
            raise ValueError("concepts needs --max_pairs_per_concept, how many pairs each may have")
        for rule in self.catalogue.rules:
            rule.check(self.numbers[rule.name])
        reasons = {rule.reason: rule for rule in self.catalogue.columns if isinstance(rule, Rule)}
        for limit in self.catalogue.custom:
            if taken := reasons.get(limit.reason):
                raise ValueError(
                    f"the rule {limit.name}: the reason {limit.reason!r} belongs to "
                    f"--{taken.name}; choose another"
                )
        for low, high in permutations(self.catalogue.limits.values(), 2):
            if low.measure is high.measure and low.keeps_above and not high.keeps_above:
                least, most = self.numbers[low.name], self.numbers[high.name]
                if least > most:
                    thing = "image" if low.judges == IMAGES else "text"
                    raise ValueError(
                        f"{low.name} must be <= {high.name}, or no {thing} passes; got {least} and "
                        f"{most}"
                    )

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The thresholds by flag; rules on input columns have them by flag and column."""
        of_files = catalogue_of(self.files, {})
        custom = {limit.name: limit.default for limit in of_files.custom} | {**self.of_users}
        names = [rule.name for rule in of_files.rules]
        numbers = {n: custom[n] if n in custom else getattr(self, n) for n in names}
        for kind in (MIN, MAX):
            for column, bound in _items(kind, getattr(self, kind)):
                try:
                    numbers[f"{kind}={column}"] = number(bound)
                except ArgumentTypeError as error:
                    raise ValueError(f"{kind} takes NAME=NUMBER; got {column}={bound}") from error
        for column, values in _items(KEEP, self.keep_column):
            numbers[f"{KEEP}={column}"] = values
        for column in filter(None, self.require_column.split(",")):
            numbers[f"{REQUIRED}={column}"] = True
        if (count := len(column_numbers(numbers))) > MOST_COLUMN_RULES:
            raise ValueError(f"rules on columns take {MOST_COLUMN_RULES}; got {count}")
        if not MAX_PERSONAL_DATA.is_off(self.max_personal_data):
            numbers[MAX_PERSONAL_DATA.name] = self.max_personal_data
        if self.max_pairs_per_concept:
            numbers[MAX_PAIRS_PER_CONCEPT.name] = self.max_pairs_per_concept
        if self.keep_most_similar < 1:
            numbers[KEEP_MOST_SIMILAR] = self.keep_most_similar
        if self.verify_hash:
            numbers[VERIFIED] = "=".join(hash_column(self.verify_hash))
        return numbers

    @property
    def catalogue(self) -> Catalogue:
        """The rules, also of users and on input columns."""
        return catalogue_of(self.files, self.numbers)

    @property
    def judged_columns(self) -> list[str]:
        """The input columns that are judged, by the names that they are carried by."""
        columns = column_numbers(self.numbers)
        return [str(of if name == VERIFIED else name).partition("=")[2] for name, of in columns]

    @property
    def verified(self) -> tuple[str, str] | None:
        """The hash function and the carried column that files are compared by, if they are."""
        return verified_column(self.numbers)

    def computing(self, stage: Stage) -> list[Limit]:
        """The rules of a stage that compute their own measure."""
        return [limit for limit in self.catalogue.computing if limit.stage == stage]

    @property
    def computed_columns(self) -> tuple[str, ...]:
        """The columns that hold what such rules of all stages measured."""
        return tuple(dict.fromkeys(limit.measure.column for limit in self.catalogue.computing))

    @property
    def measured_columns(self) -> tuple[str, ...]:
        """The columns of measures that files of pairs have beside every run's columns."""
        return (*(LANGUAGE_COLUMNS if self.has_vote else ()), *self.computed_columns)

    @property
    def written_columns(self) -> "tuple[str | pa.Field, ...]":
        """All columns that files of pairs have beside every run's columns."""
        return (*self.measured_columns, *self.carried)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The wanted languages, of `NUMBERED`; none keeps all texts."""
        return wanted_languages(self.language)

    @property
    def voter(self) -> str:
        """Which of `FOUND_BY` finds the language of each text; empty where none does."""
        return voter_of(vars(self))

    @property
    def has_vote(self) -> bool:
        """Whether the language of each text is found, by the vote or by another detector."""
        return bool(self.voter)

    def is_foreign(self, languages: "pa.StringArray") -> "Bools":
        """Which of some languages are not wanted: bool[n]."""
        import pyarrow as pa
        import pyarrow.compute as pc

        is_wanted = pc.is_in(languages, value_set=pa.array(self.languages, pa.string()))
        return ~is_wanted.to_numpy(zero_copy_only=False)

    @cached_property
    def word_limits(self) -> tuple[tuple[int, int], ...]:
        """The least and the most words of a text, by the places of `NUMBERED`."""
        own, usual = word_limits(self.words_per_language), (self.min_words, self.max_words)
        return tuple(own.get(code, usual) for code in NUMBERED)


def _items(flag: str, text: str) -> list[tuple[str, str]]:
    """The items of a flag of columns."""
    items: list[tuple[str, str]] = []
    example = "nsfw=UNLIKELY|UNSURE" if flag == KEEP else "similarity=0.28"
    for item in filter(None, text.split(",")):
        column, equals, value = item.partition("=")
        if not equals or re.search(r"\s", column) or not column:
            raise ValueError(
                f"{flag} takes NAME=VALUE, such as --{flag}={example}, of a NAME without "
                f"blanks or '='; got {item!r}"
            )
        if column in dict(items):
            raise ValueError(f"{flag} names {column} twice; pass one value")
        items.append((column, value))
    return items


def hash_column(text: str) -> tuple[str, str]:
    """The hash function and the column of `--verify_hash`; img2dataset has a list of them the
    other way around.

    >>> hash_column("md5=digest"), hash_column("['digest','md5']")
    (('md5', 'digest'), ('md5', 'digest'))

    Raises:
      ValueError: it names no such function, or no column.
    """
    words = [word.strip(" \"'") for word in text.strip("[]() ").split(",")]
    kind, _, column = text.partition("=")
    if len(words) == 2 and words[1] in HASHES:
        column, kind = words
    if kind not in HASHES or not column:
        raise ValueError(
            f"{VERIFIED} takes {', '.join(f'{name}=COLUMN' for name in HASHES)}; got {text!r}"
        )
    return kind, column
