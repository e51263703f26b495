"""The days of a crawl, as archives tell them."""

import pytest

from alignset.transforms.pages.page_counts import (
    PageCounts,
    PageTally,
    add_page_counts,
    date_in_wat,
    day_of,
)
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pages.parse_pages import pairs_of
from tests.support.root import ROOT


@pytest.mark.parametrize(
    ("value", "day"),
    [
        (b"2024-05-18T09:52:13Z", "2024-05-18"),
        (b"2024-02-29", "2024-02-29"),
        (b"2023-02-29T00:00:00Z", ""),  # there was no such day
        (b"2024-00-10", ""),
        (b"0000-01-01", ""),
        (b"yesterday", ""),
        (b"", ""),
        (b" 2024-05-18", ""),
        ("２０２４-05-18".encode(), ""),
    ],
)
def test_the_day_of_a_warc_date(value: bytes, day: str):
    assert day_of(value) == day


def test_the_first_and_the_last_day():
    tally = PageTally()
    for value in (b"2024-05-18T09Z", b"no day", b"2024-05-20T09Z", b"2024-04-30T09Z", b""):
        tally.note_day(value)
    assert (tally.first_day, tally.last_day) == ("2024-04-30", "2024-05-20")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_wat_record_has_the_date_of_its_page_beside_its_own(kind: type):
    own = b"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Date: 2024-06-01T00:00:00Z\r\n\r\n"
    page = b'{"Envelope":{"WARC-Header-Metadata":{"WARC-Date" : "2024-05-18T00:00:00Z"}}}'
    assert date_in_wat(kind(own + page)) == b"2024-05-18"
    assert date_in_wat(kind(own)) == b""
    assert date_in_wat(kind(own + bytes(1 << 16) + page)) == b""
    assert date_in_wat(kind(b"")) == b""


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
