"""Web pages to pairs: archives and folders of pages are parsed once, into Parquet, which both
readings of the corpus then read; pages of a PCollection become batches.

To parse a page costs twenty times what its pairs cost after it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import apache_beam as beam
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue
from msgspec import UNSET

from alignset.transforms.columns.pair_columns import OPT_OUTS, PAGE_URL
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.archives import Broken, read_records, read_to_end, unreadable
from alignset.transforms.pages.http_pages import (
    LONG_URL,
    MAX_PAGE,
    MAX_URL,
    TOO_LARGE,
    Page,
    page_of,
    page_of_wat,
)
from alignset.transforms.pages.page_counts import PageCounts, PageTally
from alignset.transforms.pages.page_files import SAID, PageFiles, parsed_path
from alignset.transforms.pages.page_images import HONOURED, Found, images_of
from alignset.transforms.rules.given import PAGE_FAULTS
from alignset.transforms.storage.broken_files import BrokenFile, BrokenInputError
from alignset.transforms.storage.documents import add_by_name
from alignset.transforms.storage.files import exists, is_local, open_to_read
from alignset.transforms.storage.parquet_files import parquet_file
from alignset.transforms.storage.shared_paths import input_fault

LOG = logging.getLogger("alignset")
PAGE_PAIRS = pa.schema(
    [(name, pa.string()) for name in ("url", "caption", "malformed", PAGE_URL, *SAID)]
)
BYTES_AT_ONCE = 1 << 25  # of pages
ROWS_AT_ONCE, _CHARACTERS_AT_ONCE = 1 << 14, 1 << 24  # of strings
Pairs = Found | Broken | BrokenFile
T = TypeVar("T")
COUNTS = b"alignset.pages"  # where the file keeps what was counted


def pairs_of(part: PageFiles, tally: PageTally, how: OptOutSettings = HONOURED) -> Iterator[Pairs]:
    """The pairs of some pages, and which pages, records and files are broken; counts what it
    sees.

    Args:
      how: which opt-outs of pages are honoured.
    """
    pages = chain.from_iterable(
        _while_readable(path, _pages_of_file(part.format, path, url, tally))
        for path, url in part.files
    )
    yield from pairs_in(pages, tally, how)


def pairs_in(
    pages: Iterable[Page | Broken | BrokenFile], tally: PageTally, how: OptOutSettings = HONOURED
) -> Iterator[Pairs]:
    """The pairs of HTML pages; what is broken passes through."""
    remaining, ended = iter(pages), False
    while not ended:
        # libxml2 keeps each name of a tag or attribute until the thread ends that read it.
        with ThreadPoolExecutor(1) as thread:
            parts, ended = thread.submit(_next_pairs, remaining, tally, how).result()
        yield from chain.from_iterable(parts)


def _next_pairs(
    pages: Iterator[Page | Broken | BrokenFile], tally: PageTally, how: OptOutSettings
) -> tuple[list[Iterable[Pairs]], bool]:
    """The pairs of each of the next pages, and whether these are the last."""
    parts: list[Iterable[Pairs]] = []
    size = 0
    for page in pages:
        if isinstance(page, Broken | BrokenFile):
            parts.append([page])
        elif len(page.url) > MAX_URL or len(page.body) > MAX_PAGE:
            fault = LONG_URL if len(page.url) > MAX_URL else TOO_LARGE
            parts.append([Broken(fault, page.url)])
        else:
            tally["pages"] += 1
            tally.note_day(page.date)
            parts.append(images_of(page, how))
            size += len(page.body)
        if size >= BYTES_AT_ONCE or len(parts) >= ROWS_AT_ONCE:
            return parts, False
    return parts, True


def _while_readable(path: str, items: Iterable[T]) -> Iterator[T | BrokenFile]:
    """Pages of a file, and whether its disk cannot be read further."""
    try:
        yield from items
    except Exception as error:
        file = input_fault(path, error)
        if file is None:
            raise
        yield file


def _pages_of_file(format: str, path: str, url: str, tally: PageTally) -> Iterator[Page | Broken]:
    if format == "html":
        with open_to_read(path) as source:
            yield Page(url, source.read(MAX_PAGE + 1))
        return
    read_page = page_of_wat if format == "wat" else page_of
    with open_to_read(path) as source:
        for item in read_to_end(read_records(source)):
            tally["records"] += 1
            page: Page | Broken | str
            if isinstance(item, Broken):
                page = item
            else:
                try:
                    page = read_page(item)
                except Exception as error:
                    page = unreadable(error, item.target)
            if isinstance(page, str):
                tally[page] += 1
            else:
                yield page


def rows_of(pairs: Iterable[Pairs], how: OptOutSettings = HONOURED) -> Iterator[pa.RecordBatch]:
    """Rows in batches; a broken page is a row without a URL and text, and a broken file has its
    path and its fault there. A pair whose page is opted out is `malformed` with that detail, unless
    such opt-outs are only reported."""
    columns = _no_rows()
    size = 0
    row: tuple[str | None, ...]
    for item in pairs:
        if isinstance(item, BrokenFile):
            path = item.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            row = (path, item.fault, item.detail, "", None, None, None)
        elif isinstance(item, Broken):
            row = (None, None, item.detail, item.page, None, None, None)
            size += len(item.page)
        else:
            opted_out = item.words.opt_outs
            fault = opted_out[0] if opted_out and how.rejects else None
            licenses = item.words.license, " ".join(item.words.rsl) or None
            row = (item.url, item.text, fault, item.page, *licenses, ",".join(opted_out) or None)
            size += len(item.url) + len(item.text) + len(item.page)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        if len(columns[0]) == ROWS_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield pa.record_batch([pa.array(c, pa.string()) for c in columns], schema=PAGE_PAIRS)
            columns, size = _no_rows(), 0
    yield pa.record_batch([pa.array(c, pa.string()) for c in columns], schema=PAGE_PAIRS)


def _no_rows() -> tuple[list[str | None], ...]:
    return tuple([] for _ in PAGE_PAIRS)


class _Parse(beam.DoFn):
    def __init__(self, folder: str, skip_broken: bool, how: OptOutSettings) -> None:
        self.folder, self.skip_broken, self.how = folder, skip_broken, how
        self.scratch = str(Path(folder).parent) if is_local(folder) else None

    def process(self, element: tuple[int, PageFiles]) -> Iterator[PageCounts]:
        number, part = element
        path = parsed_path(self.folder, number)
        if exists(path):  # it is published whole
            with open_to_read(path) as source:
                yield msgspec.json.decode(
                    pq.read_metadata(source).metadata[COUNTS], type=PageCounts
                )
            return
        tally, opted_out = PageTally(), dict[str, int]()
        with parquet_file(path, PAGE_PAIRS, self.scratch) as file:
            for batch in rows_of(self._pairs_of(part, tally), self.how):
                file.write(batch)
                counts = pc.value_counts(batch["malformed"].drop_null()).to_pylist()
                drop_counts = {c["values"]: c["counts"] for c in counts if c["values"] in OPT_OUTS}
                opted_out = add_by_name([opted_out, drop_counts])
                tally["pairs"] += batch["malformed"].null_count + sum(drop_counts.values())
                faults = pc.is_in(batch["malformed"], value_set=pa.array(PAGE_FAULTS))
                tally["broken"] += faults.true_count
            counts = PageCounts(
                **tally,
                first_day=tally.first_day or UNSET,
                last_day=tally.last_day or UNSET,
                opted_out=opted_out or UNSET,
            )
            file.note({COUNTS: msgspec.json.encode(counts)})
        LOG.info("pages %d: %d pairs of %d pages", number, counts.pairs, counts.pages)
        yield counts

    def _pairs_of(self, part: PageFiles, tally: PageTally) -> Iterator[Pairs]:
        for item in pairs_of(part, tally, self.how):
            if isinstance(item, BrokenFile) and not self.skip_broken:
                raise BrokenInputError.not_skipped(item)
            yield item


@dataclass(eq=False)
class ParsePages(beam.PTransform):
    """(number, `PageFiles`) to one Parquet file each in `folder`, and to `PageCounts`.

    A file that is there is not made again. An input file that cannot be read is a row, or where it
    is not to be skipped raises BrokenInputError.

    Args:
      how: which opt-outs of pages are honoured.
    """

    folder: str
    skip_broken: bool = False
    how: OptOutSettings = HONOURED

    def expand(self, parts: beam.PCollection) -> Any:
        return parts | beam.ParDo(_Parse(self.folder, self.skip_broken, self.how))


PAGES_AT_ONCE = 256  # whose pairs are given together


class _FindPairs(beam.DoFn):
    def __init__(self, how: OptOutSettings) -> None:
        self.how = how

    def start_bundle(self) -> None:
        self.waiting: list[Page] = []
        self.bytes = 0

    def process(self, element: Page | PageFiles) -> Iterator[pa.RecordBatch]:
        if isinstance(element, PageFiles):
            yield from filter(len, rows_of(pairs_of(element, PageTally(), self.how), self.how))
            return
        self.waiting.append(element)
        self.bytes += len(element.body)
        if len(self.waiting) == PAGES_AT_ONCE or self.bytes >= BYTES_AT_ONCE:
            yield from self._parsed()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from map(GlobalWindows.windowed_value, self._parsed())

    def _parsed(self) -> Iterator[pa.RecordBatch]:
        yield from filter(len, rows_of(pairs_in(self.waiting, PageTally(), self.how), self.how))
        self.start_bundle()


@dataclass(eq=False)
class FindPairs(beam.PTransform):
    """Pages to the pairs in them.

    Input: `Page`s, and `PageFiles`, whose files a worker reads.
    Output: batches of `PAGE_PAIRS`: `url` and `caption` of each image, `page_url`, and what the
    page says: `source_license`, `source_rsl`, `source_opted_out`. A page that is broken or opted
    out is `malformed` with that detail, so that a later step counts it.

    Args:
      how: which opt-outs of pages are honoured.
    """

    how: OptOutSettings = HONOURED

    def expand(self, pages: beam.PCollection) -> beam.PCollection:
        # Declared so that Beam uses the IPC coder and does not pickle the batches.
        return pages | beam.ParDo(_FindPairs(self.how)).with_output_types(pa.RecordBatch)
