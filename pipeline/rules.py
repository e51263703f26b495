"""The flags of the rules, out of their catalogue, and those that only language and blocklists have.

Source: ALIGN (Jia et al., 2021), section 3 and appendix A.
"""

# No `from __future__ import annotations` here: options.py reads the fields' types.
from collections.abc import Iterator
from dataclasses import field, make_dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

from alignset.transforms.pairs.languages import ENGLISH, LANGUAGES, LanguageRule
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue, RunRules, catalogue_of
from alignset.transforms.rules.custom import RuleFile
from alignset.transforms.rules.language import MIN_LANGUAGE_SCORE
from alignset.transforms.rules.rule import IMAGES

REPORTED = {"unwished": "report"}  # with --decontaminate_only, beside `Catalogue.opened`


class _Checked:
    """Which pairs are kept. `min_x` and `max_x` name the kept range."""

    files: ClassVar[tuple[RuleFile, ...]] = ()  # with the rules of users
    catalogue: ClassVar[Catalogue] = PRODUCT

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init__(self, **values: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    def __post_init__(self) -> None:
        if self.language and self.language not in LANGUAGES:
            raise ValueError(
                f"language must be one of {', '.join(LANGUAGES)}; got {self.language!r}"
            )
        for rule in self.catalogue.rules:
            rule.check(getattr(self, rule.name))
        self._check_language_scores()
        self._check_blocked_distances()
        for low, high in permutations(self.catalogue.limits.values(), 2):
            if low.measure is high.measure and low.beyond and not high.beyond:
                self._check_order(low.name, high.name, "image" if low.plane == IMAGES else "text")

    def _check_order(self, low: str, high: str, thing: str) -> None:
        least, most = getattr(self, low), getattr(self, high)
        if least > most:
            raise ValueError(
                f"{low} must be <= {high}, or no {thing} passes; got {least} and {most}"
            )

    def _check_language_scores(self) -> None:
        for name in ("min_unsure_language_score", "min_langdetect_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1; got {getattr(self, name)}")
        if self.language == ENGLISH:
            return  # langdetect is not asked
        if self.min_unsure_language_score > self.min_language_score:
            raise ValueError(
                f"min_unsure_language_score must be <= min_language_score, where equal leaves "
                f"nothing to langdetect; "
                f"got {self.min_unsure_language_score} and {self.min_language_score}"
            )

    def _check_blocked_distances(self) -> None:
        for name, bits in (("min_blocked_phash_distance", 64), ("min_blocked_pdq_distance", 256)):
            if not 0 <= getattr(self, name) <= bits:
                raise ValueError(f"{name} must be from 0 to {bits}; got {getattr(self, name)}")

    @property
    def run_rules(self) -> RunRules:
        """What workers judge by."""
        numbers = {rule.name: getattr(self, rule.name) for rule in self.catalogue.rules}
        return RunRules(numbers, self.files)

    @property
    def language_rule(self) -> LanguageRule:
        """What is asked of an alt-text's language."""
        return LanguageRule(
            self.language,
            self.min_language_score,
            self.min_unsure_language_score,
            self.min_langdetect_probability,
        )


def _flag(name: str, default: Any, said: str) -> tuple[str, type, Any]:
    return name, type(default), field(default=default, metadata={"help": said})


def _flags() -> Iterator[tuple[str, type, Any]]:
    yield _flag("language", "en", "language of the alt-text, ISO 639-1; empty keeps all")
    for rule in PRODUCT.rules:
        yield _flag(rule.name, rule.default, rule.help)
        if rule is MIN_LANGUAGE_SCORE:
            yield _flag(
                "min_unsure_language_score",
                0.49,
                "a score from here to min_language_score leaves it to langdetect; not of English",
            )
            yield _flag(
                "min_langdetect_probability",
                0.9,
                "of the language, where it is left to langdetect, at least",
            )
    yield _flag(
        "min_blocked_phash_distance",
        6,
        "bits of 64 to the nearest perceptual hash of a blocklist, at least",
    )
    yield _flag(
        "min_blocked_pdq_distance", 32, "bits of 256 to the nearest PDQ of a blocklist, at least"
    )


if TYPE_CHECKING:
    Rules = _Checked
else:
    Rules = make_dataclass("Rules", _flags(), bases=(_Checked,), frozen=True)
    Rules.__module__, Rules.__doc__ = __name__, _Checked.__doc__


def with_files(files: tuple[RuleFile, ...]) -> type[Rules]:
    """The flags with those of rules of users behind them."""
    catalogue = catalogue_of(files)
    own = [_flag(limit.name, limit.default, limit.help) for limit in catalogue.custom]
    space = {"files": files, "catalogue": catalogue}
    kind = make_dataclass("Rules", own, bases=(Rules,), frozen=True, namespace=space)
    return kind
