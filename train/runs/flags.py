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
from alignset.settings import Checked
from alignset.train.errors import SettingsError, SharedError, TrainingError
from alignset.train.settings import RunSettings, ordered_fields

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


def add_settings(
    parser: argparse.ArgumentParser,
    kind: type[Checked],
    presets: Mapping[str, Checked] | None = None,
) -> None:
    """Adds a flag for each field of settings. Its metadata may have a `group`, a title that begins
    there; a `metavar`; and a `parse`, where the field's type does not parse a value.

    Args:
      presets: whose values the help shows; a flag that is not given is then not among the parsed
        ones. None: it has its field's default, and must be given where that has none.
    """
    group: argparse._ActionsContainer = parser
    for setting in ordered_fields(kind):
        about = setting.metadata
        if about.get("group", "") not in ("", getattr(group, "title", "")):
            group = parser.add_argument_group(about["group"])
        type_: Any = setting.type  # not a string, which postponed annotations are
        options: dict[str, Any] = {"metavar": about.get("metavar"), "help": about["help"]}
        options["type"] = about.get("parse") or (boolean if type_ is bool else type_)
        if type_ is bool:
            options |= {"nargs": "?", "const": True, "metavar": "BOOL"}
        if presets is None:
            is_required = setting.default is dataclasses.MISSING
            options |= {
                "required": is_required,
                "default": None if is_required else setting.default,
            }
        else:
            names: dict[str, list[str]] = {}  # of presets, by the value
            for name, preset in presets.items():
                names.setdefault(str(getattr(preset, setting.name)) or "empty", []).append(name)
            values = [f"{v} in {', '.join(n[:3])}{' ...' * bool(n[3:])}" for v, n in names.items()]
            meaning = f"{about['help']} ({'; '.join(values)})".replace("%", "%%")
            options |= {"metavar": type_.__name__.upper(), "default": argparse.SUPPRESS}
            options["help"] = meaning
        group.add_argument(f"--{setting.name}", **options)


def settings_parser(
    name: str, description: str, first: First, presets: Mapping[str, S], **options: Any
) -> Parser:
    """A parser with `--help`, `--run`, `--preset`, and a flag for each field of the presets' class.

    Args:
      name: how the command was called.
      first: what the short help says.
      presets: the one called tiny is the default.
    """
    parser = Parser(prog=name, description=description, add_help=False, **options)
    parser.add_argument("--run", required=True, type=local_folder, help="folder of this run")
    add_help(parser, first, {"preset": "tiny", **dataclasses.asdict(presets["tiny"])})
    parser.add_argument(
        "--preset",
        default="tiny",
        choices=presets,
        metavar="NAME",
        help=f"which values: {', '.join(presets)} (default: tiny)",
    )
    add_settings(parser, type(presets["tiny"]), presets)
    return parser


def take_settings(flags: dict[str, Any], presets: Mapping[str, S]) -> S:
    """The preset with the flags that were given; takes all of them out of `flags`.

    Raises:
      SettingsError: a flag does not go with another, by its metadata, or its value is not allowed.
    """
    preset = presets[flags.pop("preset")]
    given = {f.name: flags.pop(f.name) for f in dataclasses.fields(preset) if f.name in flags}
    for field in dataclasses.fields(preset):
        for brought in field.metadata.get("brings", "").split() if given.get(field.name) else ():
            if brought in given:
                raise SettingsError(f"--{brought} is what --{field.name} brings: leave it out")
    for field in dataclasses.fields(preset):
        for needed in field.metadata["needs"] if field.name in given else ():
            if not given.get(needed):
                raise SettingsError(
                    f"--{field.name} is of no use without --{needed}=SHARDS: add that"
                )
    return dataclasses.replace(preset, **given)


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
        # The system's message, such as for a full disk: torch hides it behind its own error, and
        # libraries in Rust give only its number.
        of_system = (e for e in (error, error.__context__) if isinstance(e, OSError) and e.errno)
        refusal = next(of_system, error if "(os error " in str(error) else None)
        if refusal is None or os.environ.get("ALIGNSET_LOG_LEVEL") == "DEBUG":
            raise
        print(
            f"error: {refusal}: make room, or let it be read and written (the run's folder, and "
            "TMPDIR); the same command resumes",
            file=sys.stderr,
        )
        return 1


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
