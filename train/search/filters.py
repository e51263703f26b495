"""Which rows a search may find: by host, size and caption."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.train.errors import SettingsError

LONGEST = 200  # characters of a host or a part of a caption
UNSAFE_SCORE = 0.5  # above which a picture may be unsafe


@dataclass(frozen=True)
class Filters:
    """What the rows of a search have to be.

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
            if len(getattr(self, name)) > LONGEST:
                raise SettingsError(f"{name} must have at most {LONGEST} characters")
        for name in ("min_side", "max_side"):
            if not 0 <= getattr(self, name) < 1 << 31:
                raise SettingsError(f"{name} must be a number of px, 0 or more")
        if self.max_side and self.max_side < self.min_side:
            raise SettingsError(
                f"max_side must be at least min_side; got {self.max_side} and {self.min_side}"
            )

    def wanted(self, rows: pa.Table) -> np.ndarray | None:
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
