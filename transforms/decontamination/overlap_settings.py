"""How images are compared with evaluation images, and what a run's documents say of these."""

# No `from __future__ import annotations` here: options.py reads the fields' types.
from dataclasses import dataclass

from alignset.settings import Checked, setting

DESCRIPTOR_SHA256 = "928782ff7bc9c61ce76e9a0fd41892d16360998e95e599b79fa830ea7e5ad98a"
# What decides an index of the same images, and what is found in it: the numbers of another network
# mean other things; another format where files of the same names do, or the check finds other
# copies.
INDEX_SETTINGS = {"measure": "copy", "descriptor": DESCRIPTOR_SHA256, "format": "7"}


@dataclass(frozen=True)
class EvaluationFile:
    """A file of evaluation images: an image, a tar of them, or Parquet with a column of them."""

    name: str  # of the evaluation set
    path: str
    bytes: int = 0


@dataclass(frozen=True)
class EvaluationSet:
    """How many images a dataset has, and how many more cannot be decoded."""

    images: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class OverlapSettings(Checked):
    """How images near an evaluation image are handled. Flags are named after these fields."""

    decontaminate_only: bool = setting(
        False,
        "drop copies of evaluation images alone; other rules are off unless passed",
        needs="images eval_images",
        decides=False,
    )
    score_only: bool = setting(
        False,
        "add NSFW scores, hashes and distances, and drop only what has no image; rules "
        "are off unless passed",
        needs="images",
        decides=False,
    )
    eval_index: str = setting(
        "",
        "folder of the index of evaluation images (default: OUT.eval_index), which later "
        "runs use too; without --eval_images it must be there",
        step="images",
        needs="images eval_images",
        decides=False,
    )

    def check(self) -> None:
        if self.decontaminate_only and self.score_only:
            raise ValueError("decontaminate_only drops what score_only keeps: pass one of them")
