"""The corpus in a run's documents: its vocabulary, files of hashes, and how often texts and images
are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from alignset.transforms.storage.files import local_copy, open_to_read


@dataclass(frozen=True)
class HashFile:
    """A file of hashes: its path, its size in bytes, and their SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str

    @property
    def members(self) -> int:
        """How many it holds."""
        return self.bytes // 8


@dataclass(frozen=True)
class CountClass:
    """The n-grams that occur from `min_count` to `max_count` times: how many there are, and how
    often all of them occur."""

    max_count: int
    min_count: int
    ngrams: int
    occurrences: int


@dataclass(frozen=True)
class VocabularyFile:
    """The file of a vocabulary as the manifest tells of it; `hashes` says of what they are."""

    bytes: int
    path: str
    sha256: str
    hashes: str


@dataclass(frozen=True)
class LanguageVocabulary:
    """As of `VocabularySummary`, of one language."""

    cut_off_count: int
    ngrams: int
    share_of_occurrences: float
    vocabulary: int


@dataclass(frozen=True)
class VocabularySummary:
    """Counts of n-grams in a corpus and in its vocabulary.

    Attributes:
      by_count: the n-grams that occur once, twice, 3 to 10, 11 to 100 times, and so on, up to the
        most frequent.
      cut_off_count: of the n-grams that occur so often some or all are left out; 0 where none is.
      ngrams: distinct ones. occurrences: of all.
      share_of_occurrences: of the two; 1.0 of nothing.
      vocabulary: how many n-grams are kept.
      file: only the manifest tells of it. languages: where a vote found the texts' languages. For a
    vocabulary that was passed, `vocabulary` and `file` alone are known.
    """

    by_count: list[CountClass] | UnsetType = UNSET
    cut_off_count: int | UnsetType = UNSET
    ngrams: int | UnsetType = UNSET
    occurrences: int | UnsetType = UNSET
    occurrences_in_vocabulary: int | UnsetType = UNSET
    share_of_occurrences: float | UnsetType = UNSET
    vocabulary: int = 0
    file: VocabularyFile | UnsetType = UNSET
    languages: dict[str, LanguageVocabulary] | UnsetType = UNSET


@dataclass(frozen=True)
class CountSpread:
    """How many things have which number of partners, as texts have images.

    Attributes:
      least: ascending, of each bin; it ends before the next one's.
      things: how many there are in each bin. partners: how many they have together.
    """

    least: list[int] = field(default_factory=list)
    things: list[int] = field(default_factory=list)
    partners: list[int] = field(default_factory=list)


def spread_of(counts: npt.NDArray[np.int64], limit: int) -> CountSpread:
    """The spread of counts of 1 and more, in bins 1 to 10, 11 to 20, 21 to 50, 51 to 100 and so on.

    Args:
      limit: a bin ends with it too.
    """
    powers = [scale * 10**power for power in range(1, 12) for scale in (1, 2, 5)]
    least = np.array(sorted({*range(1, 11), *(end + 1 for end in (*powers, limit))}))
    places = np.searchsorted(least, counts, "right") - 1
    things = np.bincount(places, minlength=len(least))
    partners = np.bincount(places, counts, minlength=len(least)).astype(np.int64)
    nonempty = np.flatnonzero(things)
    return CountSpread(
        least[nonempty].tolist(), things[nonempty].tolist(), partners[nonempty].tolist()
    )


def add_spreads(spreads: Iterable[CountSpread]) -> CountSpread:
    """Adds up counts of one limit."""
    bins: dict[int, tuple[int, int]] = {}
    for spread in spreads:
        for least, things, partners in zip(
            spread.least, spread.things, spread.partners, strict=True
        ):
            before = bins.get(least, (0, 0))
            bins[least] = before[0] + things, before[1] + partners
    ends = sorted(bins)
    return CountSpread(ends, [bins[e][0] for e in ends], [bins[e][1] for e in ends])


NAME = "vocabulary.u64"  # little-endian uint64, ascending, without repeats or a header
HASHING = (
    "a word: XXH64 (seed 0) of its UTF-8 bytes, filled up with NULs to a multiple of 8; "
    "a bigram: XXH64 of both words' hashes, 16 bytes little-endian"
)
# Added where a vote found the texts' languages.
BY_LANGUAGE = "; of another language than English: XXH64 of that and of its code's, 16 bytes"
PIECE = 1 << 20  # bytes read at once


def check_vocabulary(path: str) -> HashFile:
    """Reads a file of hashes through, a piece at a time: 100 million are 800 MB.

    Raises:
      ValueError: it is empty, or not whole, or not ascending.
      OSError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    before = np.zeros(0, "<u8")
    with open_to_read(local_copy(path)) as source:
        while piece := source.read(PIECE):
            digest.update(piece)
            size += len(piece)
            if len(piece) % 8:
                continue  # the last one: a file gives whole pieces
            hashes = np.concatenate([before, np.frombuffer(piece, "<u8")])
            if not np.all(hashes[1:] > hashes[:-1]):
                raise ValueError("its hashes are not ascending without repeats")
            before = hashes[-1:]
    if size % 8:
        raise ValueError(f"it has {size} bytes, no multiple of 8")
    if not size:
        raise ValueError("it is empty, and every text that has a word would be dropped")
    return HashFile(path, size, digest.hexdigest())
