"""What a shard records of its pairs for the report: counts in fixed bins, and a few examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns import reasons as r
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_WORD,
    MOST_HOSTS,
    MOST_TEXTS,
    MOST_WORDS,
    Axis,
    Ints,
    Joint,
    Record,
    cut,
    histogram,
    host_of,
    joint_of,
    nested,
    top_of,
)
from alignset.transforms.columns.thresholds import AXES, IMAGES, JUDGED
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.shards.measure_images import ImageRules, Measured

Floats = npt.NDArray[np.float64]

# Where bins end beside the run's own thresholds: px, ratios, scores, parts of the least distance.
SIDES = (
    *range(16, 208, 16),
    *(208, 224, 240, 256, 288, 320, 352, 384, 448, 512, 640, 768, 1024, 1536, 2048),
)
ASPECTS = (1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10)
SCORES = (0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95)
DISTANCES = (0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.0)


@dataclass(frozen=True)
class ShardPairs:
    """The pairs of a shard and what became of them, as columns.

    Attributes:
      keys: uint64[n]. urls, captions: string[n].
      reasons, details: of each, None where there is none.
      measures: what was measured, as `Judged.measures`.
    """

    keys: UInt64s
    urls: pa.StringArray
    captions: pa.StringArray
    reasons: Sequence[str | None]
    details: Sequence[str | None]
    measured: Measured
    measures: Mapping[str, pa.Array]

    def numbers(self, name: str) -> Floats:
        """float64[n] of a measure; NaN where there is none."""
        column = self.measures.get(name)
        if column is None:
            return np.full(len(self.keys), np.nan)
        return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan), np.float64)

    def sides(self) -> tuple[Floats, Floats]:
        """float64[n] shorter and longer sides, px; NaN where an image could not be looked at."""
        width, height = (
            np.array(self.measured.columns[name], np.float64)  # None becomes NaN
            for name in ("width", "height")
        )
        return np.fmin(width, height), np.fmax(width, height)


def image_axes(rules: ImageRules) -> list[Axis]:
    """The axes of a shard's joint histogram; each has the run's own threshold among its edges."""
    least = rules.min_evaluation_distance
    edges = (
        _edges(SIDES, rules.min_side),
        _edges(ASPECTS, rules.max_aspect),
        _edges(SCORES, rules.max_unsafe_score),
        _edges([round(part * least, 9) for part in DISTANCES], least),
    )
    return [Axis(name, of_axis) for name, of_axis in zip(AXES[IMAGES], edges, strict=True)]


def _edges(fixed: Sequence[float], own: float) -> list[float]:
    return sorted({float(edge) for edge in (*fixed, own)})


def image_bins(
    axes: Sequence[Axis], shorter: Floats, longer: Floats, unsafe: Floats, distance: Floats
) -> list[Ints]:
    """The bins of images: whether one passes a threshold that is an edge follows from its bin.

    Args:
      shorter, longer: float64[n], px, no NaN.
      unsafe, distance: float64[n], NaN where there is none.

    Returns:
      int64[n] for each axis: how many edges are below the shorter side; at or below the ratio of
      the sides; below the score; at or below the distance.
    """
    side, aspect, score, near = axes
    elongated = longer[:, None] >= shorter[:, None] * np.array(aspect.edges)
    return [
        np.searchsorted(side.edges, shorter, "left").astype(np.int64),
        elongated.sum(axis=1).astype(np.int64),
        _with_no_value(score, unsafe, np.searchsorted(score.edges, unsafe, "left")),
        _with_no_value(near, distance, np.searchsorted(near.edges, distance, "right")),
    ]


def _with_no_value(axis: Axis, values: Floats, bins: Ints) -> Ints:
    return np.where(np.isnan(values), axis.no_value, bins).astype(np.int64)


def shard_record(pairs: ShardPairs, rules: ImageRules, words: Ints) -> Record:
    """What is counted of a shard; it has no examples yet.

    Args:
      words: int64[n], of each text.
    """
    outcomes = [reason or KEPT for reason in pairs.reasons]
    sizes = np.array([size for _, size in pairs.measured.places], np.int64)
    formats = [image and image.format for image in pairs.measured.columns["image"]]
    looked_at = np.flatnonzero([form is not None for form in formats])
    details = [cut(detail, LONGEST_WORD) for detail in pairs.details]
    return Record(
        len(outcomes),
        nested(zip(outcomes, details, strict=True)),
        _joint(pairs, rules),
        {
            "words": histogram(outcomes, np.minimum(words, MOST_WORDS), np.arange(len(words))),
            # By the number of their binary digits: 11 has files of 1024 to 2047 bytes.
            "bytes": histogram(outcomes, np.frexp(sizes)[1].astype(np.int64), looked_at),
            "formats": nested(
                (outcome, form)
                for outcome, form in zip(outcomes, formats, strict=True)
                if form is not None
            ),
        },
        {
            "hosts": top_of(_by_host(pairs.urls, outcomes, details), MOST_HOSTS),
            "texts": top_of(_kept_texts(pairs.captions, outcomes), MOST_TEXTS),
        },
        bytes=pairs.measured.bytes_fetched,
    )


def _joint(pairs: ShardPairs, rules: ImageRules) -> Joint:
    """Of the pairs that are kept, or were dropped by a rule on the axes."""
    rows = np.flatnonzero([reason in JUDGED for reason in pairs.reasons])
    axes = image_axes(rules)
    measures = (*pairs.sides(), pairs.numbers("unsafe_score"), pairs.numbers("evaluation_distance"))
    return joint_of(axes, image_bins(axes, *(measure[rows] for measure in measures)))


def _by_host(
    urls: pa.StringArray, outcomes: Sequence[str], details: Sequence[str]
) -> dict[str, dict[str, int]]:
    """How many pairs of each host came to which end, as in a shard's `status_dict`."""
    ends = (
        f"{outcome}: {detail}" if detail else outcome
        for outcome, detail in zip(outcomes, details, strict=True)
    )
    hosts = map(host_of, urls.to_pylist())
    # Of what is blocked, not even the host is told.
    return nested(
        (host, end) for host, end in zip(hosts, ends, strict=True) if not _is_blocked(end)
    )


def _is_blocked(end: str) -> bool:
    return end.partition(":")[0] == r.BLOCKED


def _kept_texts(captions: pa.StringArray, outcomes: Sequence[str]) -> dict[str, dict[str, int]]:
    return nested(
        (cut(text, LONGEST_TEXT), KEPT)
        for text, outcome in zip(captions.to_pylist(), outcomes, strict=True)
        if outcome == KEPT
    )


def word_counts(captions: pa.StringArray) -> Ints:
    """int64[n], how many words each text has that is kept as it is here."""
    return measure_texts(captions, np.ones(len(captions), np.bool_)).word_count.astype(np.int64)
