"""Flags out of a dataclass of settings, how a command of train/ ends, and what to pass in place of
the flags of open_clip's training and of earlier versions."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from alignset.called import CalledParser, end
from alignset.extras import explain_missing_package
from alignset.settings import Checked, First, add_flag, add_help, boolean
from alignset.train.errors import SettingsError, SharedError, TrainingError
from alignset.train.settings import RunSettings, ordered_fields

STOPPED = "stopped; the same command resumes from the last checkpoint"
S = TypeVar("S", bound=RunSettings)


class Parser(CalledParser):
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

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        args = self.add_call(args)
        for word in args or ():  # before the flags that are missing are named
            flag, name = word.partition("=")[0], word.partition("=")[0][2:].replace("-", "_")
            here = self._peers.get(name) if flag.startswith("--") else None
            if here and flag not in self._option_string_actions:
                raise SettingsError(f"{flag} is not a flag here: pass {here}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{self.misspelt() or message} ({self.prog} --help lists all flags)")


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
        options: dict[str, Any] = {"help": about["help"]}
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
        add_flag(group, setting.name, type_, about, {bool: boolean}, **options)


def settings_parser(
    name: str, description: str, first: First, presets: Mapping[str, S], **options: Any
) -> Parser:
    """A parser with `--help`, `--output`, `--preset`, and a flag for each field of the presets.

    Args:
      name: how the command was called.
      first: what the short help says.
      presets: the one called tiny is the default.
    """
    parser = Parser(prog=name, description=description, add_help=False, **options)
    about = {"dest": "run", "metavar": "FOLDER", "help": "of this run"}
    parser.add_argument("--output", "--run", required=True, type=local_folder, **about)
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
    """The status of `command`; with a line, 2 for wrong settings and 1 for a run that can't resume.

    Args:
      stop_message: the line where a signal ends it.
    """
    if not sys.stderr.isatty():  # transformers' bars, as of weights that are loaded, are not lines
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        return command()
    except SettingsError as error:
        return end("error", error, 2)
    except TrainingError as error:
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, SharedError):
            return end("error", error, 1)
        return 1
    except ModuleNotFoundError as error:
        return end("error", explain_missing_package(error), 2)
    except KeyboardInterrupt:
        print(stop_message, file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads it, such as head, has read enough
        raise
    except Exception as error:
        if is_out_of_memory(error):
            which = os.environ.get("LOCAL_RANK", "0")
            why = (
                f"out of memory (process {which} of this machine): pass a smaller "
                "--micro_batch_size, --batch_size where there is none, or --checkpoint_activations"
            )
            return end("error", why, 1)
        # The system's message, such as for a full disk: torch hides it behind its own error, and
        # libraries in Rust give only its number.
        of_system = (e for e in (error, error.__context__) if isinstance(e, OSError) and e.errno)
        refusal = next(of_system, error if "(os error " in str(error) else None)
        if refusal is None or os.environ.get("ALIGNSET_LOG_LEVEL") == "DEBUG":
            raise
        why = (
            f"{refusal}: make room, or let it be read and written (the run's folder, and TMPDIR); "
            "the same command resumes"
        )
        return end("error", why, 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU, or the machine, has no memory left: torch has no error of its own for that."""
    words = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # of CUDA, torch, CUBLAS
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


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


# Flags of open_clip 3.3 that have another name or none here.
OPEN_CLIP = {
    "train_data": "--shards, which takes the same names",
    "val_data": "--validate",
    "train_num_samples": "nothing: the samples of the shards are counted",
    "val_num_samples": "--validate_pairs",
    "train_data_upsampling_factors": "weights in --shards, as A::2,B::1",
    "dataset_type": "nothing: shards are WebDataset's",
    "dataset_resampled": "nothing: an epoch has each sample once",
    "csv_img_key": "nothing: shards are trained on, which alignset curate makes",
    "csv_caption_key": "--caption_field, of KEY.json",
    "name": "--output, the folder",
    "logs": "--output, the folder",
    "model": "--image_tower and --text_tower, or --preset",
    "pretrained": "--start_from (an AlignModel), or --image_weights and --text_weights",
    "pretrained_image": "--image_weights",
    "resume": "nothing: the same command resumes from the last checkpoint in --output",
    "lr": "--learning_rate",
    "lr_scheduler": "--schedule",
    "epochs_cooldown": "--cooldown_steps, with --schedule=constant",
    "wd": "--weight_decay",
    "warmup": "--warmup_steps",
    "opt": "--optimizer",
    "accum_freq": (
        "--micro_batch_size: --batch_size counts the pairs of a step over all processes and parts"
    ),
    "siglip": "--loss=sigmoid",
    "lock_image": "--freeze=image",
    "lock_text": "--freeze=text",
    "grad_checkpointing": "--checkpoint_activations",
    "grad_clip_norm": "--max_gradient_norm",
    "torchcompile": "--compile",
    "local_loss": "nothing: it always is",
    "gather_with_grad": "nothing: it always is",
    "workers": "--decode_threads",
    "save_frequency": "--checkpoint_every, in steps",
    "val_frequency": "--validate_every, in steps",
    "zeroshot_frequency": "--validate_every, in steps",
    "log_every_n_steps": "--log_every",
    "imagenet_val": "--validate_classes",
    "report_to": "--trackers",
    "wandb_project_name": "--trackers=module:name, a tracker of your own",
}
# Flags of earlier versions that changed nothing learned: a run may resume without them.
EARLIER = dict.fromkeys(
    ("wandb_project", "wandb_entity", "wandb_name", "wandb_tags"),
    "--trackers=module:name, a tracker of your own (docs/train.md)",
)
