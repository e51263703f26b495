"""Pages of a PCollection: the pairs of a page do not depend on the pages beside it."""

from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.pages import find_pairs, parse_pages
from alignset.transforms.pages.find_pairs import FindPairs, pairs_of_pages
from alignset.transforms.pages.http_pages import MAX_URL, Page
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pages.parse_pages import PAGE_PAIRS
from tests.support.made_batches import run_in_beam
from tests.support.page_archives import page_record


def page(number: int, images: int) -> Page:
    tags = "".join(f'<img src="{n}.png" alt="picture {n}">' for n in range(images))
    return Page(f"http://a.example/{number}/", tags.encode())


def rows(batches: list[pa.RecordBatch]) -> list[dict]:
    assert all(batch.schema == PAGE_PAIRS and len(batch) for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


def test_a_page_has_a_row_for_each_image() -> None:
    assert rows([*pairs_of_pages([page(7, 2)])]) == [
        {
            "url": f"http://a.example/7/{n}.png",
            "caption": f"picture {n}",
            "page_url": "http://a.example/7/",
            "malformed": None,
            "source_license": None,
            "source_opted_out": None,
        }
        for n in range(2)
    ]


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (Page("http://a.example/".ljust(MAX_URL + 1, "a"), b"<img src=a alt=b>"), "long_url"),
        (Page("http://a.example/", b"<img src=a alt=b>" + b" " * 20), "too_large"),
    ],
)
def test_what_cannot_be_used_is_a_row_with_its_detail(
    bad: Page, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "too_large":
        monkeypatch.setattr(parse_pages, "MAX_PAGE", len(bad.body) - 1)
    (row,) = rows([*pairs_of_pages([bad])])
    assert row["malformed"] == fault
    assert row["page_url"] == bad.url


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_pages_together_have_the_pairs_that_they_have_alone(few: list, more: list) -> None:
    one, other = ([page(n, images) for n, images in enumerate(counts)] for counts in (few, more))
    alone = rows([*pairs_of_pages(one)]) + rows([*pairs_of_pages(other)])
    assert rows([*pairs_of_pages(one + other)]) == alone


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_pages_and_files_become_batches(
    at_once: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(find_pairs, "PAGES_AT_ONCE", at_once)
    body = page(9, 2).body.decode()
    (tmp_path / "a.warc").write_bytes(page_record("http://a.example/9/", body))
    parts = [*(page(n, 2) for n in range(9)), PageFiles("warc", ((f"{tmp_path}/a.warc", ""),))]

    def check(batches: list[pa.RecordBatch]) -> None:
        urls = {row["url"] for row in rows(batches)}
        assert urls == {f"http://a.example/{n}/{i}.png" for n in range(10) for i in range(2)}
        assert sum(map(len, batches)) == len(urls)

    run_in_beam(lambda p: assert_that(p | beam.Create(parts) | FindPairs(), check))
