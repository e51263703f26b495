"""Flags out of a dataclass of settings, and how a command of train/ ends."""

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

from alignset.command_help import boolean
from alignset.train.errors import SettingsError, SharedError, TrainingError

STOPPED = "stopped; the same command resumes from the last checkpoint"


class AnySettings(Protocol):
    """A dataclass of settings, whatever it is of."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


S = TypeVar("S", bound=AnySettings)


class Parser(argparse.ArgumentParser):
    """Raises SettingsError where argparse prints its usage and ends the program.

    Args:
      peers: what to pass in place of a similar tool's flags.
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
                    raise SettingsError(f"{flag} is open_clip's: here pass {here}")
        raise SettingsError(f"{message} ({self.prog} --help lists all flags)")


def add_settings(
    parser: Parser, presets: Mapping[str, S], default: str, groups: Mapping[str, str]
) -> None:
    """`--preset`, and a flag for each field of the presets' class.

    Args:
      groups: what the fields from one on are about, by that field's name.
    """
    parser.add_argument(
        "--preset",
        default=default,
        choices=presets,
        metavar="NAME",
        help=f"which values: {', '.join(presets)} (default: {default})",
    )
    group: argparse._ActionsContainer = parser
    for setting in dataclasses.fields(presets[default]):
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
        print(
            f"error: the package {error.name} is not installed for {sys.executable}: run this with "
            ".venv/bin/python (make demo makes it), or pip install '.[train,search]' in a clone",
            file=sys.stderr,
        )
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
