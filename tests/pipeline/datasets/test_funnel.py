"""The funnel: steps that add up, on made counts and on the golden run."""

from collections import Counter

from alignset.pipeline.datasets.funnel import drops_of, funnel
from alignset.pipeline.datasets.summary import render_funnel, render_vocabulary
from alignset.pipeline.runs.documents import Funnel
from alignset.transforms.rules.catalogue import PRODUCT, TAKEDOWN_STEPS
from alignset.transforms.storage.documents import read_document
from alignset.transforms.workers.counts import add_by_name
from tests.support.golden_run import Golden
from tests.support.rules import STEPS


def test_no_pairs_at_all():
    table = funnel(0, {}, {})
    assert [step.step for step in table] == list(STEPS)
    assert "0.0%" in render_funnel(table)


def test_a_reason_of_both_planes_counts_in_each_and_what_is_taken_down_comes_last():
    texts, images = {"blocked": 3, "rare_token": 1}, {"blocked": 2, "fetch_failed": 1}
    table = funnel(10, texts, images, taken_down=2)
    assert table[-1].kept == 1
    dropped = {
        step.step: sum(step.dropped.values()) for step in table if any(step.dropped.values())
    }
    assert dropped == {
        **{"blocklist": 3, "rare_tokens": 1, "fetch": 1},
        **{"blocked_images": 2, "takedown": 2},
    }
    stages = PRODUCT.text_steps, PRODUCT.image_steps, TAKEDOWN_STEPS
    assert [drops_of(table, steps).get("blocked") for steps in stages] == [3, 2, None]
    assert drops_of(table[:-1], TAKEDOWN_STEPS) == {}
    assert [step.step for step in funnel(10, texts)] == [*PRODUCT.text_steps]


def test_the_golden_run_counts_every_fate(golden: Golden):
    written = read_document(f"{golden.output}/funnel.json", Funnel)
    expected = Counter(fate.reason for fate in golden.fates)
    dropped = add_by_name(step.dropped for step in written.steps)
    assert dropped == {reason: expected[reason] for reasons in STEPS.values() for reason in reasons}
    elsewhere = {  # tests/runs/ have such pairs in runs of their own
        *("broken_page", "broken_input", "blocked", "removed_before", "opted_out", "unsafe"),
        *("duplicate_image", "duplicate_of_training"),
    }
    assert {reason for reason, count in dropped.items() if not count} == elsewhere
    assert written.steps[0].seen == len(golden.fates)
    assert written.steps[-1].kept == written.pairs == expected[None]
    assert render_funnel(written.steps) in golden.said
    assert render_vocabulary(written.vocabulary) in golden.said.splitlines()
