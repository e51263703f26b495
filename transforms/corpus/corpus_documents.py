"""The corpus in a run's documents: its vocabulary, and files of hashes."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import UNSET, UnsetType


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
