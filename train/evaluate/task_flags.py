"""The tasks, and the flags of each. Imports nothing that takes time: a wrong flag should not."""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignset.command_help import boolean
from alignset.train.runs.flags import Parser, local_folder, whole_text


@dataclass(frozen=True)
class Flag:
    """A flag of its default's type; one without a default is a text that must be given."""

    name: str
    meaning: str
    default: str | float | Path | None = ""
    metavar: str | None = None
    kind: Callable[[str], Any] | None = None  # its type, where it is another

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        kind = str if self.default is None else type(self.default)
        options: dict[str, Any] = {"type": self.kind or kind}
        if isinstance(self.default, bool):
            options = {"type": boolean, "nargs": "?", "const": True}
        parser.add_argument(
            f"--{self.name}",
            required=self.default is None,
            default=self.default,
            metavar=self.metavar,
            help=self.meaning,
            **options,
        )


@dataclass(frozen=True)
class Task:
    """One of `alignset evaluate TASK`; its code is the module train.evaluate.tasks.TASK."""

    does: str
    flags: tuple[Flag, ...]


def usual_cache() -> Path:
    """Where embeddings are kept: $ALIGNSET_CACHE, else the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ALIGNSET_CACHE") or Path(cache) / "alignset") / "features"


def _usual_flags() -> tuple[Flag, ...]:
    return (
        Flag(
            "model",
            "a run's folder; a saved AlignModel, CLIPModel or SiglipModel, or a published one's "
            "name; open_clip:NAME@WEIGHTS",
            None,
        ),
        Flag("page", "also writes images, as HTML", metavar="FILE"),
        Flag("cache", "keeps embeddings here", usual_cache(), "FOLDER", local_folder),
        Flag("batch_size", "images embedded at once", 64),
    )


_RETRIEVAL = (
    Flag(
        "data",
        "shards, named as train's --shards has them; a .json as Karpathy's splits; XM3600's "
        "captions.jsonl; a .csv or .tsv with columns image, caption, and if need be language and "
        "split; or, with --image_list, a caption in each line; LANGUAGE=FILE,... names one for "
        "each language",
        None,
    ),
    Flag("images", "the folder of the images that a file names"),
    Flag(
        "image_list",
        "a file with the name of an image in each line, as Multi30K and XTD10 have it; --data is "
        "then files of lines (en=raw/test.*.en.gz,de=...)",
    ),
    Flag("split", "of a file with splits; empty: all (test)", "test"),
    Flag("caption_lines", "each line of a shard's text is a caption of its image", False, "BOOL"),
    Flag(
        "caption_field",
        "of a shard's KEY.json, which has the caption or a list of them; empty: KEY.txt",
    ),
    Flag("captions_per_image", "only so many in each language, the first; 0: all", 0),
)
_ZERO_SHOT = (
    Flag(
        "data",
        "a folder of images for each class; a .csv or .tsv with columns image, label, and if need "
        "be language and split; or shards with KEY.cls; like --classes and --prompts also as "
        "LANGUAGE=FILE,...",
        None,
    ),
    Flag("images", "the folder of the images that a table names"),
    Flag("split", "of a table with splits; empty: all"),
    Flag(
        "classes",
        "a file with a line NAME, or LABEL, a tab, NAME, for each class; or imagenet, imagenet-a, "
        "imagenet-r, imagenet-v2, imagenet-sketch; Babel-ImageNet's .json, with de=FILE,... some "
        "of its languages; empty: the folders' names",
    ),
    Flag(
        "prompts",
        "a sentence with {}; a file of such lines; or a dataset's of CLIP, as imagenet (80), "
        "food101, pets; empty: imagenet for its classes, else 'a photo of a {}.'",
        kind=whole_text,
    ),
)
_PROBE = (
    Flag("data", "images with classes to learn from, as zero_shot has them", None),
    Flag("test", "images with classes to be told", None),
    Flag("classes", "their names, as of zero_shot; shards must have them"),
    Flag(
        "validation",
        "images with classes to choose the strength with; empty: a fifth of each class",
    ),
)
_SEGMENTATION = (
    Flag("data", "a folder of images", None),
    Flag("masks", "a folder with a .png of the same name for each image", None),
    Flag("classes", "a file with a line for each class", None),
    Flag(
        "first_value",
        "the mask's value of the first class; those of none do not count (0; ADE20K: 1)",
        0,
    ),
    Flag("prompts", "as of zero_shot; empty: 'a photo of a {}.'", kind=whole_text),
)
_WORDS = (
    Flag(
        "data",
        "a .csv or .tsv with columns word1, word2, and SimLex999, score or similarity",
        None,
    ),
    Flag("prompt", "what is embedded of a word ({})", "{}", kind=whole_text),
)
_CRISSCROSSED = (
    Flag("data", "the folder with sits_test.csv, sts_test.csv, sis_test.csv", None),
    Flag("captions", "Karpathy's dataset_coco.json", None),
    Flag("images", "the folder of MSCOCO's images"),
    Flag("split", "test or val (test)", "test"),
)

TASKS = {
    "retrieval": Task("texts by images and images by texts", _RETRIEVAL),
    "zero_shot": Task("classes told by their names alone", _ZERO_SHOT),
    "probe": Task("classes by a linear classifier over frozen features", _PROBE),
    "segmentation": Task("pixels told by the classes' names alone", _SEGMENTATION),
    "words": Task("how near words are, beside people's judgement", _WORDS),
    "crisscrossed": Task("Crisscrossed Captions: retrieval and judgements", _CRISSCROSSED),
}


def overview(name: str) -> str:
    """Tasks of the command: its help without a task."""
    lines = [f"  {task:<13} {of.does}" for task, of in TASKS.items()]
    return "\n".join(
        [
            f"usage: {name} TASK --model MODEL --data DATA [flags]",
            "",
            "Measures what a model is worth, and prints one JSON object.",
            "",
            *lines,
            "",
            f"{name} TASK --help shows the flags of a task.",
        ]
    )


def task_parser(name: str, task: str) -> Parser:
    does = TASKS[task].does
    parser = Parser(
        prog=f"{name} {task}",
        usage="%(prog)s [flags]",
        description=f"{does[0].upper()}{does[1:]}. Prints one JSON object.",
    )
    for flag in (*TASKS[task].flags, *_usual_flags()):
        flag.add_to(parser)
    return parser
