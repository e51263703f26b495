"""What a split of the text plane records of its pairs for the report: counts in fixed bins, and a
few examples of each reason. Batches of a split add up to the same record however it is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    LONGEST_WORD,
    Example,
    Record,
    Top,
    cut,
    key_hashes,
    least_rows,
    nearest_rows,
    top_of,
)
from alignset.transforms.rules.catalogue import RunRules, limits
from alignset.transforms.rules.given import BLOCKED
from alignset.transforms.rules.popularity import MAX_IMAGES_PER_TEXT
from alignset.transforms.rules.rule import Rows
from alignset.transforms.rules.trials import JudgedRows, Trials, add_trials, trials_of
from alignset.transforms.rules.verdicts import (
    Floats,
    axes_of,
    known_of,
    places_of_first,
    values_by_axis,
)

EXAMPLES = 8  # of a kind
MOST_TEXTS = 32
# Distinct texts of a split that are counted; of 128 MiB of pairs there are some 30,000 frequent.
_COUNTED_TEXTS = 1 << 16


class JudgedTexts(NamedTuple):
    """A batch of pairs, as they were judged by their texts.

    Fields:
      shown: columns key (uint64), url, caption. reasons, details: string[n], null where there is
        none. judged: bool[n], those that count: neither malformed nor a repeated pair.
      rows: what the rules asked. faults: bool[n] by reason, what they answered.
    """

    shown: pa.RecordBatch
    reasons: pa.StringArray
    details: pa.StringArray
    judged: Bools
    rows: Rows
    faults: Mapping[str, Bools]


class TextPart(NamedTuple):
    """What one batch adds to the record of its split."""

    trials: Trials
    outcomes: list[tuple[str, str, int]]
    texts: list[tuple[str, int]]
    examples: dict[str, list[tuple[float, Example]]]  # by list, with their ranks


class TextRecorder:
    """Measures batches, in any thread, and adds up what they are, in their order."""

    def __init__(self, rules: RunRules) -> None:
        self._rules, self.axes = rules, axes_of(rules.texts, rules.numbers)
        self._trials = Trials()
        self._pairs = 0
        self._outcomes: dict[str, Counter[str]] = {}
        self._texts: dict[str, int] = {}
        self._uncounted = 0
        self._examples: dict[str, list[tuple[float, int, Example]]] = {}

    def measure(self, batch: JudgedTexts) -> TextPart:
        """What a batch adds; for all threads."""
        places = places_of_first(batch.faults)
        return TextPart(
            self._measured(batch, places),
            list(_outcomes(batch)),
            list(_frequent_texts(batch)),
            _examples(batch, places, self._rules),
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
                self._uncounted += count
        for name, examples in part.examples.items():
            before = self._examples.get(name, [])
            chosen = {e.key: (rank, e.hash, e) for rank, e in reversed(examples)}
            chosen |= {e.key: (rank, place, e) for rank, place, e in before}
            ordered = sorted(chosen.values(), key=lambda item: item[:2])
            self._examples[name] = ordered[:EXAMPLES]

    def record(self) -> Record:
        """What is recorded of the batches so far."""
        reason = MAX_IMAGES_PER_TEXT.reason
        frequent = top_of({text: {reason: n} for text, n in self._texts.items()}, MOST_TEXTS)
        return Record(
            pairs=self._pairs,
            outcomes={name: dict(sorted(n.items())) for name, n in sorted(self._outcomes.items())},
            histograms=self._trials.histograms,
            tops={"frequent_texts": Top(frequent.counts, frequent.others + self._uncounted)},
            examples=self._chosen(),
            axes=self.axes,
            alone=self._trials.alone,
            sample=self._trials.sample,
        )

    def _chosen(self) -> list[Example]:
        by_key: dict[str, Example] = {}
        for name, examples in sorted(self._examples.items()):
            for _, _, example in examples:
                by_key.setdefault(f"{example.key} {example.reason}", example).lists.append(name)
        return [by_key[key] for key in sorted(by_key)]

    def _measured(self, batch: JudgedTexts, places: npt.NDArray[np.int8]) -> Trials:
        own = limits(self._rules.texts)
        reasons = {limit.reason for limit in own}
        others = np.zeros(len(batch.judged), np.bool_)
        for reason, fault in batch.faults.items():
            if reason not in reasons:
                others |= fault
        judged = JudgedRows(
            [KEPT, *batch.faults],
            places.astype(np.int64),
            key_hashes(batch.shown["key"].to_numpy()),
            batch.rows,
            {limit.name: batch.faults[limit.reason] for limit in own},
            others,
        )
        return trials_of(own, self.axes, judged, batch.judged)


def _outcomes(batch: JudgedTexts) -> Iterator[tuple[str, str, int]]:
    columns = pa.table({"reason": batch.reasons, "detail": batch.details})
    if batch.details.null_count == len(batch.details):
        for count in pc.value_counts(batch.reasons).to_pylist():
            yield count["values"] or KEPT, "", count["counts"]
        return
    for row in columns.group_by(["reason", "detail"]).aggregate([([], "count_all")]).to_pylist():
        kept = row["reason"] is None
        detail = "" if kept else cut(row["detail"], LONGEST_WORD)
        yield row["reason"] or KEPT, detail, row["count_all"]


def _frequent_texts(batch: JudgedTexts) -> Iterator[tuple[str, int]]:
    dropped = pc.fill_null(pc.equal(batch.reasons, MAX_IMAGES_PER_TEXT.reason), False)
    for count in pc.value_counts(batch.shown["caption"].filter(dropped)).to_pylist():
        yield cut(count["values"], LONGEST_TEXT), count["counts"]


def _examples(
    batch: JudgedTexts, places: npt.NDArray[np.int8], rules: RunRules
) -> dict[str, list[tuple[float, Example]]]:
    """Of each outcome those with the smallest hashes, and those nearest to a threshold."""
    hashes = key_hashes(batch.shown["key"].to_numpy())
    values = values_by_axis(rules.texts, batch.rows)
    lists: dict[str, list[tuple[float, Example]]] = {}
    for place, outcome in enumerate([KEPT, *batch.faults]):
        rows = np.flatnonzero(places == place)
        if outcome == BLOCKED or not len(rows):
            continue  # neither the URL nor the text of a blocked pair is for the report
        chosen = least_rows(hashes, rows, EXAMPLES).tolist()
        lists[outcome] = [(0.0, _example(batch, row, values)) for row in chosen]
        for limit in limits(rules.texts):
            if limit.reason == outcome:
                of_limit = values[limit.measure.axis]
                ranks = -of_limit if limit.beyond else of_limit
                near = nearest_rows(ranks, hashes, rows, EXAMPLES).tolist()
                ranked = [(float(ranks[row]), _example(batch, row, values)) for row in near]
                lists[f"near:{limit.name}"] = ranked
    return lists


def _example(batch: JudgedTexts, row: int, values: Mapping[str, Floats]) -> Example:
    def text(column: Any, longest: int) -> str:
        return cut(column[row].as_py(), longest)

    return Example(
        key=format(batch.shown["key"][row].as_py(), "016x"),
        url=text(batch.shown["url"], LONGEST_URL),
        caption=text(batch.shown["caption"], LONGEST_TEXT),
        lists=[],
        reason=batch.reasons[row].as_py() or "",
        detail="" if not batch.reasons[row].is_valid else text(batch.details, LONGEST_WORD),
        values=known_of(values, row),
    )
