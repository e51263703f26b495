"""The tasks of `alignset evaluate`, with their flags: the command's help, its page and the table in
docs/evaluation.md come from here. A task's code is the module of its name in train.evaluate.tasks.

Imports nothing that takes time: a wrong flag should not.
"""

import dataclasses
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from alignset.settings import Checked, between, setting
from alignset.train.errors import SettingsError
from alignset.train.runs.flags import local_folder, whole_text
from alignset.train.settings import COUNT

required = partial(setting, dataclasses.MISSING)
_ABOVE = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
_CACHE = Path(os.environ.get("ALIGNSET_CACHE") or Path(_ABOVE) / "alignset") / "features"


@dataclass(frozen=True, kw_only=True)
class TaskSettings(Checked):
    """Flags of every task.

    Attributes:
      does: what the task measures.
      right: what counts as a right answer.
      numbers: what the result has.
    """

    refusal = SettingsError
    does: ClassVar[str]
    right: ClassVar[str]
    numbers: ClassVar[str]

    model: str = required(
        "a run's folder; a saved AlignModel, CLIPModel or SiglipModel, or a published one's name; "
        "open_clip:NAME@WEIGHTS; each further --model is compared with the first",
        several="append",
        decides=False,
    )
    page: str = setting("", "also writes images, as HTML", decides=False, metavar="FILE")
    cache: Path = setting(  # noqa: RUF009
        _CACHE,
        "keeps embeddings here",
        decides=False,
        metavar="FOLDER",
        parse=local_folder,
    )
    batch_size: int = setting(64, "images embedded at once", decides=False, allowed=COUNT)


@dataclass(frozen=True, kw_only=True)
class RetrievalSettings(TaskSettings):
    does = "texts by images and images by texts"
    right = "an image's captions, and equal texts"
    numbers = "R@1, R@5, R@10, `mean_recall`, `median_rank`"

    data: str = required(
        "shards, named as train's --shards has them; a .json as Karpathy's splits; XM3600's "
        "captions.jsonl; a .csv or .tsv with columns image, caption, and if need be language and "
        "split; or, with --image_list, a caption in each line; LANGUAGE=FILE,... names one for "
        "each language",
    )
    images: str = setting("", "the folder of the images that a file names")
    image_list: str = setting(
        "",
        "a file with the name of an image in each line, as Multi30K and XTD10 have it; --data is "
        "then files of lines (en=raw/test.*.en.gz,de=...)",
    )
    split: str = setting("test", "of a file with splits; empty: all (test)")
    caption_lines: bool = setting(False, "each line of a shard's text is a caption of its image")
    caption_field: str = setting(
        "", "of a shard's KEY.json, which has the caption or a list of them; empty: KEY.txt"
    )
    captions_per_image: int = setting(
        0,
        "only so many in each language, the first; 0: all",
        allowed=between(0, words="0 (all) or more"),
    )


@dataclass(frozen=True, kw_only=True)
class ZeroShotSettings(TaskSettings):
    does = "zero-shot classification of images"
    right = "the image's class"
    numbers = "`top1`, `top5`, `mean_per_class`, `confused`"

    data: str = required(
        "a folder of images for each class; a .csv or .tsv with columns image, label, and if need "
        "be language and split; or shards with KEY.cls; like --classes and --prompts also as "
        "LANGUAGE=FILE,...",
    )
    images: str = setting("", "the folder of the images that a table names")
    split: str = setting("", "of a table with splits; empty: all")
    classes: str = setting(
        "",
        "a file with a line NAME, or LABEL, a tab, NAME, for each class; or imagenet, imagenet-a, "
        "imagenet-r, imagenet-v2, imagenet-sketch; Babel-ImageNet's .json, with de=FILE,... some "
        "of its languages; empty: the folders' names",
    )
    prompts: str = setting(
        "",
        "a sentence with {}; a file of such lines; a .json with a list for each class's name; or a "
        "dataset's of CLIP, as imagenet (80), food101, pets; empty: imagenet for its classes, else "
        "'a photo of a {}.'",
        parse=whole_text,
    )


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(TaskSettings):
    does = "classes by a linear classifier over frozen features"
    right = "the image's class"
    numbers = "as `zero_shot`, and the `strength`"

    data: str = required("images with classes to learn from, as zero_shot has them")
    test: str = required("images with classes to be told")
    classes: str = setting("", "their names, as of zero_shot; shards must have them")
    validation: str = setting(
        "", "images with classes to choose the strength with; empty: a fifth of each class"
    )


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings(TaskSettings):
    does = "zero-shot classification of pixels"
    right = "the mask's class"
    numbers = "`mean_iou`, `iou` of each class"

    data: str = required("a folder of images")
    masks: str = required("a folder with a .png of the same name for each image")
    classes: str = required("a file with a line for each class")
    first_value: int = setting(
        0, "the mask's value of the first class; values of no class do not count (0; ADE20K: 1)"
    )
    prompts: str = setting("", "as of zero_shot; empty: 'a photo of a {}.'", parse=whole_text)


@dataclass(frozen=True, kw_only=True)
class WordsSettings(TaskSettings):
    does = "how near words are, beside people's judgement"
    right = "people's order of the pairs"
    numbers = "`spearman`, of all and of nine `parts`"

    data: str = required(
        "a .csv or .tsv with columns word1, word2, and SimLex999, score or similarity"
    )
    prompt: str = setting("{}", "what is embedded of a word ({})", parse=whole_text)


@dataclass(frozen=True, kw_only=True)
class CrisscrossedSettings(TaskSettings):
    does = "Crisscrossed Captions: retrieval and judgements"
    right = "captions, and pairs judged near"
    numbers = "R@1, R@5, R@10 in four ways; `spearman` of three kinds of pairs"

    data: str = required("the folder with sits_test.csv, sts_test.csv, sis_test.csv")
    captions: str = required("Karpathy's dataset_coco.json")
    images: str = setting("", "the folder of MSCOCO's images")
    split: str = setting("test", "test or val (test)")


TASKS: dict[str, type[TaskSettings]] = {
    "retrieval": RetrievalSettings,
    "zero_shot": ZeroShotSettings,
    "probe": ProbeSettings,
    "segmentation": SegmentationSettings,
    "words": WordsSettings,
    "crisscrossed": CrisscrossedSettings,
}
