"""The first reading of the corpus: columns of hashes to the buckets that count them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms.batches import Blocks, batch_of, bucket_order, bucket_slices, column, unpacked
from transforms.counts import frequent_keys, repeated_rows, runs
from transforms.language import LanguageRule, wrong_languages
from transforms.measure import measure
from transforms.threads import in_threads

Bucket = tuple[int, pa.RecordBatch]
BUCKET = beam.typehints.Tuple[int, pa.RecordBatch]  # Beam's name for it, to find the IPC coder
ReadSplit = Callable[[Any], Iterator[pa.RecordBatch]]

# Rows whose columns go into one block: 7 MB of them, well under any engine's largest element.
ROWS_PER_BLOCK = 1 << 18


class Counted(NamedTuple):
    """What one batch adds to the counts; rows are those that are not malformed."""

    pairs: pa.RecordBatch  # url, text, exact: uint64; row: uint32; counted: uint8, 0 or 1
    ngrams: np.ndarray  # uint64[m], of rows in the wanted language
    foreign: pa.RecordBatch  # row: uint32; language: string
    rows: int  # of the batch, malformed ones too


def counted(batch: pa.RecordBatch, *, first_row: int, language: LanguageRule) -> Counted:
    """Measures a batch for the corpus-wide counts.

    Args:
      batch: pairs as they were read.
      first_row: the first row's place in its split.
      language: pairs in any other are judged but do not count.
    """
    pairs = measure(batch)
    usable = pairs.usable()
    rows = np.flatnonzero(usable)
    foreign, languages = wrong_languages(pairs.text.filter(pa.array(usable)), language)
    counts = np.ones(len(rows), np.bool_)
    counts[foreign] = False
    voters = usable.copy()
    voters[rows[foreign]] = False
    columns = {
        "url": pairs.url_hash[rows],
        "text": pairs.text_hash[rows],
        "exact": pairs.exact_hash()[rows],
        "row": (rows + first_row).astype(np.uint32),
        "counted": counts.astype(np.uint8),
    }
    named = {"row": (rows[foreign] + first_row).astype(np.uint32), "language": languages}
    return Counted(batch_of(columns), pairs.ngram_hashes(voters), batch_of(named), len(batch))


class _Count(beam.DoFn):
    def __init__(
        self, read: ReadSplit, blocks: Blocks, language: LanguageRule, buckets: int
    ) -> None:
        self.read, self.blocks = read, blocks
        self.language, self.buckets = language, buckets

    def process(self, element: tuple[int, Any]) -> Iterator[Any]:
        split_id, split = element
        held: list[Counted] = []
        rows = 0
        for part in in_threads(self._count, self._numbered(split)):
            held.append(part)
            rows += part.rows
            if sum(len(p.pairs) for p in held) >= ROWS_PER_BLOCK:
                yield from self._emit(split_id, held)
                held = []
        if held:
            yield from self._emit(split_id, held)
        yield beam.pvalue.TaggedOutput("read", rows)

    def _numbered(self, split: Any) -> Iterator[tuple[int, pa.RecordBatch]]:
        first_row = 0
        for batch in self.read(split):
            yield first_row, batch
            first_row += len(batch)

    def _count(self, numbered: tuple[int, pa.RecordBatch]) -> Counted:
        return counted(numbered[1], first_row=numbered[0], language=self.language)

    def _emit(self, split_id: int, held: list[Counted]) -> Iterator[Any]:
        pairs = pa.Table.from_batches([part.pairs for part in held])
        pairs = pairs.append_column("split", pa.array(np.full(len(pairs), split_id, np.uint32)))
        whole = pairs.combine_chunks().to_batches()[0] if len(pairs) else None
        if whole is not None:
            yield from self._tagged("by_url", whole, "url")
            mask = whole["counted"].to_numpy() > 0
            votes = whole.select(["text", "url"]).filter(pa.array(mask))
            yield from self._tagged("by_text", votes, "text")
        hashes, counts = runs(np.sort(np.concatenate([part.ngrams for part in held])))
        ngrams = batch_of({"ngram": hashes, "count": counts.astype(np.uint32)})
        spread = list(bucket_slices(hashes, 4 * self.buckets))
        packed = self.blocks.pack([ngrams.slice(a, b - a) for _, a, b in spread])
        for (bucket, _, _), block in zip(spread, packed, strict=True):
            yield beam.pvalue.TaggedOutput("ngrams", (bucket, block))
        for block in self.blocks.pack([part.foreign for part in held if len(part.foreign)]):
            yield beam.pvalue.TaggedOutput("foreign", (split_id, block))

    def _tagged(self, tag: str, rows: pa.RecordBatch, key: str) -> Iterator[Any]:
        order, spread = bucket_order(rows[key].to_numpy(), self.buckets)
        ordered = rows.take(pa.array(order))
        packed = self.blocks.pack([ordered.slice(a, b - a) for _, a, b in spread])
        for (bucket, _, _), block in zip(spread, packed, strict=True):
            yield beam.pvalue.TaggedOutput(tag, (bucket, block))


@dataclass(eq=False)
class CountPairs(beam.PTransform):
    """Splits of the input to blocks of hash columns, by bucket.

    Args:
      read: gives the batches of one split, the same ones each time.
      blocks: how blocks cross the shuffles.
      language: as for `counted`.
      buckets: how many buckets of URLs and of texts, a power of two; n-grams have four times it.

    Outputs, each of (bucket or split, block): `by_url` (url, text, exact, row, counted, split),
    `by_text` (text, url), `ngrams` (ngram, count), `foreign` (row, language; by split); and `read`,
    how many rows each split has.
    """

    read: ReadSplit
    blocks: Blocks
    language: LanguageRule
    buckets: int = 8

    def expand(self, splits: beam.PCollection) -> Any:
        # Declared so that Beam uses the IPC coder and does not pickle the batches.
        count = _Count(self.read, self.blocks, self.language, self.buckets)
        tags = ("by_url", "by_text", "ngrams", "foreign")
        outputs = splits | beam.ParDo(count).with_outputs(*tags, "read")
        for tag in tags:
            outputs[tag].element_type = BUCKET
        return outputs


class _FindFrequent(beam.DoFn):
    def __init__(self, limit: int) -> None:
        self.limit = limit

    def process(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[Bucket]:
        bucket, blocks = element
        table = unpacked(blocks)
        found = frequent_keys(column(table, "text"), column(table, "url"), self.limit)
        yield bucket, batch_of({"hash": found})


@dataclass(eq=False)
class FindFrequentTexts(beam.PTransform):
    """Blocks of (text, url) to the hashes of texts on more than `limit` images, by bucket.

    Source: ALIGN (Jia et al., 2021), section 3.
    """

    limit: int

    def expand(self, by_text: beam.PCollection) -> beam.PCollection:
        find = beam.ParDo(_FindFrequent(self.limit)).with_output_types(BUCKET)
        return by_text | beam.GroupByKey() | find


class _FindCrowded(beam.DoFn):
    def __init__(self, limit: int, blocks: Blocks) -> None:
        self.limit, self.blocks = limit, blocks

    def process(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[Any]:
        bucket, blocks = element
        table = unpacked(blocks)
        urls, texts = column(table, "url"), column(table, "text")
        votes = column(table, "counted") > 0
        crowded = frequent_keys(urls[votes], texts[votes], self.limit)
        yield bucket, batch_of({"hash": crowded})
        split, row = column(table, "split"), column(table, "row")
        place = split.astype(np.uint64) << np.uint64(32) | row
        repeats = np.sort(place[repeated_rows(urls, texts, column(table, "exact"), place)])
        splits, counts = runs(repeats >> np.uint64(32))
        ends = np.cumsum(counts)
        rows = batch_of({"row": repeats.astype(np.uint32)})
        packed = self.blocks.pack([rows.slice(e - n, n) for e, n in zip(ends, counts, strict=True)])
        for split_id, block in zip(splits, packed, strict=True):
            yield beam.pvalue.TaggedOutput("repeated", (int(split_id), block))


@dataclass(eq=False)
class FindCrowdedImages(beam.PTransform):
    """Blocks of pairs by URL to the URLs with more than `limit` texts, and the repeated pairs.

    Outputs: `crowded` (bucket, hashes of URLs), `repeated` (split, rows of it that repeat a pair).

    Source: ALIGN (Jia et al., 2021), section 3.
    """

    limit: int
    blocks: Blocks

    def expand(self, by_url: beam.PCollection) -> Any:
        find = beam.ParDo(_FindCrowded(self.limit, self.blocks))
        outputs = by_url | beam.GroupByKey() | find.with_outputs("repeated", main="crowded")
        for output in (outputs["crowded"], outputs["repeated"]):
            output.element_type = BUCKET
        return outputs
