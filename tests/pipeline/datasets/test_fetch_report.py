"""What failed and where: counted from stats and `rejected/`, and printed with hints."""

from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.testing.util import assert_that, equal_to

from alignset.pipeline.datasets.fetch_report import HINTS, failed_fetches, hint_of, render_failed
from alignset.pipeline.runs.documents import FetchReport
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS
from alignset.transforms.shards.failed_fetches import FindFailingHosts, failures_by_host
from alignset.transforms.shards.shard_stats import FailingHost
from tests.support.made_batches import run_in_beam

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
