"""What the documents of a run say of evaluation images."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationFile:
    """A file of evaluation images: an image, a tar of them, or Parquet with a column of them."""

    name: str  # of the evaluation set
    path: str
    bytes: int = 0


@dataclass(frozen=True)
class EvaluationSet:
    """How many images a set has, and how many more cannot be decoded."""

    images: int = 0
    unreadable: int = 0
