"""The second reading of the corpus: each pair judged, given the corpus-wide counts."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.batches import numbered
from alignset.transforms.columns.carried import carried_columns
from alignset.transforms.columns.pair_columns import PAGE_URL
from alignset.transforms.columns.rejects import key_column, pages_of, with_columns
from alignset.transforms.corpus.concepts import CONCEPTS, LISTED_CONCEPTS, open_concepts
from alignset.transforms.corpus.count_pairs import ReadSplit
from alignset.transforms.corpus.hash_sets import HashSet
from alignset.transforms.corpus.judge_batch import Blocking, CorpusSets, JudgeBatch
from alignset.transforms.rules.concepts import MAX_PAIRS_PER_CONCEPT
from alignset.transforms.rules.given import BROKEN_INPUT
from alignset.transforms.rules.rule import Stage
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.storage.blocks import (
    BUCKET,
    Blocks,
    Bucket,
    is_there,
    remove,
    unpack,
    unpack_each,
)
from alignset.transforms.storage.broken_files import BrokenFile
from alignset.transforms.storage.files import is_local, local_copy
from alignset.transforms.storage.parquet_files import RowWriter, parquet_file
from alignset.transforms.workers.counts import Counts
from alignset.transforms.workers.threaded_dofn import ThreadedDoFn
from alignset.transforms.workers.threads import in_threads

LOG = logging.getLogger("alignset")
FOUND = pa.schema(
    [
        ("row", pa.uint32()),
        ("language", pa.string()),
        ("score", pa.float64()),
        ("votes", pa.string()),
    ]
)
PAIRS = pa.schema([(name, pa.string()) for name in ("key", "url", "caption", PAGE_URL)])
PROGRESS_S = 10.0  # between two lines of a process
BATCHES_PER_BLOCKS = 16  # batches of kept pairs that share a file on their way


class _Progress:
    """Logs now and then what this process has judged: an input may have a million splits."""

    def __init__(self) -> None:
        self._kept = self._seen = 0
        self._last = time.monotonic()

    def add(self, kept: int, seen: int) -> None:
        self._kept += kept
        self._seen += seen
        if time.monotonic() - self._last >= PROGRESS_S:
            self._last = time.monotonic()
            LOG.info("texts so far: %s of %s pairs kept", f"{self._kept:,}", f"{self._seen:,}")


_PROGRESS = _Progress()


class _Judge(ThreadedDoFn):
    def __init__(self, transform: JudgePairs) -> None:
        self.read, self.blocks, self.rules = transform.read, transform.blocks, transform.rules
        self.out, self.plan = transform.out, transform.plan
        self.blocking = transform.blocking
        self.scratch = transform.work if is_local(transform.out) else None

    def take(self, element: tuple[int, Mapping[str, Any]]) -> tuple[int, Mapping[str, Any]]:
        return element[0], {name: list(values) for name, values in element[1].items()}

    def work(
        self,
        element: tuple[int, Mapping[str, Any]],
        sets: Mapping[str, str],
        shares: Mapping[int, float] | None = None,
    ) -> Iterator[Any]:
        split_id, parts = element
        for split in parts["split"]:  # a repeated row's split is always there, exactly once
            corpus = _open_sets(sets, self.rules)
            rows = [unpack(block)["row"].to_numpy() for block in parts["repeated"]]
            repeats = np.sort(np.concatenate(rows)) if rows else np.zeros(0, np.uint32)
            languages = _by_row(parts["languages"])
            # By the first reading, where all share a disk; gone where this work is done again.
            block = next((block for block in parts["measured"] if is_there(block)), None)
            judge = JudgeBatch(self.rules, corpus, repeats, languages, self.blocking, shares)
            batches = self.read(split) if block is None else unpack_each(block)
            counts = _Counting()
            path = f"{self.out}/rejected/text-{split_id:05d}.parquet"
            with parquet_file(path, judge.schema, self.scratch) as rejects:
                kept_batches = self._judge_batches(batches, judge, rejects, counts)
                yield from self._keep(split_id, kept_batches)
            if block is not None:
                remove(block)  # 200 bytes a pair of cached pages, for the next file to have
            _PROGRESS.add(counts.kept, counts.seen)
            yield beam.pvalue.TaggedOutput("counts", counts.total())
            for file in counts.broken_files:
                yield beam.pvalue.TaggedOutput("broken", file)

    def _judge_batches(
        self,
        batches: Iterator[pa.RecordBatch],
        judge: JudgeBatch,
        rejects: RowWriter,
        counts: _Counting,
    ) -> Iterator[pa.RecordBatch]:
        """The kept rows of each batch; the others are written down, and all are counted."""
        for size, keep, drop in in_threads(judge, numbered(batches)):
            rejects.write(drop)
            counts.add(size, keep, drop)
            yield keep

    def _keep(self, split_id: int, batches: Iterator[pa.RecordBatch]) -> Iterator[Bucket]:
        if self.plan:
            while group := list(islice(batches, BATCHES_PER_BLOCKS)):
                names = [n for n in group[0].schema.names if n not in self.rules.computed_columns]
                group = [batch.select(names) for batch in group if len(batch)]
                for block in self.blocks.pack(group):
                    yield split_id, block
            return
        path = f"{self.out}/pairs/{split_id:05d}.parquet"
        of_texts = {limit.measure.column for limit in self.rules.computing(Stage.TEXT)}
        others = {*self.rules.computed_columns} - of_texts
        names = [name for name in self.rules.measured_columns if name not in others]
        schema = with_columns(PAIRS, [*names, *self.rules.carried])
        with parquet_file(path, schema, self.scratch) as file:
            for rows in batches:
                key = key_column(rows["key"].to_numpy())
                columns = [key, rows["url"], rows["caption"], pages_of(rows)]
                columns += [rows[name] for name in names]
                columns += carried_columns(rows, self.rules.carried).values()
                file.write(pa.record_batch(columns, schema=schema))


class _Counting:
    """Outcomes of the pairs of a split, as they are judged."""

    def __init__(self) -> None:
        self.seen = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.broken_files: list[BrokenFile] = []

    def add(self, size: int, keep: pa.RecordBatch, drop: pa.RecordBatch) -> None:
        self.seen, self.kept = self.seen + size, self.kept + len(keep)
        for count in pc.value_counts(drop["reason"]).to_pylist():
            self.dropped[count["values"]] += count["counts"]
            if count["values"] == BROKEN_INPUT:
                rows = drop.filter(pc.equal(drop["reason"], BROKEN_INPUT))
                columns = (rows[name].to_pylist() for name in ("url", "detail", "caption"))
                self.broken_files += map(BrokenFile, *columns)

    def total(self) -> Counts:
        return Counts(self.seen, self.kept, dict(self.dropped))


def _by_row(blocks: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows whose language was found, `FOUND`, in their order."""
    batches = [unpack(block) for block in blocks]
    table = pa.Table.from_batches(batches, FOUND).sort_by("row")
    return pa.record_batch([column.combine_chunks() for column in table.columns], schema=FOUND)


def _open_sets(paths: Mapping[str, str], rules: RuleSettings) -> CorpusSets:
    """The files that `JudgePairs.sets` names."""
    sets = {name: _open_set(path) for name, path in paths.items() if not name.startswith(CONCEPTS)}
    corpus = CorpusSets(**sets)  # type: ignore[arg-type]
    limit = rules.numbers.get(MAX_PAIRS_PER_CONCEPT.name)
    if not limit:
        return corpus
    (name, path) = next(item for item in paths.items() if item[0].startswith(CONCEPTS))
    return corpus._replace(concepts=open_concepts(path, int(limit), name == LISTED_CONCEPTS))


@lru_cache(maxsize=8)
def _open_set(path: str) -> HashSet | None:
    return HashSet.open(local_copy(path)) if path else None


@dataclass(eq=False)
class JudgePairs(beam.PTransform):
    """Judges every pair; writes the dropped ones, and the kept ones where there is no plan.

    Input: (split, {"split": [split], "repeated": blocks, "languages": blocks, "measured":
    [block]}); the last leads to files that are removed once the split is judged. Where it is empty,
    or its files are gone, the split is read and measured again.
    Outputs: `kept` (split, blocks of key, url, caption and perhaps page_url and source_*), `counts`
    (`Counts` of each split), `broken` (`BrokenFile`s).

    Args:
      sets: a singleton, the path of the file of each field of `CorpusSets`; an empty one where
        every n-gram is in the vocabulary. Concepts may be `LISTED_CONCEPTS`.
      out: the output folder.
      work: a folder in it for files that are being written, where it is local.
      plan: whether kept pairs continue to shards; else they are written to `pairs/`.
      blocking: None where there is no blocklist.
      shares: a singleton, as of `shares_like`; None where languages have no sizes.
    """

    read: ReadSplit
    blocks: Blocks
    rules: RuleSettings
    sets: beam.PCollection
    out: str
    work: str
    plan: bool
    blocking: Blocking | None = None
    shares: beam.PCollection | None = None

    def expand(self, splits: beam.PCollection) -> Any:
        sides = [side for side in (self.sets, self.shares) if side is not None]
        judge = beam.ParDo(_Judge(self), *map(beam.pvalue.AsSingleton, sides))
        outputs = splits | judge.with_outputs("counts", "broken", main="kept")
        outputs["kept"].element_type = BUCKET
        return outputs
