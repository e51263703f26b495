"""Which pairs are held out of training: all pairs of some images, chosen by their URLs alone.

All pairs of one image are on one side. It is the same side in every dataset that holds out as large
a share or a larger one, whatever else is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from alignset.transforms.columns.hashing import Bools
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpack

_LOW = np.uint64((1 << 32) - 1)


def held_out(urls: pa.StringArray, share: float) -> Bools:
    """Which pairs are held out.

    Args:
      urls: string[n], no nulls, valid UTF-8.
      share: of all images, from 0 to 1.

    Returns:
      bool[n].
    """
    hashes, _, _ = url_hashes(urls)
    return (hashes & _LOW) < np.uint64(round(share * (1 << 32)))


def held_out_share(holdout: float, kept_count: int) -> float:
    """The share of all images that is held out.

    Args:
      holdout: that share if it is below 1, else about how many pairs.
      kept_count: how many pairs there are.
    """
    return holdout if holdout < 1 else min(1.0, holdout / max(1, kept_count))


class _HoldOut(beam.DoFn):
    def __init__(self, holdout: float, blocks: Blocks) -> None:
        self.holdout, self.blocks = holdout, blocks

    def process(self, element: Bucket, kept_count: int) -> Iterator[Any]:
        bucket, rows = element[0], unpack(element[1])
        aside = held_out(rows["url"], held_out_share(self.holdout, kept_count))
        for tag, mask in (("held", aside), ("left", ~aside)):
            part = rows.filter(pa.array(mask))
            for block in self.blocks.pack([part] if len(part) else []):
                yield beam.pvalue.TaggedOutput(tag, (bucket, block))
                yield beam.pvalue.TaggedOutput(f"{tag}_rows", len(part))


@dataclass(eq=False)
class HoldOut(beam.PTransform):
    """Kept pairs to those that are held out and those that are left, with how many each are.

    Outputs: `held`, `left` (blocks, as `JudgePairs` gives them), `held_rows`, `left_rows`
    (singletons).

    Args:
      holdout: the share of images below 1, else about how many pairs.
      kept_count: a singleton, how many pairs are kept in all.
    """

    holdout: float
    kept_count: beam.PCollection
    blocks: Blocks

    def expand(self, pairs: beam.PCollection) -> dict[str, beam.PCollection]:
        split = beam.ParDo(
            _HoldOut(self.holdout, self.blocks), beam.pvalue.AsSingleton(self.kept_count)
        )
        tags = ("held", "left", "held_rows", "left_rows")
        outputs = pairs | split.with_outputs(*tags)
        parts = {tag: outputs[tag] for tag in tags}
        for tag in ("held", "left"):
            parts[tag].element_type = BUCKET
            counts = parts[f"{tag}_rows"]
            parts[f"{tag}_rows"] = counts | f"Sum{tag}" >> beam.CombineGlobally(sum)
        return parts
