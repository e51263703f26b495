"""What is said of a set that holds next to nothing, and where nothing is said."""

import pytest
from msgspec import UNSET

from alignset.pipeline.datasets.fetch_report import failed_fetches
from alignset.pipeline.datasets.funnel import funnel, whole_funnel
from alignset.pipeline.datasets.shortfalls import flags, too_little
from alignset.pipeline.runs.documents import BrokenInput, Funnel
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.workers.counts import Counts
from tests.support.rules import STEP_OF


def made(seen: int, dropped: dict[str, int], *, text_only: bool = False, **fields) -> Funnel:
    counts = Counts(seen, seen - sum(dropped.values()), dropped)
    texts, images = (
        {reason: n for reason, n in dropped.items() if STEP_OF[reason] in steps}
        for steps in (PRODUCT.text_steps, PRODUCT.image_steps)
    )
    of_both = Counts(seen, 0, texts), Counts(0, 0, images)
    steps = funnel(counts, PRODUCT.text_steps) if text_only else whole_funnel(*of_both)
    failed = {"fetch_failed: dns": dropped.get("fetch_failed", 0)}
    return Funnel(
        fetch=failed_fetches(seen, failed, []),
        pairs=counts.kept,
        steps=steps,
        vocabulary=VocabularySummary(vocabulary=0),
        **fields,
    )


@pytest.mark.parametrize(
    ("seen", "dropped", "said"),
    [
        (1000, {"fetch_failed": 990}, ""),
        (1000, {"fetch_failed": 991}, "9 of 1,000 pairs were kept: 991 fetches failed with dns"),
        (1000, {"fetch_failed": 500, "too_small": 500}, "500 fetches failed with dns"),
        (
            1000,
            {"fetch_failed": 400, "too_small": 600},
            "600 were dropped as too_small; the rule's",
        ),
        (1000, {"too_small": 999}, ""),  # a strict rule may leave few
        (1000, {"too_small": 1000}, "0 of 1,000 pairs were kept"),
        (
            3,
            {"rare_token": 3},
            "3 were dropped as rare_token; the rule's flag is --vocabulary_size",
        ),
        (0, {}, "the input holds no pair"),
        (1, {}, ""),
    ],
)
def test_what_is_said(seen: int, dropped: dict[str, int], said: str):
    line = too_little(made(seen, dropped))
    assert said in line
    assert bool(line) == bool(said)


def test_texts_alone():
    assert too_little(made(9, {"too_few_words": 8}, text_only=True)) == ""
    line = too_little(made(9, {"too_few_words": 9}, text_only=True))
    assert "0 of 9 pairs were kept: 9 were dropped as too_few_words" in line


@pytest.mark.parametrize(("broken", "told"), [(5, False), (6, True)])
def test_more_than_half_of_the_input_is_broken(broken: int, told: bool):
    files = BrokenInput(broken=broken, details={"damaged": broken}, named=[], files=10)
    line = too_little(made(100, {"too_small": 1}, broken_input=files))
    assert (f"{broken} of 10 input files were broken" in line) == told


def test_nothing_is_left_to_train_on():
    assert too_little(made(9, {"too_small": 4}, holdout=4)) == ""
    assert "all 5 pairs are held out" in too_little(made(9, {"too_small": 4}, holdout=5))
    assert too_little(made(9, {"too_small": 4}, holdout=UNSET)) == ""


def test_each_flag_is_of_a_reason():
    assert set(flags()) <= set(PRODUCT.reasons)
