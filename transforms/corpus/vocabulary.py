"""The vocabulary: the most frequent unigrams and bigrams of all pairs in the language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from alignset.transforms.columns.batches import batch_of
from alignset.transforms.corpus.corpus_documents import (
    CountClass,
    LanguageVocabulary,
    VocabularySummary,
)
from alignset.transforms.corpus.count_pairs import BucketDoFn
from alignset.transforms.corpus.hash_counts import (
    Int64s,
    VocabularyCut,
    frequent_ngrams,
    runs,
    sum_by_hash,
    vocabulary_cut,
)
from alignset.transforms.corpus.language_ngrams import (
    ENGLISH_NUMBER,
    Histograms,
    by_language,
    vocabulary_sizes,
)
from alignset.transforms.rules.language_codes import NUMBERED
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpack
from alignset.transforms.workers.threaded_dofn import ThreadedDoFn

OfBucketByLanguage = tuple[int, dict[int, tuple[Int64s, Int64s]]]


class _Sum(BucketDoFn):
    """One bucket's n-grams with their counts, and how many n-grams have each count, by language."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def work(self, element: tuple[int, pa.Table]) -> Iterator[Any]:
        bucket, table = element
        histograms, parts = {}, []
        for number, *of_language in by_language(table):
            hashes, sums = sum_by_hash(*of_language)
            histograms[number] = runs(np.sort(sums))
            parts.append((hashes, sums, np.full(len(sums), number, np.uint8)))
        yield beam.pvalue.TaggedOutput("histograms", (bucket, histograms))
        hashes, sums, numbers = map(np.concatenate, zip(*parts, strict=True))
        narrow = sums.astype(np.min_scalar_type(sums.max(initial=0)))  # one to four bytes for eight
        columns = {"ngram": hashes, "count": narrow}
        if "language" in table.column_names:
            columns["language"] = numbers
        (block,) = self.blocks.pack([batch_of(columns)])
        yield bucket, block


class _Keep(ThreadedDoFn):
    """The n-grams of a bucket that are in the vocabulary."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def work(self, element: Bucket, cuts: Mapping[int, VocabularyCut]) -> Iterator[Bucket]:
        bucket, block = element
        members = [np.zeros(0, np.uint64)]
        for number, hashes, counts in by_language(pa.Table.from_batches([unpack(block)])):
            cut = cuts[number]
            members.append(frequent_ngrams(hashes, counts, cut.cut_off, cut.quotas[bucket]))
        whole = np.unique(np.concatenate(members)) if len(members) > 2 else members[-1]
        yield bucket, self.blocks.pack([batch_of({"hash": whole})])[0]


def describe_languages(
    histograms: Mapping[int, Histograms], sizes: Mapping[int, int]
) -> VocabularySummary:
    """As `describe_vocabulary`, of languages by their numbers, each with its own size."""
    if {*histograms} <= {ENGLISH_NUMBER}:
        # English is all there is; its size does not matter where there is nothing.
        english, size = histograms.get(ENGLISH_NUMBER, {}), sizes.get(ENGLISH_NUMBER, 1)
        return describe_vocabulary(english, size)
    parts = {
        NUMBERED[number - 1]: describe_vocabulary(of_language, sizes[number])
        for number, of_language in sorted(histograms.items())
    }
    every = [of_bucket for of in histograms.values() for of_bucket in of.values()]
    whole = describe_vocabulary(dict(enumerate(every)), 1)
    in_vocabulary = sum(part.occurrences_in_vocabulary or 0 for part in parts.values())
    occurrences = whole.occurrences or 0
    return replace(
        whole,
        cut_off_count=max(part.cut_off_count or 0 for part in parts.values()),
        occurrences_in_vocabulary=in_vocabulary,
        share_of_occurrences=round(in_vocabulary / occurrences, 6) if occurrences else 1.0,
        vocabulary=sum(part.vocabulary for part in parts.values()),
        languages={
            name: LanguageVocabulary(
                part.cut_off_count or 0,
                part.ngrams or 0,
                part.share_of_occurrences or 0.0,
                part.vocabulary,
            )
            for name, part in parts.items()
        },
    )


def describe_vocabulary(
    histograms: Mapping[int, tuple[Int64s, Int64s]], size: int
) -> VocabularySummary:
    """Counts of n-grams in a corpus and in its `size` most frequent ones.

    Args:
      histograms: as for `vocabulary_cut`.
    """
    cut, quotas = vocabulary_cut(histograms, size)
    none = np.zeros(0, np.int64)
    counts = np.concatenate([h[0] for h in histograms.values()] or [none])
    n_grams = np.concatenate([h[1] for h in histograms.values()] or [none])
    total, above = int(n_grams.sum()), counts > cut
    occurrences = int((counts * n_grams).sum())
    in_vocabulary = int((counts * n_grams)[above].sum()) + cut * sum(quotas.values())
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
        occurrences_in_vocabulary=in_vocabulary,
        share_of_occurrences=round(in_vocabulary / occurrences, 6) if occurrences else 1.0,
        vocabulary=min(total, size),
    )


@dataclass(eq=False)
class BuildVocabulary(beam.PTransform):
    """Blocks of n-gram counts to the hashes of the `size` most frequent, by bucket.

    Exact at any size; ties at the cut-off go to the smallest hashes, so that every runner keeps
    the same dataset.

    Other languages than English have as many as `vocabulary_sizes` says.

    Args:
      texts: a singleton, as of `vocabulary_sizes`; None where no vote is taken.

    Outputs: a dict of `members` (bucket, hashes), `counted` (bucket, each n-gram with its count)
    and `summary` (a `VocabularySummary`).

    Source: ALIGN (Jia et al., 2021), section 3: 100 million, of the raw data.
    """

    size: int
    blocks: Blocks
    texts: beam.PCollection | None = None

    def expand(self, ngrams: beam.PCollection) -> dict[str, beam.PCollection]:
        size = self.size
        sums = (
            ngrams
            | beam.GroupByKey()
            | beam.ParDo(_Sum(self.blocks)).with_outputs("histograms", main="counted")
        )
        sums["counted"].element_type = BUCKET
        sides = [beam.pvalue.AsList(sums["histograms"])]
        if self.texts is not None:
            sides.append(beam.pvalue.AsSingleton(self.texts))

        def parts(
            buckets: list[OfBucketByLanguage], texts: Mapping[int, int] | None = None
        ) -> tuple[dict[int, Histograms], dict[int, int]]:
            histograms = _languages_first(buckets)
            return histograms, vocabulary_sizes(histograms, size, texts or {})

        def cuts(_: None, *inputs: Any) -> dict[int, VocabularyCut]:
            histograms, sizes = parts(*inputs)
            buckets = [bucket for bucket, _ in inputs[0]]
            cuts = {n: vocabulary_cut(of, sizes[n]) for n, of in histograms.items()}
            # With a quota of each bucket.
            return {
                number: cut._replace(quotas=dict.fromkeys(buckets, 0) | cut.quotas)
                for number, cut in cuts.items()
            }

        def describe(_: None, *inputs: Any) -> VocabularySummary:
            return describe_languages(*parts(*inputs))

        start = ngrams.pipeline | "Once" >> beam.Create([None])
        cut = start | "Cut" >> beam.Map(cuts, *sides)
        keep = beam.ParDo(_Keep(self.blocks), beam.pvalue.AsSingleton(cut))
        return {
            "counted": sums["counted"],
            "members": sums["counted"] | "Keep" >> keep.with_output_types(BUCKET),
            "summary": start | "Describe" >> beam.Map(describe, *sides),
        }


def _languages_first(buckets: list[OfBucketByLanguage]) -> dict[int, Histograms]:
    by_number: dict[int, dict[int, tuple[Int64s, Int64s]]] = {}
    for bucket, histograms in buckets:
        for number, histogram in histograms.items():
            by_number.setdefault(number, {})[bucket] = histogram
    return dict(by_number)
