"""What a split of the text plane records is the same however it is cut, and counts each pair."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from alignset.transforms.columns.records import KEPT, Record, key_hashes
from alignset.transforms.corpus.text_record import EXAMPLES, Judged, TextRecorder, text_axes
from alignset.transforms.rules.rule import Rows
from tests.support.made_records import TEXT_REASONS, made_judged
from tests.support.rules import run_rules

AXES = text_axes(run_rules())


def part(batch: Judged, start: int, stop: int) -> Judged:
    def cut(columns: dict) -> dict:
        arrays = {n: c for n, c in columns.items() if isinstance(c, np.ndarray)}
        return dict(columns) | {name: column[start:stop] for name, column in arrays.items()}

    return Judged(
        *(column.slice(start, stop - start) for column in batch[:3]),
        batch.judged[start:stop],
        Rows(cut(batch.rows)),
        cut(batch.faults),
    )


def record(batches: list[Judged]) -> Record:
    recorder = TextRecorder(run_rules())
    for batch in batches:
        recorder.add(recorder.measure(batch))
    return recorder.record()


@pytest.mark.parametrize("cuts", [[], [1], [700], [3, 4, 5, 400, 999]])
def test_it_is_the_same_however_a_split_is_cut(cuts: list[int]):
    whole = made_judged(1000)
    edges = [0, *cuts, 1000]
    parts = [part(whole, a, b) for a, b in pairwise(edges)]
    assert record(parts) == record([whole])


def test_no_pair_is_a_record_too():
    assert record([]).pairs == 0
    assert record([made_judged(0)]).outcomes == {}


def test_it_counts_what_is_there():
    batch = made_judged(2000, seed=1)
    told = record([batch])
    reasons = batch.reasons.to_pylist()
    assert told.pairs == 2000
    totals = {name: sum(counts.values()) for name, counts in told.outcomes.items()}
    assert totals == Counter(reason or KEPT for reason in reasons)
    languages = Counter(
        detail
        for why, detail in zip(reasons, batch.details.to_pylist(), strict=True)
        if why == "wrong_language"
    )
    assert told.outcomes["wrong_language"] == languages
    frequent = Counter(
        text
        for why, text in zip(reasons, batch.shown["caption"].to_pylist(), strict=True)
        if why == "text_on_too_many_images"
    )
    top = told.tops["frequent_texts"]
    assert {text: n["text_on_too_many_images"] for text, n in top.counts.items()} == dict(
        sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[: len(top.counts)]
    )
    assert top.others == frequent.total() - sum(n for c in top.counts.values() for n in c.values())


@pytest.mark.parametrize(("least", "most", "score"), [(3, 20, 0.5), (5, 12, 0.5), (1, 39, 0.2)])
def test_other_thresholds_count_as_if_they_had_been_the_runs(least: int, most: int, score: float):
    batch = made_judged(3000, seed=2)
    joint = record([batch]).joint
    words, language, frequent, crowded, _ = joint.bins()
    edges, scores = AXES[0].edges, AXES[1].edges
    passed = (words > edges.index(least)) & (words <= edges.index(most + 1))
    passed &= (language > scores.index(score)) & (language <= len(scores))
    passed &= (frequent == 0) & (crowded == 0)
    counted = int(np.array(joint.counts)[passed].sum())
    with np.errstate(invalid="ignore"):
        scores = batch.rows["language_score"]
        in_language = ~batch.rows["foreign"] | ((scores >= score) & (scores < 0.5))
    words = batch.rows["word_count"]
    expected = (words >= least) & (words <= most) & in_language
    expected &= ~batch.faults["text_on_too_many_images"]
    assert counted == expected.sum()


def test_rare_tokens_are_unknown_of_what_was_dropped_before():
    batch = made_judged(500, seed=3)
    joint = record([batch]).joint
    rare, counts = joint.bins()[-1], np.array(joint.counts)
    reasons = batch.reasons.to_pylist()
    assert counts[rare == 1].sum() == reasons.count("rare_token")
    assert counts[rare == 0].sum() == reasons.count(None)
    assert counts[rare == 2].sum() == 500 - reasons.count("rare_token") - reasons.count(None)


def test_examples_are_those_with_the_smallest_hashes_and_those_nearest_to_a_threshold():
    batch = made_judged(1500, seed=4)
    told = record([batch])
    reasons, keys = batch.reasons.to_pylist(), batch.shown["key"].to_numpy()
    hashes = key_hashes(keys)
    for reason in TEXT_REASONS:
        rows = [row for row, why in enumerate(reasons) if why == reason]
        chosen = sorted(rows, key=lambda row: hashes[row])[:EXAMPLES]
        listed = {e.key for e in told.examples if (reason or KEPT) in e.lists}
        assert listed == {format(keys[row], "016x") for row in chosen}
    near = [e for e in told.examples if "near:min_language_score" in e.lists]
    scores = sorted(
        batch.rows["language_score"][row]
        for row in range(1500)
        if reasons[row] == "wrong_language" and not np.isnan(batch.rows["language_score"][row])
    )
    assert sorted(e.score for e in near) == scores[-EXAMPLES:]
    assert all(e.words == 2 for e in told.examples if "near:min_words" in e.lists)


def test_thresholds_beyond_the_usual_ones_are_edges_too():
    rules = run_rules(min_words=0, max_words=10**9, min_language_score=0.33)
    axes = text_axes(rules)
    assert axes[0].edges[-1] == 10**9 + 1
    assert 0.33 in axes[1].edges
    recorder = TextRecorder(rules)
    recorder.add(recorder.measure(made_judged(100)))
    assert sum(recorder.record().joint.counts) == 100
