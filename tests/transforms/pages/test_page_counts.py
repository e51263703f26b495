"""The days of a crawl, as archives tell them."""

import pytest

from alignset.transforms.pages.page_counts import PageCounts, PageTally, add_page_counts, day_of
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pages.parse_pages import pairs_of
from tests.support.root import ROOT


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("2024-05-18T09:52:13Z", "2024-05-18"),
        ("2024-02-29", "2024-02-29"),
        ("2023-02-29T00:00:00Z", ""),  # there was no such day
        ("2024-00-10", ""),
        ("0000-01-01", ""),
        ("yesterday", ""),
        ("", ""),
        (" 2024-05-18", ""),
        ("２０２４-05-18", ""),
    ],
)
def test_the_day_of_a_warc_date(value: str, day: str):
    assert day_of(value) == day


def test_the_first_and_the_last_day():
    tally = PageTally()
    for value in ("2024-05-18T09Z", "no day", "2024-05-20T09Z", "2024-04-30T09Z", ""):
        tally.note_day(value)
    assert (tally.first_day, tally.last_day) == ("2024-04-30", "2024-05-20")


@pytest.mark.parametrize("kind", ["warc", "wat"])
def test_an_archive_and_its_wat_name_the_same_days(kind: str):
    tally = PageTally()
    path = str(ROOT / "tests" / "wat_pages" / f"pages.{kind}.gz")
    list(pairs_of(PageFiles(kind, ((path, ""),)), tally))
    assert tally["pages"]
    assert (tally.first_day, tally.last_day) == ("2026-01-01", "2026-01-01")


def test_the_days_of_parts_span_those_of_the_whole():
    parts = [
        PageCounts(pages=2, first_day="2024-05-18", last_day="2024-05-20"),
        PageCounts(pages=1),
        PageCounts(pages=1, first_day="2024-04-30", last_day="2024-05-18"),
    ]
    whole = PageCounts(pages=4, first_day="2024-04-30", last_day="2024-05-20")
    assert add_page_counts(parts) == add_page_counts(parts[::-1]) == whole
    assert add_page_counts(parts[1:2]) == PageCounts(pages=1)
