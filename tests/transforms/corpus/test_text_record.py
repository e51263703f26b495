"""What a split of the text plane records is the same however it is cut, and counts each pair."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from alignset.transforms.columns import reasons as r
from alignset.transforms.columns.records import KEPT, Record, key_hashes
from alignset.transforms.corpus.text_record import EXAMPLES, Judged, TextRecorder, text_axes
from tests.support.made_records import TEXT_REASONS, made_judged

AXES = text_axes(3, 20, 0.5)


def part(batch: Judged, start: int, stop: int) -> Judged:
    scores = batch.scores
    return Judged(
        *(column.slice(start, stop - start) for column in batch[:3]),
        batch.word_count[start:stop],
        batch.judged[start:stop],
        batch.foreign[start:stop],
        None if scores is None else scores[start:stop],
        tuple(mark[start:stop] for mark in batch.marks),
    )


def record(batches: list[Judged]) -> Record:
    recorder = TextRecorder(AXES, 0.5)
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
        if why == r.WRONG_LANGUAGE
    )
    assert told.outcomes[r.WRONG_LANGUAGE] == languages
    frequent = Counter(
        text
        for why, text in zip(reasons, batch.shown["caption"].to_pylist(), strict=True)
        if why == r.TEXT_ON_TOO_MANY_IMAGES
    )
    top = told.tops["frequent_texts"]
    assert {text: n[r.TEXT_ON_TOO_MANY_IMAGES] for text, n in top.counts.items()} == dict(
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
        in_language = ~batch.foreign | ((batch.scores >= score) & (batch.scores < 0.5))
    expected = (batch.word_count >= least) & (batch.word_count <= most) & in_language
    expected &= ~batch.marks[0] & ~batch.marks[1]
    assert counted == expected.sum()


def test_rare_tokens_are_unknown_of_what_was_dropped_before():
    batch = made_judged(500, seed=3)
    joint = record([batch]).joint
    rare, counts = joint.bins()[-1], np.array(joint.counts)
    reasons = batch.reasons.to_pylist()
    assert counts[rare == 1].sum() == reasons.count(r.RARE_TOKEN)
    assert counts[rare == 0].sum() == reasons.count(None)
    assert counts[rare == 2].sum() == 500 - reasons.count(r.RARE_TOKEN) - reasons.count(None)


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
        batch.scores[row]
        for row in range(1500)
        if reasons[row] == r.WRONG_LANGUAGE and not np.isnan(batch.scores[row])
    )
    assert sorted(e.score for e in near) == scores[-EXAMPLES:]
    assert all(e.words == 2 for e in told.examples if "near:min_words" in e.lists)


def test_thresholds_beyond_the_usual_ones_are_edges_too():
    axes = text_axes(0, 10**9, 0.33)
    assert axes[0].edges[-1] == 10**9 + 1
    assert 0.33 in axes[1].edges
    recorder = TextRecorder(axes, 0.33)
    recorder.add(recorder.measure(made_judged(100)))
    assert sum(recorder.record().joint.counts) == 100
