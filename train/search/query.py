"""Queries: terms with weights, which add up to one vector, and filters of the rows."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.train.errors import SettingsError

MAX_TEXT = 1000  # characters; a model reads its first 64 tokens or so
MAX_TERMS = 16
MAX_WEIGHT = 10.0
MAX_FILTER = 200  # characters of a host or a part of a caption
UNSAFE_SCORE = 0.5  # above which an image may be unsafe
_MIN_SUM = 1e-3  # of the sum of weights; below it the rest of a sum is noise


@dataclass(frozen=True)
class Term:
    """A part of a query.

    Attributes:
      kind: "text", "picture" or "key" (an image of the index).
      value: of "text" the text, of "key" the key; of "picture" a name of it.
      weight: how much of it; negative: away from it.
      vector: float32[d], unit length, of an image.
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
        if self.kind == "text" and len(self.value) > MAX_TEXT:
            raise SettingsError(
                f"a text must have at most {MAX_TEXT} characters; got {len(self.value)}"
            )
        if not (np.isfinite(self.weight) and 0 < abs(self.weight) <= MAX_WEIGHT):
            raise SettingsError(
                f"a weight must be a number other than 0 from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}; "
                f"got {self.weight}"
            )


@dataclass(frozen=True)
class Filters:
    """Which rows may be found.

    Attributes:
      host: this host or one below it: example.org has img.example.org too. Empty: any.
      caption: what the caption contains, in whatever case. Empty: anything.
      min_side, max_side: px of the shorter side; 0: any.
      safe: without those whose unsafe score is above UNSAFE_SCORE. Ones without a score stay.
    """

    host: str = ""
    caption: str = ""
    min_side: int = 0
    max_side: int = 0
    safe: bool = False

    def __post_init__(self) -> None:
        for name in ("host", "caption"):
            if len(getattr(self, name)) > MAX_FILTER:
                raise SettingsError(f"{name} must have at most {MAX_FILTER} characters")
        for name in ("min_side", "max_side"):
            if not 0 <= getattr(self, name) < 1 << 31:
                raise SettingsError(f"{name} must be a number of px, 0 or more")
        if self.max_side and self.max_side < self.min_side:
            raise SettingsError(
                f"max_side must be at least min_side; got {self.max_side} and {self.min_side}"
            )

    def row_mask(self, rows: pa.Table) -> np.ndarray | None:
        """bool[n]; None: all.

        Args:
          rows: has the columns host, caption, width, height and unsafe_score.
        """
        masks = []
        if self.host:
            host = self.host.lower().strip(".")
            same = pc.equal(rows["host"], host)
            masks.append(pc.or_(same, pc.ends_with(rows["host"], f".{host}")))
        if self.caption:
            masks.append(pc.match_substring(rows["caption"], self.caption, ignore_case=True))
        if self.min_side or self.max_side:
            shorter = pc.min_element_wise(rows["width"], rows["height"])
            masks.append(pc.greater_equal(shorter, self.min_side))
            if self.max_side:
                masks.append(pc.less_equal(shorter, self.max_side))
        if self.safe:
            unsafe = pc.greater(rows["unsafe_score"], UNSAFE_SCORE)
            masks.append(pc.invert(pc.fill_null(unsafe, False)))
        if not masks:
            return None
        return np.logical_and.reduce([mask.combine_chunks().to_numpy(False) for mask in masks])


@dataclass(frozen=True)
class SearchQuery:
    """A query.

    Attributes:
      terms: added up by their weights.
      fold: whether duplicates are one result.
    """

    terms: tuple[Term, ...]
    filters: Filters = field(default_factory=Filters)
    fold: bool = True

    def __post_init__(self) -> None:
        if not self.terms:
            raise SettingsError("the query is empty: pass a text, an image, or both")
        if len(self.terms) > MAX_TERMS:
            raise SettingsError(f"a query has at most {MAX_TERMS} terms; got {len(self.terms)}")


def weighted_sum(weights: list[float], vectors: np.ndarray) -> np.ndarray:
    """float32[d], unit length: the sum of the vectors by their weights.

    The paper adds the embeddings of an image and of a text, each of unit length (section 5.3 shows
    what that finds).

    Args:
      vectors: float32[n, d], unit length.

    Raises:
      SettingsError: the terms cancel each other out.
    """
    total = np.array(weights, np.float32) @ vectors
    length = float(np.linalg.norm(total))
    if length < _MIN_SUM * float(np.abs(weights).sum()):
        raise SettingsError("the terms cancel each other out: take one away, or weigh it less")
    return total / np.float32(length)
