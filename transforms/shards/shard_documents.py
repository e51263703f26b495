"""What the documents of a run say of its shards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FailingHost:
    """A host, how many fetches of it failed, and with which details."""

    details: dict[str, int]
    failed: int
    host: str


@dataclass(frozen=True)
class NearDuplicates:
    """How many images have the perceptual hash of another, and how many such hashes there are.

    An image is a URL: several alt-texts of one image are no duplicates.
    """

    images: int = 0
    hashes: int = 0
