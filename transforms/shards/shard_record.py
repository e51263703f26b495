"""What a shard records of its pairs for the report: counts in fixed bins, and a few examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

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
    Record,
    cut,
    histogram,
    host_of,
    key_hashes,
    nested,
    top_of,
)
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.rules.catalogue import RunRules, limits
from alignset.transforms.rules.given import BLOCKED
from alignset.transforms.rules.rule import Rows
from alignset.transforms.rules.trials import JudgedRows, Trials, trials_of
from alignset.transforms.rules.verdicts import axes_of
from alignset.transforms.shards.measure_images import Measured, image_rows


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

    def rows(self, words: Ints, columns: Sequence[str] = ()) -> Rows:
        """What the rules ask of the pairs; words: int64[n], of each text; columns: of rules of
        users."""
        return Rows(image_rows(self.measured, self.measures, columns), word_count=words)


def shard_record(pairs: ShardPairs, rules: RunRules, rows: Rows) -> Record:
    """What is counted of a shard; it has no examples yet.

    Args:
      rows: what the rules asked of its pairs.
    """
    words = rows["word_count"]
    outcomes = [reason or KEPT for reason in pairs.reasons]
    sizes = np.array([size for _, size in pairs.measured.places], np.int64)
    formats = [image and image.format for image in pairs.measured.columns["image"]]
    looked_at = np.flatnonzero([form is not None for form in formats])
    details = [cut(detail, LONGEST_WORD) for detail in pairs.details]
    axes = axes_of(rules.images, rules.numbers)
    measured = _trials(pairs, rules, rows, axes)
    return Record(
        len(outcomes),
        nested(zip(outcomes, details, strict=True)),
        {
            **measured.histograms,
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
        axes=axes,
        alone=measured.alone,
        sample=measured.sample,
    )


def _trials(pairs: ShardPairs, rules: RunRules, rows: Rows, axes: Sequence[Axis]) -> Trials:
    """Of the pairs that are kept, or were dropped by a rule on the axes."""
    own = limits(rules.images)
    codes = {name: code for code, name in enumerate([KEPT, *(limit.reason for limit in own)])}
    found = [codes.get(reason or KEPT, -1) for reason in pairs.reasons]
    counted = np.array(found, np.int64) >= 0
    against = {limit.name: limit.dropped(rows, rules.numbers) for limit in own}
    others = np.zeros(len(found), np.bool_)
    judged = JudgedRows(
        [*codes], np.array(found, np.int64), key_hashes(pairs.keys), rows, against, others
    )
    return trials_of(own, axes, judged, counted)


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
    return end.partition(":")[0] == BLOCKED


def _kept_texts(captions: pa.StringArray, outcomes: Sequence[str]) -> dict[str, dict[str, int]]:
    return nested(
        (cut(text, LONGEST_TEXT), KEPT)
        for text, outcome in zip(captions.to_pylist(), outcomes, strict=True)
        if outcome == KEPT
    )


def word_counts(captions: pa.StringArray) -> Ints:
    """int64[n], how many words each text has that is kept as it is here."""
    return measure_texts(captions, np.ones(len(captions), np.bool_)).word_count.astype(np.int64)
