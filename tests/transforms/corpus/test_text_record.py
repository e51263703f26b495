"""What a split of the text stage records is the same however it is cut, and counts each pair."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from alignset.transforms.columns.records import KEPT, Record, key_hashes
from alignset.transforms.corpus.text_record import EXAMPLES, JudgedTexts, TextRecorder
from alignset.transforms.rules.rule import Rows
from tests.support.made_records import TEXT_REASONS, made_judged
from tests.support.rules import run_rules


def part(batch: JudgedTexts, start: int, stop: int) -> JudgedTexts:
    def cut(columns: dict) -> dict:
        arrays = {n: c for n, c in columns.items() if isinstance(c, np.ndarray)}
        return dict(columns) | {name: column[start:stop] for name, column in arrays.items()}

    return JudgedTexts(
        *(column.slice(start, stop - start) for column in batch[:3]),
        batch.is_judged[start:stop],
        batch.is_hidden[start:stop],
        Rows(cut(batch.rows)),
        cut(batch.faults),
    )


def record(batches: list[JudgedTexts]) -> Record:
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
        for why, text in zip(reasons, batch.pairs["caption"].to_pylist(), strict=True)
        if why == "text_on_too_many_images"
    )
    top = told.tops["frequent_texts"]
    assert {text: n["text_on_too_many_images"] for text, n in top.counts.items()} == dict(
        sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[: len(top.counts)]
    )
    assert top.others == frequent.total() - sum(n for c in top.counts.values() for n in c.values())


@pytest.mark.parametrize("score", [0.2, 0.5])
@pytest.mark.parametrize(("least", "most"), [(3, 20), (5, 12), (1, 39)])
def test_other_thresholds_count_as_if_they_had_been_the_runs(least: int, most: int, score: float):
    batch = made_judged(3000, seed=2)
    told = record([batch])
    axes = {axis.name: axis for axis in told.axes}
    bins = {name: np.frombuffer(of, np.uint8) for name, of in told.sample.bins.items()}
    passed = axes["words"].passes(bins["words"], float(least), beyond=True)
    passed &= axes["words"].passes(bins["words"], most + 1.0, beyond=False)
    passed &= axes["language"].passes(bins["language"], score, beyond=True)
    assert told.sample.is_all
    assert passed.sum() == kept_by(batch, least, most, score).sum()


def kept_by(batch: JudgedTexts, least: int, most: int, score: float) -> np.ndarray:
    """Which pairs would be kept, row by row; what a rare token is against is not looked at."""
    words, scores = batch.rows["word_count"], batch.rows["language_score"]
    with np.errstate(invalid="ignore"):
        in_language = ~batch.rows["foreign"] | ((scores >= score) & (scores < 0.5))
    others = batch.faults["text_on_too_many_images"] | batch.faults["rare_token"]
    return (words >= least) & (words <= most) & in_language & ~others


def test_examples_are_those_with_the_smallest_hashes_and_those_nearest_to_a_threshold():
    batch = made_judged(1500, seed=4)
    told = record([batch])
    reasons, keys = batch.reasons.to_pylist(), batch.pairs["key"].to_numpy()
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
    assert sorted(e.values["language"] for e in near) == scores[-EXAMPLES:]
    assert all(e.values["words"] == 2 for e in told.examples if "near:min_words" in e.lists)


def test_thresholds_beyond_the_usual_ones_are_edges_too():
    rules = run_rules(min_words=0, max_words=10**9, min_language_score=0.33)
    recorder = TextRecorder(rules)
    axes = recorder.axes
    assert axes[0].edges[-1] == 10**9 + 1
    assert 0.33 in axes[1].edges
    recorder.add(recorder.measure(made_judged(100)))
    assert sum(sum(n.values()) for n in recorder.record().histograms["words"].values()) == 100


def test_what_is_on_a_list_is_no_example_of_any_reason():
    batch = made_judged(40)
    assert record([batch]).examples
    hidden = record([batch._replace(is_hidden=np.ones(40, np.bool_))])
    assert hidden.examples == []
    assert hidden.outcomes == record([batch]).outcomes
