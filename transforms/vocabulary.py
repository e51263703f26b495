"""The vocabulary: the most frequent unigrams and bigrams of the raw corpus, together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms.batches import Blocks, batch_of, pieces, unpack
from transforms.count_pairs import BUCKET, Bucket, OfBucket
from transforms.counts import Counts, frequent_ngrams, runs, sum_by_hash, vocabulary_cut

Histogram = tuple[int, tuple[Counts, Counts]]


class _Sum(OfBucket):
    """One bucket's n-grams with their counts, and how many n-grams have each count."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def work(self, element: tuple[int, pa.Table]) -> Iterator[Any]:
        bucket, table = element
        hashes, sums = sum_by_hash(pieces(table, "ngram"), pieces(table, "count"))
        yield beam.pvalue.TaggedOutput("histograms", (bucket, runs(np.sort(sums))))
        (block,) = self.blocks.pack([batch_of({"ngram": hashes, "count": sums})])
        yield bucket, block


def _keep(counted: Bucket, cut: tuple[int, dict[int, int]], blocks: Blocks) -> Bucket:
    bucket, block = counted
    batch = unpack(block)
    hashes, counts = batch["ngram"].to_numpy(), batch["count"].to_numpy()
    members = batch_of({"hash": frequent_ngrams(hashes, counts, cut[0], cut[1][bucket])})
    return bucket, blocks.pack([members])[0]


def _describe(histograms: list[Histogram], size: int) -> dict[str, int]:
    """How many n-grams there are, how many are kept, and the count at which it is cut."""
    n_grams = sum(int(n.sum()) for _, (_, n) in histograms)
    cut = vocabulary_cut(dict(histograms), size)[0]
    return {"ngrams": n_grams, "vocabulary": min(n_grams, size), "cut_off_count": cut}


@dataclass(eq=False)
class BuildVocabulary(beam.PTransform):
    """Blocks of n-gram counts to the hashes of the `size` most frequent, by bucket.

    Exact at any size; ties at the cut-off go to the smallest hashes, so that every engine keeps
    the same set.

    Outputs: a dict of `members` (bucket, hashes) and `summary` (one dict).

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
        start = ngrams.pipeline | "Once" >> beam.Create([None])
        cut = start | "Cut" >> beam.Map(lambda _, h: vocabulary_cut(dict(h), size), histograms)
        keep = beam.Map(_keep, beam.pvalue.AsSingleton(cut), self.blocks).with_output_types(BUCKET)
        return {
            "members": summed["counted"] | "Keep" >> keep,
            "summary": start | "Describe" >> beam.Map(lambda _, h: _describe(h, size), histograms),
        }
