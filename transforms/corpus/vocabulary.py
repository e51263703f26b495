"""The vocabulary: the most frequent unigrams and bigrams of all pairs in the language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from alignset.transforms.columns.batches import batch_of, pieces
from alignset.transforms.corpus.corpus_documents import CountClass, VocabularySummary
from alignset.transforms.corpus.count_pairs import OfBucket
from alignset.transforms.corpus.hash_counts import (
    Int64s,
    VocabularyCut,
    frequent_ngrams,
    runs,
    sum_by_hash,
    vocabulary_cut,
)
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpack
from alignset.transforms.workers.threaded_dofn import ThreadedDoFn

Histogram = tuple[int, tuple[Int64s, Int64s]]


class _Sum(OfBucket):
    """One bucket's n-grams with their counts, and how many n-grams have each count."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def work(self, element: tuple[int, pa.Table]) -> Iterator[Any]:
        bucket, table = element
        hashes, sums = sum_by_hash(pieces(table, "ngram"), pieces(table, "count"))
        yield beam.pvalue.TaggedOutput("histograms", (bucket, runs(np.sort(sums))))
        narrow = sums.astype(np.min_scalar_type(sums.max(initial=0)))  # one to four bytes for eight
        (block,) = self.blocks.pack([batch_of({"ngram": hashes, "count": narrow})])
        yield bucket, block


class _Keep(ThreadedDoFn):
    """The n-grams of a bucket that are in the vocabulary."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def work(self, element: Bucket, cut: VocabularyCut) -> Iterator[Bucket]:
        bucket, block = element
        batch = unpack(block)
        hashes, counts = batch["ngram"].to_numpy(), batch["count"].to_numpy()
        members = frequent_ngrams(hashes, counts, cut.cut_off, cut.quotas[bucket])
        yield bucket, self.blocks.pack([batch_of({"hash": members})])[0]


def describe_vocabulary(
    histograms: Mapping[int, tuple[Int64s, Int64s]], size: int
) -> VocabularySummary:
    """What a corpus has of n-grams, and what of it the `size` most frequent are.

    Args:
      histograms: as for `vocabulary_cut`.
    """
    cut, quotas = vocabulary_cut(histograms, size)
    none = np.zeros(0, np.int64)
    counts = np.concatenate([h[0] for h in histograms.values()] or [none])
    n_grams = np.concatenate([h[1] for h in histograms.values()] or [none])
    total, above = int(n_grams.sum()), counts > cut
    occurrences = int((counts * n_grams).sum())
    covered = int((counts * n_grams)[above].sum()) + cut * sum(quotas.values())
    by_count = []
    low, high = 1, 1
    while low <= counts.max(initial=0):
        within = (counts >= low) & (counts <= high)
        members, times = int(n_grams[within].sum()), int((counts * n_grams)[within].sum())
        by_count.append(CountClass(high, low, members, times))
        low, high = high + 1, 2 if high == 1 else 10 if high == 2 else 10 * high
    return VocabularySummary(
        by_count=by_count,
        cut_off_count=cut,
        ngrams=total,
        occurrences=occurrences,
        occurrences_in_vocabulary=covered,
        share_of_occurrences=round(covered / occurrences, 6) if occurrences else 1.0,
        vocabulary=min(total, size),
    )


@dataclass(eq=False)
class BuildVocabulary(beam.PTransform):
    """Blocks of n-gram counts to the hashes of the `size` most frequent, by bucket.

    Exact at any size; ties at the cut-off go to the smallest hashes, so that every engine keeps
    the same set.

    Outputs: a dict of `members` (bucket, hashes) and `summary` (a `VocabularySummary`).

    Source: ALIGN (Jia et al., 2021), section 3: 100 million, of the raw data.
    """

    size: int
    blocks: Blocks

    def expand(self, ngrams: beam.PCollection) -> dict[str, beam.PCollection]:
        size = self.size
        summed = (
            ngrams
            | beam.GroupByKey()
            | beam.ParDo(_Sum(self.blocks)).with_outputs("histograms", main="counted")
        )
        summed["counted"].element_type = BUCKET
        histograms = beam.pvalue.AsList(summed["histograms"])

        def describe(_: None, histograms: list[Histogram]) -> VocabularySummary:
            return describe_vocabulary(dict(histograms), size)

        start = ngrams.pipeline | "Once" >> beam.Create([None])
        cut = start | "Cut" >> beam.Map(lambda _, h: vocabulary_cut(dict(h), size), histograms)
        keep = beam.ParDo(_Keep(self.blocks), beam.pvalue.AsSingleton(cut))
        return {
            "members": summed["counted"] | "Keep" >> keep.with_output_types(BUCKET),
            "summary": start | "Describe" >> beam.Map(describe, histograms),
        }
