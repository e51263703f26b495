"""A set's funnel from the first set on that it was made of."""

import pytest
from msgspec import UNSET

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.report.comparison import has_other_input, step_deltas, steps_over_stages
from alignset.pipeline.runs.documents import FetchReport, Funnel, Stage, Step
from alignset.transforms.corpus.corpus_documents import VocabularySummary

A = [Step("words", 100, 90, {"few": 10}), Step("sizes", 90, 80, {"small": 4, "long": 6})]
B = [Step("words", 80, 79, {"few": 1}), Step("sizes", 79, 60, {"small": 19})]


def facts(steps: list[Step], *history: Stage) -> Facts:
    funnel = Funnel(
        history=[*history] or UNSET,
        fetch=FetchReport(0, 0, {}, []),
        pairs=steps[-1].kept,
        steps=steps,
        vocabulary=VocabularySummary(),
    )
    return Facts("", steps=steps, funnel=funnel)


def test_a_chain_of_sets_is_one_funnel():
    first, second = facts(A), facts(B, Stage("history/00", 80, A))
    assert steps_over_stages(first) == A
    assert steps_over_stages(second) == [
        Step("words", 100, 89, {"few": 11}),
        Step("sizes", 89, 60, {"small": 23, "long": 6}),
    ]
    deltas = {delta.name: (delta.first, delta.second) for delta in step_deltas(first, second)}
    assert deltas["pairs at the start"] == (100, 100)
    assert deltas["sizes"] == (80, 60)
    assert deltas["small"] == (4, 23)
    assert not has_other_input(second)
    third = [Step("words", 60, 50, {"few": 10})]
    whole = facts(third, Stage("history/00", 60, B, [Stage("history/00/history/00", 80, A)]))
    assert steps_over_stages(whole)[-1].kept == 50
    assert steps_over_stages(whole)[0] == Step("words", 100, 79, {"few": 21})


@pytest.mark.parametrize(
    "history",
    [[Stage("history/00", 70, A)], [Stage("history/00")], [Stage("history/00", 80, A)] * 2],
    ids=["rejects were read too", "of another version", "two sets"],
)
def test_what_is_no_chain_has_its_own_funnel(history: list[Stage]):
    second = facts(B, *history)
    assert steps_over_stages(second) == B
    assert has_other_input(second)
