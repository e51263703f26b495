"""The command's flags, derived from the settings' fields; whatever else is left is Beam's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from alignset.extras import missing_extra
from alignset.pipeline.errors import UsageError
from alignset.pipeline.other_flags import beam_options
from alignset.pipeline.rule_files import NO_RULES, RulesOfUsers, carried, rules_of_users
from alignset.pipeline.settings import DECLARED, GROUPS, REPORTED, Settings, needless_flag
from alignset.settings import add_flag, add_help, declared_fields
from alignset.transforms.rules.columns import COLUMN_FLAGS
from alignset.transforms.rules.language_codes import VOTE, word_limits
from alignset.transforms.rules.recipes import RECIPES
from alignset.transforms.rules.thresholds import MIN_EVALUATION_DISTANCE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def parser(prog: str = "beam_runner.py", of_users: RulesOfUsers = NO_RULES) -> _Parser:
    """The parser of all flags but Beam's, and of the rules of users."""
    flags_parser = _Parser(
        prog=prog,
        usage="%(prog)s --input=PATHS --output=FOLDER [flags]",
        description="Image URLs with alt-texts in, ALIGN's filtered WebDataset shards out.",
        epilog="Any other flag is Apache Beam's, such as --runner.",
        allow_abbrev=False,
        add_help=False,
    )
    briefs = {
        title: {of.name: brief for of in declared_fields(kind) if (brief := of.metadata["brief"])}
        for title, kind in GROUPS.items()
    }
    first = {title: flags for title, flags in briefs.items() if flags}
    add_help(flags_parser, first, {name: of.default for name, of in DECLARED.items()})
    for title, kind in GROUPS.items():
        group = flags_parser.add_argument_group(title)
        for of in declared_fields(kind):
            _add(group, of.name, of.type, of.metadata, of.metadata["help"], of.default)
        for rule in of_users.limits if title == "rules" else ():
            _add(group, rule.name, type(rule.default), {}, rule.help, rule.default)
    return flags_parser


def _add(group: Any, name: str, kind: Any, about: Any, help: str, default: object) -> None:
    """Adds a flag; where it is not given, it is not among the flags."""
    text = f"{help}{'' if default in ('', False) else f' (default: {default})'}".replace("%", "%%")
    add_flag(group, name, kind, about, help=text, default=argparse.SUPPRESS)


class GivenFlags(NamedTuple):
    """A command line as it was read, by a parser without Beam.

    Fields:
      ours: the values of the flags that are not Beam's, by name. others: all other words.
    """

    ours: dict[str, Any]
    others: list[str]
    of_users: RulesOfUsers = NO_RULES


def read_flags(argv: Sequence[str], prog: str = "beam_runner.py") -> GivenFlags:
    """Reads the flags of the command that is called `prog`; --help prints and exits here.

    Raises:
      UsageError: a value of a wrong type.
    """
    of_users = rules_of_users(_value_in(argv, "rules"), _value_in(argv, "score_model"), DECLARED)
    flags, others = parser(prog, of_users).parse_known_args(list(argv))
    return GivenFlags(vars(flags), others, of_users)


def _value_in(argv: Sequence[str], flag: str) -> str:
    """The value of a flag that brings flags of its own."""
    values = [word.partition("=")[2] for word in argv if word.startswith(f"--{flag}=")]
    values += [value for word, value in pairwise(argv) if word == f"--{flag}"]
    return values[-1] if values else ""


def parse(argv: Sequence[str], prog: str = "beam_runner.py") -> Settings:
    """Reads and checks the command line of the command that is called `prog`.

    Raises:
      UsageError: an unknown flag, a wrong value, something required that is missing.
    """
    return make_settings(read_flags(argv, prog))


def make_settings(given_flags: GivenFlags) -> Settings:
    """Makes the settings that some flags give, and checks them.

    Raises:
      UsageError: an unknown flag, a wrong value, something required that is missing.
    """
    flags, of_users = given_flags.ours, given_flags.of_users
    names = {rule.name: rule.default for rule in of_users.limits}
    for name in ("decontaminate_only", "score_only"):
        if flags.get(name) and "recipe" in flags:
            raise UsageError(
                f"--{name} turns all rules off: leave --recipe out, or pass flags of rules"
            )
    beam = beam_options(given_flags.others, [*DECLARED, *names], flags.get("workers", 0))
    values: dict[str, Any] = dict(RECIPES.get(flags.get("recipe", ""), {}))
    if flags.get("decontaminate_only") or flags.get("score_only"):  # which take nothing away
        values = {"columns": "all", **of_users.catalogue.opened, **REPORTED}
    if flags.get("score_only"):
        values[MIN_EVALUATION_DISTANCE.name] = 0.0
    values |= flags
    if text := flags.get("words_per_language"):
        values["words_per_language"] = _limits_in(text)
    if text := flags.get("concepts"):
        values["concepts"] = _concepts_in(text)
    _check_vocabulary(flags)
    thresholds = {name: values.pop(name, default) for name, default in names.items()}
    try:
        values |= {name: carried(name, values[name]) for name in COLUMN_FLAGS if values.get(name)}
        settings = Settings(**values, files=of_users.files, of_users=thresholds, beam=beam)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if needless := needless_flag(flags, settings):
        raise UsageError(needless)
    needed = [("img2dataset", "--exact_resize", settings.exact_resize)]
    needed += [("languages", f"--language={settings.language}", settings.voter == VOTE)]
    for extra, feature, is_needed in needed:
        if is_needed and (missing := missing_extra(extra, feature)):
            raise UsageError(missing)
    return settings


def _check_vocabulary(flags: dict[str, Any]) -> None:
    """Raises UsageError where a given vocabulary excludes another flag."""
    if flags.get("vocabulary") and flags.get("max_pairs_per_concept"):
        raise UsageError(
            "--max_pairs_per_concept goes by the input's own counts, and with --vocabulary there "
            "are none; pass one of them"
        )
    if flags.get("vocabulary") == "":
        raise UsageError("--vocabulary is empty; pass a vocabulary.u64, or leave the flag out")
    if "vocabulary" in flags and "vocabulary_size" in flags:
        raise UsageError(
            "--vocabulary_size is of the input's own vocabulary, and --vocabulary gives another; "
            "pass only one of them"
        )


def _limits_in(text: str) -> str:
    """The limits of languages on one line, out of a file where there is one of that name."""
    if "," not in text and ":" not in text:
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"--words_per_language: {text!r} cannot be read: {why}") from error
    try:
        limits = word_limits(text)
    except ValueError as error:
        raise UsageError(f"--words_per_language: {error}") from error
    return ",".join(f"{code}:{least}-{most}" for code, (least, most) in sorted(limits.items()))


def _concepts_in(path: str) -> str:
    from alignset.transforms.corpus.concepts import named_file

    try:
        return named_file(path)
    except ValueError as error:
        raise UsageError(f"--concepts: {error}") from error
