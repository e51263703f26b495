"""Records of a shard for the report: counts in fixed bins, and a few examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.columns.records import (
    HASHES,
    KEPT,
    LANGUAGES,
    LONGEST_TEXT,
    LONGEST_WORD,
    MOST_HOSTS,
    MOST_TEXTS,
    MOST_WORDS,
    Axis,
    Ints,
    Record,
    Top,
    cut,
    host_of,
    key_hashes,
    top_of,
)
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.rules.catalogue import limits
from alignset.transforms.rules.given import BLOCKED
from alignset.transforms.rules.language_codes import UNDETERMINED
from alignset.transforms.rules.rule import Rows
from alignset.transforms.rules.trials import JudgedRows, Trials, trials_of
from alignset.transforms.rules.verdicts import axes_of
from alignset.transforms.shards.shard_pairs import ShardPairs


def shard_record(pairs: ShardPairs, rows: Rows) -> Record:
    """Counts of a shard; without examples yet.

    Args:
      rows: what the rules asked of its pairs.
    """
    words, rules = rows["word_count"], pairs.rules
    outcomes = [reason or KEPT for reason in pairs.reasons]
    looks = [pairs.look(pair) for pair in range(len(outcomes))]
    formats = [look.format if look else None for look in looks]
    looked_at = np.flatnonzero([form is not None for form in formats])
    details = [cut(detail, LONGEST_WORD) for detail in pairs.details]
    axes = axes_of(rules.images, rules.numbers)
    trials = _trials(pairs, rows, axes)
    return Record(
        len(outcomes),
        nested_counts(zip(outcomes, details, strict=True)),
        {
            **trials.histograms,
            **_by_hash(pairs, outcomes),
            "words": histogram(outcomes, np.minimum(words, MOST_WORDS), np.arange(len(words))),
            # By the number of their binary digits: 11 has files of 1024 to 2047 bytes.
            "bytes": histogram(outcomes, np.frexp(pairs.file_sizes)[1].astype(np.int64), looked_at),
            "formats": nested_counts(
                (outcome, form)
                for outcome, form in zip(outcomes, formats, strict=True)
                if form is not None
            ),
        },
        {
            **_by_language(pairs, outcomes),
            "hosts": top_of(_by_host(pairs.urls, outcomes, details), MOST_HOSTS),
            "texts": top_of(_kept_texts(pairs.captions, outcomes), MOST_TEXTS),
        },
        bytes=pairs.images.bytes_fetched,
        axes=axes,
        alone=trials.alone,
        sample=trials.sample,
    )


def _trials(pairs: ShardPairs, rows: Rows, axes: Sequence[Axis]) -> Trials:
    """Counts of pairs that are kept, or were dropped by a rule on the axes."""
    rules, own = pairs.rules, limits(pairs.rules.images)
    codes = {name: code for code, name in enumerate([KEPT, *(limit.reason for limit in own)])}
    outcome_codes = [codes.get(reason or KEPT, -1) for reason in pairs.reasons]
    is_counted = np.array(outcome_codes, np.int64) >= 0
    against = {limit.name: limit.dropped(rows, rules.numbers) for limit in own}
    others = np.zeros(len(outcome_codes), np.bool_)
    judged_rows = JudgedRows(
        [*codes], np.array(outcome_codes, np.int64), key_hashes(pairs.keys), rows, against, others
    )
    return trials_of(own, axes, judged_rows, is_counted)


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
    return nested_counts(
        (host, end)
        for host, end in zip(hosts, ends, strict=True)
        if end.partition(":")[0] != BLOCKED
    )


def _by_language(pairs: ShardPairs, outcomes: Sequence[str]) -> dict[str, Top]:
    """How many pairs of each language came to which end, where a vote found them."""
    of_languages = pairs.of_languages
    if not of_languages:
        return {}
    codes = of_languages[LANGUAGE_COLUMNS[0]].fill_null(UNDETERMINED).to_pylist()
    return {LANGUAGES: Top(nested_counts(zip(codes, outcomes, strict=True)))}


def _by_hash(pairs: ShardPairs, outcomes: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """How many pairs with a hash of the input, and without one, came to which end."""
    if pairs.hashes is None:
        return {}
    has_hash = (("without", "with")[has] for has in pairs.hashes.present.tolist())
    return {HASHES: nested_counts(zip(outcomes, has_hash, strict=True))}


def _kept_texts(captions: pa.StringArray, outcomes: Sequence[str]) -> dict[str, dict[str, int]]:
    return nested_counts(
        (cut(text, LONGEST_TEXT), KEPT)
        for text, outcome in zip(captions.to_pylist(), outcomes, strict=True)
        if outcome == KEPT
    )


def word_counts(captions: pa.StringArray) -> Ints:
    """int64[n], how many words each text has that is kept as it is here."""
    return measure_texts(captions, np.ones(len(captions), np.bool_)).word_count.astype(np.int64)


def nested_counts(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """How often each pair of two names stands there, by the first and then the second."""
    counts: dict[str, dict[str, int]] = {}
    for (name, other), count in sorted(Counter(pairs).items()):
        counts.setdefault(name, {})[other] = count
    return counts


def histogram(outcomes: Sequence[str], bins: Ints, rows: Ints) -> dict[str, dict[str, int]]:
    """How many of some rows are in each bin, by outcome.

    Args:
      outcomes: of each row, n of them. bins: int64[n], 0 or more. rows: int64[m].
    """
    names = sorted(set(outcomes))
    places = {name: place for place, name in enumerate(names)}
    size = int(bins[rows].max(initial=0)) + 1
    codes = np.array([places[outcomes[row]] for row in rows], np.int64) * size + bins[rows]
    counts: dict[str, dict[str, int]] = {}
    for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
        counts.setdefault(names[code // size], {})[str(code % size)] = int(count)
    return counts
