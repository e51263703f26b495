"""What a split of the text plane records of its pairs for the report: counts in fixed bins, and a
few examples of each reason. Batches of a split add up to the same record however it is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns import reasons as r
from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    LONGEST_WORD,
    Axis,
    Example,
    Ints,
    Joint,
    Record,
    Top,
    cut,
    key_hashes,
    least_rows,
    nearest_rows,
    top_of,
)
from alignset.transforms.columns.thresholds import MARKS, RULE_OF

WORDS = range(1, 41)
SCORES = tuple(round(0.05 * part, 2) for part in range(1, 20))
EXAMPLES = 8  # of a kind
MOST_TEXTS = 32
# Distinct texts of a split that are counted; of 128 MiB of pairs there are some 30,000 frequent.
_COUNTED_TEXTS = 1 << 16
_LONGEST_TABLE = 1 << 12


def text_axes(min_words: int, max_words: int, min_language_score: float) -> list[Axis]:
    """The axes of a split's joint histogram; each has the run's own thresholds among its edges.

    `words`: how many edges are at or below the number of words. `language`: of a text in the
    wanted language all edges, of another how many are at or below its score. The others are 1 where
    the corpus's counts are against a pair; a rare token is looked for in those alone that passed
    all else.
    """
    flags = [Axis(name, [1.0]) for name in MARKS]
    edges = sorted({float(edge) for edge in (*WORDS, min_words, max_words + 1) if edge > 0})
    scores = sorted({*SCORES, float(min_language_score)})
    return [Axis("words", edges), Axis("language", scores), *flags]


class Judged(NamedTuple):
    """A batch of pairs, as they were judged by their texts.

    Fields:
      shown: columns key (uint64), url, caption. reasons, details: string[n], null where there is
        none. word_count: int32[n]. judged: bool[n], those that count: neither malformed nor a
        repeated pair.
      foreign: bool[n]. scores: float64[n] of these, NaN where there is none; None where no row is
        foreign.
      marks: bool[n], of the last axes of `text_axes`.
    """

    shown: pa.RecordBatch
    reasons: pa.StringArray
    details: pa.StringArray
    word_count: npt.NDArray[np.int32]
    judged: Bools
    foreign: Bools
    scores: npt.NDArray[np.float64] | None
    marks: Sequence[Bools]


class TextPart(NamedTuple):
    """What one batch adds to the record of its split."""

    cells: Ints
    outcomes: list[tuple[str, str, int]]
    texts: list[tuple[str, int]]
    examples: dict[str, list[tuple[float, Example]]]  # by list, with their ranks


class TextRecorder:
    """Measures batches, in any thread, and adds up what they are, in their order.

    Args:
      axes: as of `text_axes`. own_score: the run's own least score of a language.
    """

    def __init__(self, axes: list[Axis], own_score: float) -> None:
        self.axes, self._own_score = axes, own_score
        words = np.array(axes[0].edges)
        longest = int(words[words < _LONGEST_TABLE][-1])
        self._bin_of_words = np.searchsorted(words, np.arange(longest + 1), "right")
        self._cells = np.zeros(np.prod([axis.bins for axis in axes]), np.int64)
        self._pairs = 0
        self._outcomes: dict[str, Counter[str]] = {}
        self._texts: dict[str, int] = {}
        self._uncounted = 0
        self._examples: dict[str, list[tuple[float, int, Example]]] = {}

    def measure(self, batch: Judged) -> TextPart:
        """What a batch adds; for all threads."""
        return TextPart(
            self._joint(batch),
            list(_outcomes(batch)),
            list(_frequent_texts(batch)),
            _examples(batch),
        )

    def add(self, part: TextPart) -> None:
        """Adds what the next batch of the split is."""
        self._cells[: len(part.cells)] += part.cells
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
        cells = np.flatnonzero(self._cells)
        reason = r.TEXT_ON_TOO_MANY_IMAGES
        frequent = top_of({text: {reason: n} for text, n in self._texts.items()}, MOST_TEXTS)
        return Record(
            pairs=self._pairs,
            outcomes={name: dict(sorted(n.items())) for name, n in sorted(self._outcomes.items())},
            joint=Joint(self.axes, cells.tolist(), self._cells[cells].tolist()),
            tops={"frequent_texts": Top(frequent.counts, frequent.others + self._uncounted)},
            examples=self._chosen(),
        )

    def _chosen(self) -> list[Example]:
        by_key: dict[str, Example] = {}
        for name, examples in sorted(self._examples.items()):
            for _, _, example in examples:
                by_key.setdefault(f"{example.key} {example.reason}", example).lists.append(name)
        return [by_key[key] for key in sorted(by_key)]

    def _joint(self, batch: Judged) -> Ints:
        language, *flags = self.axes[1:]
        words_bins = self._bin_of_words[np.minimum(batch.word_count, len(self._bin_of_words) - 1)]
        cells = words_bins * language.bins + len(language.edges)
        if batch.scores is not None:
            rows = np.flatnonzero(batch.foreign)
            scores = batch.scores[rows]
            bins = np.searchsorted(language.edges, scores, "right")
            # By more than its score it was found to be in another language, or by no score.
            bins[np.isnan(scores) | (scores >= self._own_score)] = language.no_value
            cells[rows] += bins - len(language.edges)
        for axis, mark in zip(flags, batch.marks, strict=True):
            cells = cells * axis.bins + mark
        # A rare token was looked for where nothing else was against the pair.
        kept_or_rare = batch.reasons.is_null().to_numpy(zero_copy_only=False) | batch.marks[-1]
        cells[~kept_or_rare] += flags[-1].no_value
        return np.bincount(cells[batch.judged])


def _outcomes(batch: Judged) -> Iterator[tuple[str, str, int]]:
    columns = pa.table({"reason": batch.reasons, "detail": batch.details})
    if batch.details.null_count == len(batch.details):
        for count in pc.value_counts(batch.reasons).to_pylist():
            yield count["values"] or KEPT, "", count["counts"]
        return
    for row in columns.group_by(["reason", "detail"]).aggregate([([], "count_all")]).to_pylist():
        kept = row["reason"] is None
        detail = "" if kept else cut(row["detail"], LONGEST_WORD)
        yield row["reason"] or KEPT, detail, row["count_all"]


def _frequent_texts(batch: Judged) -> Iterator[tuple[str, int]]:
    dropped = pc.fill_null(pc.equal(batch.reasons, r.TEXT_ON_TOO_MANY_IMAGES), False)
    for count in pc.value_counts(batch.shown["caption"].filter(dropped)).to_pylist():
        yield cut(count["values"], LONGEST_TEXT), count["counts"]


def _examples(batch: Judged) -> dict[str, list[tuple[float, Example]]]:
    """Of each outcome those with the smallest hashes, and those nearest to a threshold."""
    hashes = key_hashes(batch.shown["key"].to_numpy())
    names = pc.dictionary_encode(pc.fill_null(batch.reasons, KEPT))
    places = names.indices.to_numpy()
    words = batch.word_count.astype(np.float64)
    lists: dict[str, list[tuple[float, Example]]] = {}
    for place, outcome in enumerate(names.dictionary.to_pylist()):
        if outcome == r.BLOCKED:
            continue  # neither its URL nor its text is for the report
        rows = np.flatnonzero(places == place)
        chosen = least_rows(hashes, rows, EXAMPLES).tolist()
        lists[outcome] = [(0.0, _example(batch, row)) for row in chosen]
        if outcome not in RULE_OF:
            continue
        ranks = {
            r.TOO_FEW_WORDS: -words,
            r.TOO_MANY_WORDS: words,
            r.WRONG_LANGUAGE: None if batch.scores is None else -batch.scores,
        }[outcome]
        if ranks is not None:
            rule = RULE_OF[outcome]
            near = nearest_rows(ranks, hashes, rows, EXAMPLES).tolist()
            lists[f"near:{rule}"] = [(float(ranks[row]), _example(batch, row)) for row in near]
    return lists


def _example(batch: Judged, row: int) -> Example:
    def text(column: Any, longest: int) -> str:
        return cut(column[row].as_py(), longest)

    score = None if batch.scores is None else float(batch.scores[row])
    return Example(
        key=format(batch.shown["key"][row].as_py(), "016x"),
        url=text(batch.shown["url"], LONGEST_URL),
        caption=text(batch.shown["caption"], LONGEST_TEXT),
        lists=[],
        reason=batch.reasons[row].as_py() or "",
        detail="" if not batch.reasons[row].is_valid else text(batch.details, LONGEST_WORD),
        words=int(batch.word_count[row]),
        score=None if score is None or np.isnan(score) or not batch.foreign[row] else score,
    )
