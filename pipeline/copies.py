"""Copies of images in a dataset: what finds them, and what that costs."""

from __future__ import annotations

from alignset.pipeline.curate import Places
from alignset.pipeline.settings import Settings
from alignset.pipeline.shown_texts import core_time
from alignset.transforms.duplicates.contents import CopyRules
from alignset.transforms.duplicates.find_copies import FindCopies, bucket_count
from alignset.transforms.duplicates.near_groups import cell_count

# CPU-seconds of a photograph of 640x480 that is decoded small and described; and in colour.
DESCRIBED_S, LOOKED_AT_S = 0.001, 0.002


def descriptors_folder(settings: Settings, places: Places) -> str:
    """Where training images are described while they come; "" where nothing asks for it."""
    cleans = settings.holdout and settings.holdout_copies == "drop"
    return f"{places.work.path}/descriptors" if cleans else ""


def describing_cost(pairs: int, *, near: bool = False) -> str:
    """One line about the images of finished shards, which nobody has described."""
    if near:
        return f"looking at all images for near-duplicates: about {core_time(pairs * LOOKED_AT_S)}"
    return f"looking for held-out images in training: about {core_time(pairs * DESCRIBED_S)}"


def find_copies(rules: CopyRules, places: Places, pairs: int, descriptors: str = "") -> FindCopies:
    """Finds copies among so many pairs, about, and writes down what leaves.

    Args:
      descriptors: a folder of the training images' descriptors; "" where held-out images are only
        compared by their bytes.
    """
    how = places.blocks, bucket_count(pairs), cell_count(pairs), descriptors
    return FindCopies(places.out, places.work.leaving, places.work.path, rules, *how)
