"""The command's flags, derived from the settings' fields; whatever else is left is Beam's."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from alignset.command_help import PARSERS, add_help
from alignset.extras import missing_extra
from alignset.pipeline.command import Command, needless_flag
from alignset.pipeline.errors import UsageError
from alignset.pipeline.job import Job
from alignset.pipeline.other_flags import beam_options
from alignset.pipeline.rule_files import rules_with
from alignset.pipeline.rules import REPORTED, Rules
from alignset.transforms.decontamination.overlap_settings import OverlapSettings
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.rules.columns import MAX, MIN, REQUIRED
from alignset.transforms.rules.language_codes import VOTE, word_limits
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.rule import IMAGES

S = TypeVar("S")


GROUPS: dict[str, type] = {
    "input and output": Job,
    "rules": Rules,
    "evaluation images": OverlapSettings,
    "fetching": FetchSettings,
    "resizing": ResizeSettings,
}


SEVERAL = ("columns", MIN, MAX, REQUIRED)  # flags that may be given several times
# What the short help says, a line a flag.
FIRST = {
    "input and output": {
        "input": "files, globs or folders, comma-separated (required)",
        "output": "a folder for the dataset (required)",
        "eval_images": "NAME=PATH,...: images to keep out of the dataset",
        "holdout": "this share of the images goes to holdout/, to validate on",
        "retry_failed": "fetch again what a finished run could not",
    },
    "rules": {
        "language": "of the alt-texts; empty keeps all",
        **{rule.name: rule.brief for rule in PRODUCT.rules if rule.brief},
    },
    "fetching": {
        "connections": "fetches under way at once",
        "contact": "where a host's owner reaches you",
    },
    "resizing": {
        "resize_mode": "how images are kept, such as keep_ratio",
        "image_size": "px, a side, to resize to",
    },
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


class _Joined(argparse.Action):
    """All values of a flag that was given several times."""

    def __call__(
        self, parser: object, flags: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        before = getattr(flags, self.dest, "")
        setattr(flags, self.dest, f"{before},{value}" if before else value)


def parser(prog: str = "beam_runner.py", rules: type[Rules] = Rules) -> argparse.ArgumentParser:
    """The parser of all flags but Beam's, and of the rules of these."""
    flags_parser = _Parser(
        prog=prog,
        usage="%(prog)s --input=PATHS --output=FOLDER [flags]",
        description="Image URLs with alt-texts in, ALIGN's filtered WebDataset shards out.",
        epilog="Any other flag is Apache Beam's, such as --runner and --direct_num_workers.",
        allow_abbrev=False,
        add_help=False,
    )
    add_help(flags_parser, FIRST, _defaults())
    for title, settings in (GROUPS | {"rules": rules}).items():
        group = flags_parser.add_argument_group(title)
        for setting in dataclasses.fields(settings):
            kind = PARSERS.get(setting.type, str)  # type: ignore[arg-type]
            alone = True if setting.type is bool else setting.metadata.get("alone")
            optional: dict[str, Any] = (
                {"nargs": "?", "const": alone, "metavar": setting.metadata.get("metavar", "BOOL")}
                if alone
                else {}
            )
            group.add_argument(
                f"--{setting.name}",
                type=kind,
                default=argparse.SUPPRESS,  # what was not given is not among the flags
                help=_help(setting),
                action=_Joined if setting.name in SEVERAL else "store",
                **optional,
            )
    return flags_parser


def _defaults() -> dict[str, object]:
    return {f.name: f.default for kind in GROUPS.values() for f in dataclasses.fields(kind)}


def _help(setting: dataclasses.Field[Any]) -> str:
    default_text = "" if setting.default in ("", False) else f" (default: {setting.default})"
    return f"{setting.metadata['help']}{default_text}".replace("%", "%%")


class GivenFlags(NamedTuple):
    """A command line as it was read, by a parser without Beam.

    Fields:
      ours: the values of the flags that are not Beam's, by name. others: all other words.
      rules: of the product, and of users.
    """

    ours: dict[str, Any]
    others: list[str]
    rules: type[Rules] = Rules


def read_flags(argv: Sequence[str], prog: str = "beam_runner.py") -> GivenFlags:
    """Reads the flags of the command that is called `prog`; --help prints and exits here.

    Raises:
      UsageError: a value of a wrong type.
    """
    sources = _value_in(argv, "rules"), _value_in(argv, "score_model")
    rules = rules_with(*sources, _defaults())
    flags, others = parser(prog, rules).parse_known_args(list(argv))
    return GivenFlags(vars(flags), others, rules)


def _value_in(argv: Sequence[str], flag: str) -> str:
    """The value of a flag that brings flags of its own."""
    values = [word.partition("=")[2] for word in argv if word.startswith(f"--{flag}=")]
    values += [value for word, value in pairwise(argv) if word == f"--{flag}"]
    return values[-1] if values else ""


def parse(argv: Sequence[str], prog: str = "beam_runner.py") -> Command:
    """Reads and checks the command line of the command that is called `prog`.

    Raises:
      UsageError: an unknown flag, a wrong value, something required that is missing.
    """
    return make_command(read_flags(argv, prog))


def make_command(given_flags: GivenFlags) -> Command:
    """Makes the command that some flags describe, and checks it.

    Raises:
      UsageError: an unknown flag, a wrong value, something required that is missing.
    """
    names = [*_defaults(), *(setting.name for setting in dataclasses.fields(given_flags.rules))]
    flags, beam = given_flags.ours, beam_options(given_flags.others, names)
    if text := flags.get("words_per_language"):
        flags = {**flags, "words_per_language": _limits_in(text)}
    if text := flags.get("concepts"):
        flags = {**flags, "concepts": _concepts_in(text)}
    if flags.get("decontaminate_only") or flags.get("score_only"):  # which take nothing away
        flags = {"columns": "all", **flags}
    _check_vocabulary(flags)
    try:
        overlap = _settings(OverlapSettings, flags)
        open_values = _open_values(given_flags.rules, flags)
        command = Command(
            _settings(Job, flags),
            _settings(given_flags.rules, open_values | flags),
            overlap,
            _settings(FetchSettings, REPORTED | flags if open_values else flags),
            _settings(ResizeSettings, flags),
            beam,
        )
        _check_ranking(command)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if command.job.text_only:
        _check_without_images(command)
    if needless := needless_flag(flags, command):
        raise UsageError(needless)
    needed = [
        ("img2dataset", "--exact_resize", command.resize.exact_resize),
        (
            "languages",
            f"--language={command.rules.language}",
            command.rules.language_rule.voter == VOTE,
        ),
    ]
    for extra, feature, is_needed in needed:
        if is_needed and (missing := missing_extra(extra, feature)):
            raise UsageError(missing)
    return command


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


def _check_without_images(command: Command) -> None:
    """Raises UsageError where a rule of a user looks at images, and none is fetched."""
    for limit in command.rules.catalogue.custom:
        if limit.plane == IMAGES:
            flag = "score_model" if command.job.score_model else "rules"
            raise UsageError(
                f"--{flag}: the rule {limit.name} looks at images, and --text_only fetches none: "
                "leave it out (FILE.py:FLAG names one rule of a file), or leave --text_only out"
            )


def _check_ranking(command: Command) -> None:
    """Raises ValueError where a share of the most similar pairs cannot be kept at once."""
    job = command.job
    if command.rules.keep_most_similar == 1:
        return
    if job.retry_failed:
        raise ValueError(
            "keep_most_similar is of a whole dataset, and --retry_failed adds to one: make another "
            f"with --input={job.output} --also_rejected=fetch_failed,less_similar --output=NEW"
        )
    if job.duplicates != "keep":
        raise ValueError(
            f"keep_most_similar and --duplicates={job.duplicates} are two runs: first the "
            "duplicates, and then that dataset as --input with --keep_most_similar"
        )


def _open_values(rules: type[Rules], flags: dict[str, Any]) -> dict[str, object]:
    """The thresholds that drop nothing, where no rule is to; none elsewhere."""
    if flags.get("score_only"):
        return {**rules.of_files.opened, MIN_EVALUATION_DISTANCE.name: 0.0}
    return {**rules.of_files.opened} if flags.get("decontaminate_only") else {}


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


def _settings(kind: type[S], flags: dict[str, Any]) -> S:
    names = {setting.name for setting in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in flags.items() if name in names})
