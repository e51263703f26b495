"""A shard's `_stats.json`, and its sums in the documents of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from msgspec import UNSET, UnsetType

from alignset.transforms.rules import given
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.storage.documents import Counts, add_by_name, encode_document


@dataclass(frozen=True)
class ShardStats:
    """img2dataset's stats without its clock, so that a shard's files are always the same, and the
    counts of the funnel.

    Attributes:
      bytes_downloaded: bytes of all images, those that were dropped too.
      count: how many pairs the shard was given. successes: how many of them it holds.
      failed_to_download, failed_to_resize: as img2dataset counts them.
      reasons: how many pairs were dropped for each reason.
      sha256: of the tar, in hex; None where nothing is kept, and so there is none.
      shard: its number in its folder. holdout: true in the folder of what is held out.
      status_dict: how many pairs came to each end: `success`, or `reason: detail`.
      opted_out: how many that are kept state each opt-out that is only reported.
      connections: that the worker had open at once while it wrote the shard; limited_by: what
        limited them at its end. Neither is in the file, which would differ from run to run.
    """

    bytes_downloaded: int
    count: int
    failed_to_download: int
    failed_to_resize: int
    reasons: dict[str, int]
    sha256: str | None
    shard: int
    status_dict: dict[str, int]
    successes: int
    holdout: bool | UnsetType = UNSET
    opted_out: dict[str, int] | UnsetType = UNSET
    connections: int | UnsetType = UNSET
    limited_by: str | UnsetType = UNSET

    @property
    def number(self) -> int:
        """The number of the shard among all."""
        return self.shard if isinstance(self.holdout, UnsetType) else self.shard + HOLDOUT

    @property
    def counts(self) -> Counts:
        return Counts(self.count, self.successes, self.reasons)

    def encode(self) -> bytes:
        """The bytes of the file, which has no line break at its end."""
        document = replace(self, connections=UNSET, limited_by=UNSET)
        return encode_document(document).rstrip(b"\n")


@dataclass(frozen=True)
class Asked:
    """How many images of a shard came, and how many were not requested, since another dataset knows
    them: a document in the work folder, where there are such datasets."""

    fetched: int = 0
    known: int = 0


@dataclass(frozen=True)
class FailingHost:
    """A host, how many fetches of it failed, and with which details."""

    details: dict[str, int]
    failed: int
    host: str


@dataclass(frozen=True)
class SharedContents:
    """How many images have the bytes of another, and how many such contents there are.

    An image is a URL: several alt-texts of one image are not duplicates.
    """

    images: int = 0
    contents: int = 0


@dataclass(frozen=True)
class NearDuplicates:
    """How many images have the perceptual hash of another with other bytes; how many pairs of such
    were compared, and how many of these show one image.

    Where `--duplicates=near` took near-duplicates out, `images` are the graphics that look like
    another and stay, and `distances` says how many images are how far from the nearest that they
    were compared with, in equal bins from 0 to 1.
    """

    images: int = 0
    compared: int = 0
    alike: int = 0
    distances: list[int] | UnsetType = UNSET

    @property
    def estimate(self) -> int:
        """How many images are near-duplicates, about, of those that an equal hash finds; or how
        many graphics are, where these alone stay."""
        if not isinstance(self.distances, UnsetType):
            return self.images
        return round(self.images * self.alike / max(1, self.compared))


@dataclass(frozen=True)
class Copies:
    """Copies in a dataset, or in a part of it.

    Attributes:
      dropped: how many pairs leave for each reason.
      graphics, distances: where near-duplicates were looked for, how many graphics are near another
        image and stay, and how many images are how far from the nearest they were compared with.
    """

    dropped: dict[str, int] = field(default_factory=dict)
    graphics: int = 0
    distances: list[int] = field(default_factory=list)


def add_copies(parts: Iterable[Copies]) -> Copies:
    """Adds up what was found in parts."""
    copies = list(parts)
    return Copies(
        add_by_name(part.dropped for part in copies),
        sum(part.graphics for part in copies),
        [sum(of) for of in zip_longest(*(part.distances for part in copies), fillvalue=0)],
    )


def shard_stats(
    shard: int,
    reasons: Sequence[str | None],
    details: Sequence[str | None],
    *,
    size: int,
    sha256: str | None,
    opted_out: Iterable[str | None] = (),
) -> ShardStats:
    """The stats of a shard.

    Args:
      reasons, details: of each pair; None where there is none.
      size: bytes of all images. sha256: of the tar, in hex; None where there is none.
      opted_out: the column `opted_out` of the kept: what is only reported, comma-separated.
    """
    counts = Counter(reason or "success" for reason in reasons)
    status = Counter(
        "success" if reason is None else f"{reason}: {detail}" if detail else reason
        for reason, detail in zip(reasons, details, strict=True)
    )
    reported = Counter(name for names in opted_out if names for name in names.split(","))
    return ShardStats(
        holdout=True if shard >= HOLDOUT else UNSET,
        bytes_downloaded=size,
        count=len(reasons),
        failed_to_download=counts[given.FETCH_FAILED],
        failed_to_resize=counts[given.NOT_AN_IMAGE] + counts[given.UNDECODABLE],
        reasons={reason: n for reason, n in sorted(counts.items()) if reason != "success"},
        sha256=sha256,
        shard=shard % HOLDOUT,
        status_dict=dict(sorted(status.items())),
        successes=counts["success"],
        opted_out=dict(sorted(reported.items())) or UNSET,
    )
