"""A query's terms, each a text or a picture with a weight, and the vector that they add up to."""

from dataclasses import dataclass

import numpy as np

from alignset.train.errors import SettingsError

LONGEST_TEXT = 1000  # characters; a model reads its first 64 tokens or so
MOST_TERMS = 16
MAX_WEIGHT = 10.0
_SHORTEST = 1e-3  # of the sum of weights; below it what is left of a sum is noise


@dataclass(frozen=True)
class Term:
    """A part of a query.

    Attributes:
      kind: "text", "picture" or "key" (a picture of the index).
      weight: how much of it; negative: away from it.
      value: of "text" the text, of "key" the key; of "picture" a name of it.
      vector: float32[d], unit length, where it is known already, as of a picture.
    """

    kind: str
    value: str
    weight: float = 1.0
    vector: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.value.strip():
            raise SettingsError(
                f"an empty {self.kind} finds nothing: write what to look for, such as a red car"
            )
        if self.kind == "text" and len(self.value) > LONGEST_TEXT:
            raise SettingsError(
                f"a text must have at most {LONGEST_TEXT} characters; got {len(self.value)}"
            )
        if not (np.isfinite(self.weight) and 0 < abs(self.weight) <= MAX_WEIGHT):
            raise SettingsError(
                f"a weight must be a number other than 0 from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}; "
                f"got {self.weight}"
            )


def check_terms(terms: list[Term]) -> None:
    """Raises SettingsError where there is nothing to look for, or too much."""
    if not terms:
        raise SettingsError("the query is empty: give a text, a picture, or both")
    if len(terms) > MOST_TERMS:
        raise SettingsError(f"a query has at most {MOST_TERMS} terms; got {len(terms)}")


def added_up(weights: list[float], vectors: np.ndarray) -> np.ndarray:
    """float32[d], unit length: the sum of the vectors by their weights.

    The paper adds the embeddings of a picture and of a text, each of unit length (section 5.3 shows
    what that finds).

    Args:
      vectors: float32[n, d], unit length.

    Raises:
      SettingsError: the terms cancel each other out.
    """
    total = np.array(weights, np.float32) @ vectors
    length = float(np.linalg.norm(total))
    if length < _SHORTEST * float(np.abs(weights).sum()):
        raise SettingsError("the terms cancel each other out: take one away, or weigh it less")
    return total / np.float32(length)
