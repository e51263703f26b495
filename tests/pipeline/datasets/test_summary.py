"""What is said of a dataset that holds next to nothing, and where nothing is said."""

from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to
from msgspec import UNSET

from alignset.pipeline.datasets.funnel import failed_fetches, funnel, whole_funnel
from alignset.pipeline.datasets.summary import (
    HINTS,
    copies_text,
    flags,
    hint_of,
    render_failed,
    too_little,
)
from alignset.pipeline.runs.documents import BrokenInput, FetchReport, Funnel
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.shards.failed_fetches import FindFailingHosts, failures_by_host
from alignset.transforms.shards.shard_stats import FailingHost, NearDuplicates, SharedContents
from alignset.transforms.workers.counts import Counts
from tests.support.made_batches import run_in_beam
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


STATUSES = {"success": 40, "fetch_failed: dns": 36, "too_small": 4, "fetch_failed: http_404": 20}


def test_failures_by_detail() -> None:
    report = failed_fetches(100, STATUSES, [])
    assert report == FetchReport(100, 56, {"dns": 36, "http_404": 20}, [])
    assert list(report.details) == ["dns", "http_404"]


def test_every_hint_is_of_a_detail_and_nearly_every_detail_has_one() -> None:
    assert all(any(detail.startswith(begin) for detail in FETCH_DETAILS) for begin in HINTS)
    assert "rate limiting" in hint_of("dns")
    assert hint_of("http_503") == hint_of("http_500") != ""
    assert hint_of("http_418") == ""


def test_the_table_says_what_where_and_what_to_do() -> None:
    hosts = [FailingHost({"dns": 35, "timeout": 1}, 36, "a.org")]
    text = render_failed(failed_fetches(100, STATUSES, hosts))
    assert "56 of 100 fetches failed (56.0%)" in text
    assert "36   36.0%  is the resolver rate limiting?" in text
    assert "a.org" in text
    assert "dns 35, timeout 1" in text
    assert render_failed(failed_fetches(9, {"success": 9}, [])) == ""


def test_a_terminal_is_not_commanded() -> None:
    hosts = [FailingHost({"dns": 1}, 1, "\x1b[2Ja.org")]
    assert "\x1b" not in render_failed(FetchReport(1, 1, {}, hosts))


def rows(*failures: tuple[str, str, str | None]) -> pa.Table:
    names = ("url", "reason", "detail")
    return pa.table({n: [row[i] for row in failures] for i, n in enumerate(names)})


def test_hosts_as_they_are_told_apart() -> None:
    failures = rows(
        ("http://A.org/1", "fetch_failed", "dns"),
        ("https://me:secret@a.org/2", "fetch_failed", "http_404"),
        ("http://a.org:81/3", "fetch_failed", "dns"),
        ("http://[::1", "fetch_failed", "bad_url"),
        ("http://b.org/", "too_small", None),
    )
    assert failures_by_host(failures) == {
        "a.org": {"dns": 1, "http_404": 1},
        "a.org:81": {"dns": 1},
        "": {"bad_url": 1},
    }


def test_the_twenty_with_the_most_in_beam(tmp_path: Path) -> None:
    (tmp_path / "rejected").mkdir()
    for shard in range(3):
        failures = [
            (f"http://h{n}.org/", "fetch_failed", "dns") for n in range(30) for _ in range(n)
        ]
        pq.write_table(rows(*failures), tmp_path / "rejected" / f"images-{shard:05d}.parquet")

    def build(pipeline: beam.Pipeline) -> None:
        hosts = pipeline | beam.Create(range(3)) | FindFailingHosts(str(tmp_path))
        expected = [FailingHost({"dns": 3 * n}, 3 * n, f"h{n}.org") for n in range(29, 9, -1)]
        assert_that(hosts, equal_to([expected]))

    run_in_beam(build)


def test_graphics_that_look_alike_stayed_where_photographs_left() -> None:
    near = NearDuplicates(3, distances=[9])
    funnel = made(20, {"duplicate_image": 9}, copies=SharedContents(), near_duplicates=near)
    assert copies_text(funnel).endswith("; 3 graphics looked like another and stayed")
