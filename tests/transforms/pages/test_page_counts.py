"""The days of a crawl, as archives tell them."""

import pytest

from alignset.transforms.pages.page_counts import PageCounts, PageTally, add_page_counts, day_of


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


def test_the_days_of_parts_span_those_of_the_whole():
    parts = [
        PageCounts(pages=2, first_day="2024-05-18", last_day="2024-05-20"),
        PageCounts(pages=1),
        PageCounts(pages=1, first_day="2024-04-30", last_day="2024-05-18"),
    ]
    whole = PageCounts(pages=4, first_day="2024-04-30", last_day="2024-05-20")
    assert add_page_counts(parts) == add_page_counts(parts[::-1]) == whole
    assert add_page_counts(parts[1:2]) == PageCounts(pages=1)
