"""Web pages of a PCollection to batches of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.http_pages import Page
from alignset.transforms.pages.page_counts import PageTally
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pages.page_words import HONOURED
from alignset.transforms.pages.parse_pages import BYTES_AT_ONCE, pairs_in, pairs_of, rows_of

PAGES_AT_ONCE = 256  # whose pairs are given together


def pairs_of_pages(
    pages: Iterable[Page], how: OptOutSettings = HONOURED
) -> Iterator[pa.RecordBatch]:
    """The pairs of HTML pages, in batches of `PAGE_PAIRS`.

    Args:
      how: which opt-outs of pages are honoured.
    """
    yield from filter(len, rows_of(pairs_in(pages, PageTally(), how), how))


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
        yield from pairs_of_pages(self.waiting, self.how)
        self.start_bundle()


@dataclass(eq=False)
class FindPairs(beam.PTransform):
    """Pages to the pairs in them.

    Input: `Page`s, and `PageFiles`, whose files a worker reads.
    Output: batches of `PAGE_PAIRS`: `url` and `caption` of each image, `page_url`, and what the
    page says: `source_license`, `source_opted_out`. A page that is broken or opted out is
    `malformed` with that detail, so that a later step counts it.

    Args:
      how: which opt-outs of pages are honoured.
    """

    how: OptOutSettings = HONOURED

    def expand(self, pages: beam.PCollection) -> beam.PCollection:
        # Declared so that Beam uses the IPC coder and does not pickle the batches.
        return pages | beam.ParDo(_FindPairs(self.how)).with_output_types(pa.RecordBatch)
