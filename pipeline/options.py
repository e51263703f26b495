"""The command's flags, derived from the settings' fields; whatever else is left is Beam's."""

import argparse
import contextlib
import dataclasses
import difflib
import io
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners import create_runner

from pipeline.needless_flags import needless_flag
from pipeline.peer_flags import instead_of
from pipeline.rules import Rules
from transforms.fetching.fetch import FetchSettings
from transforms.images.resize import ResizeSettings
from transforms.pages.parse_pages import PAGE_FORMATS

S = TypeVar("S")
FORMATS = ("auto", "parquet", "csv", "tsv", "jsonl", "webdataset", *PAGE_FORMATS)


class UsageError(Exception):
    """A command that cannot be run as it was given; says what to do."""


@dataclass(frozen=True)
class Job:
    """What to read and what to write."""

    input: str = field(
        default="", metadata={"help": "files, globs or folders, comma-separated (required)"}
    )
    output: str = field(default="", metadata={"help": "a folder for the set (required)"})
    input_format: str = field(default="auto", metadata={"help": ", ".join(FORMATS)})
    url_column: str = field(default="", metadata={"help": "found by its usual names if not given"})
    text_column: str = field(default="", metadata={"help": "found by its usual names if not given"})
    base_url: str = field(
        default="",
        metadata={"help": "of html: where the folder is served, such as https://docs.example/"},
    )
    text_only: bool = field(
        default=False, metadata={"help": "stop after the text rules; kept pairs go to pairs/"}
    )
    eval_images: str = field(
        default="",
        metadata={"help": "NAME=PATH,...: folders, shards or Parquet of images to keep out"},
    )
    vocabulary: str = field(
        default="",
        metadata={
            "help": "filter with this vocabulary.u64, or the one in this output of an earlier run, "
            "in place of the input's own"
        },
    )
    retry_failed: bool = field(
        default=False,
        metadata={"help": "fetch again what a finished run could not, and add it to its set"},
    )
    on_broken_input: str = field(
        default="skip",
        metadata={"help": "skip input files that are broken where others remain, or fail"},
    )
    samples_per_shard: int = field(default=10_000, metadata={"help": "pairs in a shard, about"})
    batch_rows: int = field(default=131_072, metadata={"help": "rows measured at once"})

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            if not getattr(self, name):
                raise ValueError(f"{name} is required: give --{name}=PATH")
        if self.base_url and not re.match("https?://[^/]", self.base_url):
            raise ValueError(
                f"base_url must be an absolute http(s) URL, such as https://docs.example/; "
                f"got {self.base_url!r}"
            )
        for name in ("samples_per_shard", "batch_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        if self.on_broken_input not in ("skip", "fail"):
            raise ValueError(f"on_broken_input must be skip or fail; got {self.on_broken_input!r}")
        if self.input_format not in FORMATS:
            raise ValueError(
                f"input_format must be one of {', '.join(FORMATS)}; got {self.input_format!r}"
            )


@dataclass(frozen=True)
class Command:
    """A whole command, checked."""

    job: Job
    rules: Rules
    fetch: FetchSettings
    resize: ResizeSettings
    beam: PipelineOptions


GROUPS = {
    "input and output": Job,
    "rules": Rules,
    "fetching": FetchSettings,
    "resizing": ResizeSettings,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false; got {text!r}")
    return text.lower() == "true"


def parser() -> argparse.ArgumentParser:
    """The parser of all flags but Beam's."""
    made = _Parser(
        prog="beam_runner.py",
        description="Image URLs with alt-texts in, ALIGN's filtered WebDataset shards out.",
        epilog="Any other flag is Apache Beam's, such as --runner and --direct_num_workers.",
        allow_abbrev=False,
    )
    for title, settings in GROUPS.items():
        group = made.add_argument_group(title)
        for setting in dataclasses.fields(settings):
            kind: Callable[[str], Any] = _truth if setting.type is bool else setting.type  # type: ignore[assignment]
            optional: dict[str, Any] = (
                {"nargs": "?", "const": True, "metavar": "BOOL"} if setting.type is bool else {}
            )
            group.add_argument(
                f"--{setting.name}",
                type=kind,
                default=argparse.SUPPRESS,  # what was not given is not among the flags
                help=_help(setting),
                **optional,
            )
    return made


def _help(setting: dataclasses.Field[Any]) -> str:
    shown = "" if setting.default in ("", False) else f" (default: {setting.default})"
    return f"{setting.metadata['help']}{shown}".replace("%", "%%")


def parse(argv: Sequence[str]) -> Command:
    """Reads the command line.

    Raises:
      UsageError: an unknown flag, a wrong value, something required that is missing.
    """
    made = parser()
    parsed, rest = made.parse_known_args(list(argv))
    flags, beam_options = vars(parsed), _beam_options(rest, made)
    if flags.get("vocabulary") == "":
        raise UsageError("--vocabulary is empty; give a vocabulary.u64, or leave the flag out")
    if "vocabulary" in flags and "vocabulary_size" in flags:
        raise UsageError(
            "--vocabulary_size is of the input's own vocabulary, and --vocabulary gives another; "
            "give only one of them"
        )
    try:
        command = Command(
            _settings(Job, flags),
            _settings(Rules, flags),
            _settings(FetchSettings, flags),
            _settings(ResizeSettings, flags),
            beam_options,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    needless = needless_flag(
        flags,
        text_only=command.job.text_only,
        eval_images=command.job.eval_images,
        rules=command.rules,
        fetch=command.fetch,
        resize=command.resize,
    )
    if needless:
        raise UsageError(needless)
    return command


def _settings(kind: type[S], flags: dict[str, Any]) -> S:
    names = {setting.name for setting in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in flags.items() if name in names})


def _hint(unknown: str, names: list[str]) -> str:
    """What may have been meant by a flag that there is not."""
    if here := instead_of(unknown):
        return here
    near = difflib.get_close_matches(unknown, names, 1)
    return f"did you mean --{near[0]}?" if near else "see --help"


def _beam_options(rest: list[str], ours: argparse.ArgumentParser) -> PipelineOptions:
    """Beam only warns of a flag that it does not know, and runs on without it."""
    errors = io.StringIO()
    logging.disable(logging.WARNING)  # it would say "Discarding unparseable args" before us
    try:
        with contextlib.redirect_stderr(errors):
            options = PipelineOptions(rest)
            declared = options.get_all_options()
            given = options.get_all_options(retain_unknown_options=True)
    except SystemExit as error:
        message = errors.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise UsageError(f"{message}; see Apache Beam's pipeline options") from error
    finally:
        logging.disable(logging.NOTSET)
    stray = [
        word
        for before, word in zip(["", *rest], rest, strict=False)
        if not word.startswith("-") and (not before.startswith("-") or "=" in before)
    ]
    unknown = sorted(given.keys() - declared.keys()) + stray
    if unknown:
        names = [action.dest for action in ours._actions] + list(declared)
        raise UsageError(f"unknown flag {unknown[0]!r}; {_hint(unknown[0], names)}")
    runner = options.view_as(StandardOptions).runner
    try:
        if runner:
            create_runner(runner)
    except (ValueError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"runner {runner!r} is not to be had here: {reason}") from error
    return options
