"""Records of a split of the text stage for the report: counts in fixed bins, and a few examples of
each reason. Batches of a split add up to the same record however it is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.columns.records import (
    KEPT,
    LANGUAGES,
    LONGEST_TEXT,
    LONGEST_URL,
    LONGEST_WORD,
    MOST_WORDS,
    WORDS_BY_LANGUAGE,
    Example,
    Ints,
    Record,
    Top,
    add_nested,
    cut,
    key_hashes,
    least_rows,
    nearest_rows,
    top_of,
)
from alignset.transforms.corpus.language_ngrams import language_numbers
from alignset.transforms.rules.catalogue import RunRules, limits
from alignset.transforms.rules.language_codes import NUMBERED
from alignset.transforms.rules.popularity import MAX_IMAGES_PER_TEXT
from alignset.transforms.rules.rule import Rows
from alignset.transforms.rules.trials import JudgedRows, Trials, add_trials, trials_of
from alignset.transforms.rules.verdicts import (
    Floats,
    axes_of,
    first_places,
    known_of,
    values_by_axis,
)

EXAMPLES = 8  # of a kind
MOST_TEXTS = 32
# Distinct texts of a split that are counted; of 128 MiB of pairs there are some 30,000 frequent.
_COUNTED_TEXTS = 1 << 16


class JudgedTexts(NamedTuple):
    """A batch of pairs, as they were judged by their texts.

    Fields:
      pairs: columns key (uint64), url, caption. reasons, details: string[n], null where there is
        none. is_judged: bool[n], those that count: neither malformed nor a repeated pair.
      is_hidden: bool[n], those that are on a blocklist, or were taken down: neither their URLs nor
        their texts are for the report.
      rows: what the rules asked. faults: bool[n] by reason, what they answered.
    """

    pairs: pa.RecordBatch
    reasons: pa.StringArray
    details: pa.StringArray
    is_judged: Bools
    is_hidden: Bools
    rows: Rows
    faults: Mapping[str, Bools]


class TextPart(NamedTuple):
    """The part of one batch in the record of its split."""

    trials: Trials
    outcomes: list[tuple[str, str, int]]
    texts: list[tuple[str, int]]
    examples: dict[str, list[tuple[float, Example]]]  # by list, with their ranks
    languages: dict[str, dict[str, int]]  # outcomes, by language
    words: dict[str, dict[str, int]]  # of texts, by language


class TextRecorder:
    """Measures batches, in any thread, and adds up what they are, in their order."""

    def __init__(self, rules: RunRules) -> None:
        self._rules, self.axes = rules, axes_of(rules.texts, rules.numbers)
        self._trials = Trials()
        self._pairs = 0
        self._outcomes: dict[str, Counter[str]] = {}
        self._texts: dict[str, int] = {}
        self._other_texts = 0
        self._languages: dict[str, dict[str, int]] = {}
        self._words: dict[str, dict[str, int]] = {}
        self._examples: dict[str, list[tuple[float, int, Example]]] = {}

    def measure(self, batch: JudgedTexts) -> TextPart:
        """Adds a batch; for all threads."""
        places, names = first_places(batch.faults), [KEPT, *batch.faults]
        rows_of = {name: np.flatnonzero(places == place) for place, name in enumerate(names)}
        rows_of = {name: rows for name, rows in rows_of.items() if len(rows)}
        return TextPart(
            self._trials_of(batch, names, places),
            list(_outcomes(batch.details, rows_of)),
            list(_frequent_texts(batch.pairs["caption"], rows_of)),
            _examples(batch, rows_of, self._rules),
            *_by_language(batch, places, names),
        )

    def add(self, part: TextPart) -> None:
        """Adds what the next batch of the split is."""
        self._trials = add_trials([self._trials, part.trials])
        for outcome, detail, count in part.outcomes:
            self._pairs += count
            self._outcomes.setdefault(outcome, Counter())[detail] += count
        for text, count in part.texts:
            if text in self._texts or len(self._texts) < _COUNTED_TEXTS:
                self._texts[text] = self._texts.get(text, 0) + count
            else:
                self._other_texts += count
        self._languages = add_nested([self._languages, part.languages])
        self._words = add_nested([self._words, part.words])
        for name, examples in part.examples.items():
            before = self._examples.get(name, [])
            candidates = {e.key: (rank, e.hash, e) for rank, e in reversed(examples)}
            candidates |= {e.key: (rank, place, e) for rank, place, e in before}
            ranking = sorted(candidates.values(), key=lambda item: item[:2])
            self._examples[name] = ranking[:EXAMPLES]

    def record(self) -> Record:
        """The record of the batches so far."""
        reason = MAX_IMAGES_PER_TEXT.reason
        tops = {}
        if self._rules.language.has_vote:
            tops = {LANGUAGES: Top(self._languages), WORDS_BY_LANGUAGE: Top(self._words)}
        frequent = top_of({text: {reason: n} for text, n in self._texts.items()}, MOST_TEXTS)
        return Record(
            pairs=self._pairs,
            outcomes={name: dict(sorted(n.items())) for name, n in sorted(self._outcomes.items())},
            histograms=self._trials.histograms,
            tops={"frequent_texts": Top(frequent.counts, frequent.others + self._other_texts)}
            | tops,
            examples=self._merge_examples(),
            axes=self.axes,
            alone=self._trials.alone,
            sample=self._trials.sample,
        )

    def _merge_examples(self) -> list[Example]:
        by_key: dict[str, Example] = {}
        for name, examples in sorted(self._examples.items()):
            for _, _, example in examples:
                by_key.setdefault(f"{example.key} {example.reason}", example).lists.append(name)
        return [by_key[key] for key in sorted(by_key)]

    def _trials_of(
        self, batch: JudgedTexts, names: list[str], places: npt.NDArray[np.int8]
    ) -> Trials:
        own = limits(self._rules.texts)
        reasons = {limit.reason for limit in own}
        others = np.zeros(len(batch.is_judged), np.bool_)
        for reason, fault in batch.faults.items():
            if reason not in reasons:
                others |= fault
        judged_rows = JudgedRows(
            names,
            places.astype(np.int64),
            key_hashes(batch.pairs["key"].to_numpy()),
            batch.rows,
            {limit.name: batch.faults[limit.reason] for limit in own},
            others,
        )
        return trials_of(own, self.axes, judged_rows, batch.is_judged)


def _by_language(
    batch: JudgedTexts, places: npt.NDArray[np.int8], names: list[str]
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """How many texts of each language came to which outcome, and have how many words."""
    if LANGUAGE_COLUMNS[0] not in batch.pairs.schema.names:
        return {}, {}
    numbers = language_numbers(batch.pairs[LANGUAGE_COLUMNS[0]])[batch.is_judged].astype(np.int64)
    words = np.minimum(batch.rows["word_count"][batch.is_judged], MOST_WORDS)
    return (
        _counts_by_language(numbers, places[batch.is_judged], names),
        _counts_by_language(numbers, words, [str(count) for count in range(MOST_WORDS + 1)]),
    )


def _counts_by_language(
    numbers: Ints, codes: npt.NDArray[np.integer], names: Sequence[str]
) -> dict[str, dict[str, int]]:
    size = len(names)
    counts = np.bincount(numbers * size + codes, minlength=size)
    by_language: dict[str, dict[str, int]] = {}
    for at in np.flatnonzero(counts).tolist():
        of_language = by_language.setdefault(NUMBERED[at // size - 1], {})
        of_language[names[at % size]] = int(counts[at])
    return by_language


def _outcomes(
    details: pa.StringArray, rows_of: Mapping[str, Ints]
) -> Iterator[tuple[str, str, int]]:
    for outcome, rows in rows_of.items():
        if outcome == KEPT or details.null_count == len(details):
            yield outcome, "", len(rows)
            continue
        for count in pc.value_counts(details.take(pa.array(rows))).to_pylist():
            yield outcome, cut(count["values"], LONGEST_WORD), count["counts"]


def _frequent_texts(
    captions: pa.StringArray, rows_of: Mapping[str, Ints]
) -> Iterator[tuple[str, int]]:
    rows = rows_of.get(MAX_IMAGES_PER_TEXT.reason, np.zeros(0, np.int64))
    for count in pc.value_counts(captions.take(pa.array(rows))).to_pylist():
        yield cut(count["values"], LONGEST_TEXT), count["counts"]


def _examples(
    batch: JudgedTexts, rows_of: Mapping[str, Ints], rules: RunRules
) -> dict[str, list[tuple[float, Example]]]:
    """The examples of each outcome with the smallest hashes, and nearest to a threshold."""
    hashes = key_hashes(batch.pairs["key"].to_numpy())
    values = values_by_axis(rules.texts, batch.rows)
    ranking: dict[str, list[tuple[float, int]]] = {}
    for outcome, all_rows in rows_of.items():
        rows = all_rows[~batch.is_hidden[all_rows]]
        if not len(rows):
            continue
        ranking[outcome] = [(0.0, row) for row in least_rows(hashes, rows, EXAMPLES).tolist()]
        for limit in limits(rules.texts):
            if limit.reason == outcome:
                of_limit = values[limit.measure.axis]
                ranks = -of_limit if limit.beyond else of_limit
                near = nearest_rows(ranks, hashes, rows, EXAMPLES).tolist()
                ranking[f"near:{limit.name}"] = [(float(ranks[row]), row) for row in near]
    examples = _examples_by_row(
        batch, sorted({row for of_list in ranking.values() for _, row in of_list}), values
    )
    return {
        name: [(rank, examples[row]) for rank, row in of_list] for name, of_list in ranking.items()
    }


def _examples_by_row(
    batch: JudgedTexts, rows: list[int], values: Mapping[str, Floats]
) -> dict[int, Example]:
    """Some rows as examples."""
    columns = [batch.pairs[name] for name in ("key", "url", "caption")]
    columns += [batch.reasons, batch.details]
    of_rows = zip(
        *(column.take(pa.array(rows, pa.int64())).to_pylist() for column in columns), strict=True
    )
    return {
        row: Example(
            key=format(key, "016x"),
            url=cut(url, LONGEST_URL),
            caption=cut(caption, LONGEST_TEXT),
            lists=[],
            reason=reason or "",
            detail=cut(detail, LONGEST_WORD) if reason else "",
            values=known_of(values, row),
        )
        for row, (key, url, caption, reason, detail) in zip(rows, of_rows, strict=True)
    }
