"""The tasks, and the flags of each. Imports nothing that takes time: a wrong flag should not."""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from train.runs.flags import Parser, boolean

Add = Callable[[argparse.ArgumentParser], None]


@dataclass(frozen=True)
class Task:
    """One of `python -m train.evaluate TASK`; its code is the module train.evaluate.tasks.TASK."""

    does: str
    add_flags: Add


def usual_cache() -> Path:
    """Where embeddings are kept: $ALIGNSET_CACHE, else the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ALIGNSET_CACHE") or Path(cache) / "alignset") / "features"


def _text(
    parser: argparse.ArgumentParser, name: str, meaning: str, default: str | None = ""
) -> None:
    """A flag that is a text; without a default it must be given."""
    parser.add_argument(f"--{name}", required=default is None, default=default, help=meaning)


def _number(parser: argparse.ArgumentParser, name: str, meaning: str, default: float) -> None:
    parser.add_argument(f"--{name}", type=type(default), default=default, help=meaning)


def add_usual_flags(parser: argparse.ArgumentParser) -> None:
    _text(
        parser,
        "model",
        "a run's folder; a saved AlignModel, CLIPModel or SiglipModel, or a published one's name; "
        "open_clip:NAME@WEIGHTS; stand-in",
        None,
    )
    parser.add_argument("--page", metavar="FILE", default="", help="also writes pictures, as HTML")
    parser.add_argument(
        "--cache", type=Path, default=usual_cache(), metavar="FOLDER", help="keeps embeddings here"
    )
    _number(parser, "batch_size", "images embedded at once", 64)


def retrieval(parser: argparse.ArgumentParser) -> None:
    _text(
        parser,
        "data",
        "shards, named as train's --shards has them; a .json as Karpathy's splits; or a .csv or "
        ".tsv with columns image, caption, and if need be language and split",
        None,
    )
    _text(parser, "images", "the folder of the images that a file names")
    _text(parser, "split", "of a file with splits; empty: all (test)", "test")
    parser.add_argument(
        "--caption_lines",
        type=boolean,
        nargs="?",
        const=True,
        default=False,
        metavar="BOOL",
        help="each line of a shard's text is a caption of its image",
    )
    _text(
        parser,
        "caption_field",
        "of a shard's KEY.json, which has the caption or a list of them; empty: KEY.txt",
    )
    _number(parser, "captions_per_image", "only so many, the first; 0: all", 0)


def zero_shot(parser: argparse.ArgumentParser) -> None:
    _text(
        parser,
        "data",
        "a folder of images for each class; a .csv or .tsv with columns image and label; or shards "
        "with KEY.cls",
        None,
    )
    _text(parser, "images", "the folder of the images that a table names")
    _text(parser, "split", "of a table with splits; empty: all")
    _text(
        parser,
        "classes",
        "a file with a line NAME, or LABEL, a tab, NAME, for each class; or imagenet, imagenet-a, "
        "imagenet-r, imagenet-v2, imagenet-sketch; empty: the folders' names",
    )
    _text(
        parser,
        "prompts",
        "a sentence with {}; a file of such lines; or a set's of CLIP, as imagenet (80), food101, "
        "pets; empty: imagenet for its classes, else 'a photo of a {}.'",
    )


def _labelled_sets(parser: argparse.ArgumentParser) -> None:
    _text(parser, "data", "images with classes to learn from, as zero_shot has them", None)
    _text(parser, "test", "images with classes to be told", None)
    _text(parser, "classes", "their names, as of zero_shot; shards must have them")


def knn(parser: argparse.ArgumentParser) -> None:
    _labelled_sets(parser)
    _number(parser, "k", "nearest images that vote (1)", 1)
    _number(parser, "temperature", "a vote is exp(cosine / this) (0.07)", 0.07)


def probe(parser: argparse.ArgumentParser) -> None:
    _labelled_sets(parser)
    _text(
        parser,
        "validation",
        "images with classes to choose the strength with; empty: a fifth of each class",
    )


def segmentation(parser: argparse.ArgumentParser) -> None:
    _text(parser, "data", "a folder of images", None)
    _text(parser, "masks", "a folder with a .png of the same name for each image", None)
    _text(parser, "classes", "a file with a line for each class", None)
    _number(
        parser,
        "first_value",
        "the mask's value of the first class; those of none do not count (0; ADE20K: 1)",
        0,
    )
    _text(parser, "prompts", "as of zero_shot; empty: 'a photo of a {}.'")


def words(parser: argparse.ArgumentParser) -> None:
    _text(
        parser,
        "data",
        "a .csv or .tsv with columns word1, word2, and SimLex999, score or similarity",
        None,
    )
    _text(parser, "prompt", "what is embedded of a word ({})", "{}")


def crisscrossed(parser: argparse.ArgumentParser) -> None:
    _text(parser, "data", "the folder with sits_test.csv, sts_test.csv, sis_test.csv", None)
    _text(parser, "captions", "Karpathy's dataset_coco.json", None)
    _text(parser, "images", "the folder of MSCOCO's images")
    _text(parser, "split", "test or val (test)", "test")


def suite(parser: argparse.ArgumentParser) -> None:
    _text(parser, "data", "a YAML with the data sets and their tasks", None)
    _text(parser, "out", "a folder for the results and the table", None)


TASKS = {
    "retrieval": Task("texts by images and images by texts", retrieval),
    "zero_shot": Task("classes told by their names alone", zero_shot),
    "knn": Task("classes by the nearest labelled images", knn),
    "probe": Task("classes by a linear classifier over frozen features", probe),
    "segmentation": Task("pixels told by the classes' names alone", segmentation),
    "words": Task("how near words are, beside people's judgement", words),
    "crisscrossed": Task("Crisscrossed Captions: retrieval and judgements", crisscrossed),
    "suite": Task("all of these over a YAML of data sets, with one table", suite),
}


def overview(name: str) -> str:
    """What the command can do: its help without a task."""
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
    TASKS[task].add_flags(parser)
    add_usual_flags(parser)
    return parser


def suite_flags(task: str, words: list[str]) -> argparse.Namespace:
    """A task's flags, as a suite gives them.

    Raises:
      SettingsError: one is missing, or is none of the task's.
    """
    return task_parser("python -m train.evaluate", task).parse_args(words)
