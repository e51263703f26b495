"""The largest groups of images with the same bytes, as documents have them, and what is told of
near-duplicates. `copy_pictures.py` makes it.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace

from msgspec import UNSET, UnsetType

from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.transforms.columns.records import RECORDS
from alignset.transforms.shards.shard_stats import NearDuplicates
from alignset.transforms.storage.documents import find_document, write_document

PICTURES = f"{RECORDS}/copies.pictures"  # beside the records


@dataclass(frozen=True)
class GroupPicture:
    """A content, how many images have it, and its image: a JPEG in base64, or ""."""

    images: int
    content: str
    picture: str = ""


@dataclass(frozen=True)
class CopyPictures:
    """`report/copies.pictures`: the largest groups of images with the same bytes."""

    groups: list[GroupPicture] = field(default_factory=list)
    near: NearDuplicates = field(default_factory=NearDuplicates)


def publish_copies(out: str, work: WorkFolder) -> NearDuplicates | UnsetType:
    """Brings what was found beside the records; returns what the funnel says of near-duplicates."""
    pictures = find_document(work.copy_pictures, CopyPictures)
    if pictures is None:
        return UNSET
    write_document(f"{out}/{PICTURES}", pictures)
    return pictures.near


def forget_contents(out: str, contents: Container[int]) -> None:
    """Removes groups with an image that is taken down."""
    pictures = find_document(f"{out}/{PICTURES}", CopyPictures)
    if pictures is not None:
        groups = [group for group in pictures.groups if int(group.content, 16) not in contents]
        write_document(f"{out}/{PICTURES}", replace(pictures, groups=groups))
