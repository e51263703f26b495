"""Flags out of a dataclass of settings, and how a command of train/ ends."""

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from alignset.command_help import First, add_help, boolean
from alignset.extras import without_package
from alignset.train.errors import SettingsError, SharedError, TrainingError
from alignset.train.settings import RunSettings, own_first

STOPPED = "stopped; the same command resumes from the last checkpoint"


S = TypeVar("S", bound=RunSettings)


class Parser(argparse.ArgumentParser):
    """Raises SettingsError where argparse prints its usage and ends the program.

    Args:
      peers: what to pass in place of a similar tool's flags, or an earlier version's.
    """

    def __init__(self, *, peers: Mapping[str, str] | None = None, **options: Any):
        self._peers = peers or {}
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized"):
            for flag, name in re.findall(r"(--([\w-]+))", message):
                if here := self._peers.get(name.replace("-", "_")):
                    raise SettingsError(f"{flag} is not a flag here: pass {here}")
        raise SettingsError(f"{message} ({self.prog} --help lists all flags)")


def settings_parser(
    name: str,
    description: str,
    first: First,
    presets: Mapping[str, S],
    groups: Mapping[str, str],
    *,
    usage: str = "%(prog)s [flags]",
    peers: Mapping[str, str] | None = None,
) -> Parser:
    """A parser with `--help`, `--run`, `--preset`, and a flag for each field of the presets' class.

    Args:
      name: how the command was called.
      first: what the short help says.
      presets: the one called tiny is the default.
      groups: what the fields from one on are about, by that field's name.
    """
    parser = Parser(prog=name, usage=usage, description=description, add_help=False, peers=peers)
    parser.add_argument("--run", required=True, type=local_folder, help="folder of this run")
    add_help(parser, first, {"preset": "tiny", **dataclasses.asdict(presets["tiny"])})
    parser.add_argument(
        "--preset",
        default="tiny",
        choices=presets,
        metavar="NAME",
        help=f"which values: {', '.join(presets)} (default: tiny)",
    )
    group: argparse._ActionsContainer = parser
    for setting in own_first(type(presets["tiny"])):
        if setting.name in groups:
            group = parser.add_argument_group(groups[setting.name])
        kind = setting.type
        assert isinstance(kind, type)  # not a string, which postponed annotations are
        of: dict[str, list[str]] = {}
        for name, preset in presets.items():
            of.setdefault(str(getattr(preset, setting.name)) or "empty", []).append(name)
        names = {value: ", ".join(n[:3]) + (" ..." if n[3:] else "") for value, n in of.items()}
        values = "; ".join(f"{value} in {some_presets}" for value, some_presets in names.items())
        meaning = setting.metadata["help"]
        optional: dict[str, Any] = {"nargs": "?", "const": True} if setting.type is bool else {}
        group.add_argument(
            f"--{setting.name}",
            type=boolean if kind is bool else kind,
            metavar=kind.__name__.upper(),
            default=argparse.SUPPRESS,
            **optional,
            help=f"{meaning} ({values})".replace("%", "%%"),
        )
    return parser


def take_settings(flags: dict[str, Any], presets: Mapping[str, S]) -> S:
    """The preset with the flags that were given; takes all of them out of `flags`."""
    preset = presets[flags.pop("preset")]
    names = [field.name for field in dataclasses.fields(preset) if field.name in flags]
    return dataclasses.replace(preset, **{name: flags.pop(name) for name in names})


def exit_status(command: Callable[[], int], *, stop_message: str = STOPPED) -> int:
    """That of `command`, or 2 for wrong settings and 1 for a run that can't continue, with a line.

    Args:
      stop_message: the line where a signal ends it.
    """
    if not sys.stderr.isatty():  # transformers' bars, as of weights that are loaded, are not lines
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        return command()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, SharedError):
            print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: {without_package(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stop_message, file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads it, such as head, has read enough
        raise
    except Exception as error:
        refusal = _refused_by_the_system(error)
        if refusal is None or os.environ.get("ALIGNSET_LOG_LEVEL") == "DEBUG":
            raise
        print(
            f"error: {refusal}: make room, or let it be read and written (the run's folder, and "
            "TMPDIR); the same command resumes",
            file=sys.stderr,
        )
        return 1


def _refused_by_the_system(error: Exception) -> str | None:
    """The system's message, such as for a full disk: torch hides it behind its own error, and
    libraries in Rust give only its number."""
    for cause in (error, error.__context__):
        if isinstance(cause, OSError) and cause.errno:
            return str(cause)
    return str(error) if "(os error " in str(error) else None


def local_folder(text: str) -> Path:
    """Parses the path of a folder that is written to. A Path of a URL would be one below s3:,
    without a word."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is a URL, and a folder of this machine is written to: name one, such as "
            f"{Path(text).name or 'a'}"
        )
    return Path(text)


def whole_text(text: str) -> str:
    """Parses a text that a model reads. Bytes that are not UTF-8 reach a command as halves of
    characters, for which no model has a token."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise argparse.ArgumentTypeError(f"must be in UTF-8; got {text[:80]!r}")
    return text
