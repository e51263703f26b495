"""The vocabulary, the most frequent unigrams and bigrams of all pairs in the language; and sets of
hashes from blocks by bucket to sorted files."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import apache_beam as beam
import numpy as np
import pyarrow as pa

from alignset.transforms.corpus.corpus_documents import (
    CountClass,
    HashFile,
    LanguageVocabulary,
    VocabularySummary,
)
from alignset.transforms.corpus.count_pairs import BucketDoFn
from alignset.transforms.corpus.hash_counts import (
    ENGLISH_NUMBER,
    Histograms,
    Int64s,
    VocabularyCut,
    frequent_ngrams,
    join_histograms,
    runs,
    split_by_language,
    sum_by_hash,
    vocabulary_cut,
    vocabulary_sizes,
)
from alignset.transforms.rules.language_codes import NUMBERED
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, batch_of, unpack
from alignset.transforms.storage.files import open_to_read, write_atomically
from alignset.transforms.workers.stages import ThreadedDoFn


def join_buckets(parts: Iterable[tuple[int, pa.RecordBatch | str]], path: str) -> HashFile:
    """Writes the hashes of buckets, which are their top bits, in order: one bucket at a time.

    Args:
      parts: each bucket's block with a column `hash`, or the path of a file of its hashes.
      path: what the file's name begins with.
    """
    name = f"{path}-{uuid.uuid4().hex}"  # each attempt its own, since readers keep it open
    size, digest = 0, hashlib.sha256()

    def write(sink: BinaryIO) -> None:
        nonlocal size
        for _, part in sorted(parts, key=lambda item: item[0]):
            hashes = bucket_bytes(part)
            size += sink.write(hashes)
            digest.update(hashes)

    write_atomically(name, write)
    return HashFile(name, size, digest.hexdigest())


def bucket_bytes(part: pa.RecordBatch | str) -> memoryview | bytes:
    """One bucket's hashes as they stand in a file: little-endian uint64."""
    if isinstance(part, str):
        with open_to_read(part) as source:
            return source.read()
    return memoryview(unpack(part)["hash"].to_numpy().astype("<u8", copy=False))


def _write_part(members: Bucket, path: str) -> tuple[int, str]:
    """One bucket to a file of its own, named for this attempt."""
    part = f"{path}-{members[0]:05d}-{uuid.uuid4().hex}"
    write_atomically(part, lambda sink: sink.write(bucket_bytes(members[1])))
    return members[0], part


@dataclass(eq=False)
class WriteHashSets(beam.PTransform):
    """Several sets, each (bucket, hashes ascending), to a file each of little-endian uint64.

    No process holds more than a bucket of a large dataset: where blocks come inline, each of its
    buckets first becomes a file.

    Args:
      folder: where to. sets: by name, which their files' names begin with.
      large: names of the datasets whose blocks come inline and are too large for one process.

    Output: one dict of a `HashFile` by name.
    """

    folder: str
    sets: Mapping[str, beam.PCollection]
    large: Container[str] = ()

    def expand(self, begin: Any) -> beam.PCollection:
        folder = self.folder

        def write(_: None, **sets: Iterable[tuple[int, Any]]) -> dict[str, HashFile]:
            return {name: join_buckets(parts, f"{folder}/{name}") for name, parts in sets.items()}

        sides = {}
        for name, members in self.sets.items():
            if name in self.large:
                part = beam.Map(_write_part, f"{folder}/{name}-part")
                members = members | f"Parts of {name}" >> part
            sides[name] = beam.pvalue.AsList(members)
        return begin.pipeline | beam.Create([None]) | beam.Map(write, **sides)


OfBucketByLanguage = tuple[int, dict[int, tuple[Int64s, Int64s]]]


class _Sum(BucketDoFn):
    """One bucket's n-grams with their counts, and how many n-grams have each count, by language."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def work(self, element: tuple[int, pa.Table]) -> Iterator[Any]:
        bucket, table = element
        histograms, parts = {}, []
        for number, *of_language in split_by_language(table):
            hashes, sums = sum_by_hash(*of_language)
            histograms[number] = runs(np.sort(sums))
            parts.append((hashes, sums, np.full(len(sums), number, np.uint8)))
        yield beam.pvalue.TaggedOutput("histograms", (bucket, histograms))
        hashes, sums, numbers = map(np.concatenate, zip(*parts, strict=True))
        narrow = sums.astype(np.min_scalar_type(sums.max(initial=0)))  # one to four bytes for eight
        columns = {"ngram": hashes, "count": narrow}
        if "language" in table.column_names:
            columns["language"] = numbers
        yield from self.blocks.pack_each([(bucket, batch_of(columns))])


class _Keep(ThreadedDoFn):
    """The n-grams of a bucket that are in the vocabulary."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def work(self, element: Bucket, cuts: Mapping[int, VocabularyCut]) -> Iterator[Bucket]:
        bucket, block = element
        members = [np.zeros(0, np.uint64)]
        for number, hashes, counts in split_by_language(pa.Table.from_batches([unpack(block)])):
            cut = cuts[number]
            members.append(frequent_ngrams(hashes, counts, cut.cut_off, cut.quotas[bucket]))
        whole = np.unique(np.concatenate(members)) if len(members) > 2 else members[-1]
        yield from self.blocks.pack_each([(bucket, batch_of({"hash": whole}))])


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
    counts, n_grams = join_histograms(histograms)
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

        def by_language(
            _: None, buckets: list[OfBucketByLanguage], texts: Mapping[int, int] | None = None
        ) -> tuple[Mapping[int, Histograms], dict[int, int]]:
            histograms: dict[int, dict[int, tuple[Int64s, Int64s]]] = {}
            for bucket, by_number in buckets:
                for number, histogram in by_number.items():
                    histograms.setdefault(number, {})[bucket] = histogram
            return histograms, vocabulary_sizes(histograms, size, texts or {})

        def cuts(
            histograms: Mapping[int, Histograms], sizes: Mapping[int, int]
        ) -> dict[int, VocabularyCut]:
            return {n: vocabulary_cut(of, sizes[n]) for n, of in histograms.items()}

        start = ngrams.pipeline | "Once" >> beam.Create([None])
        sized = start | "ByLanguage" >> beam.Map(by_language, *sides)
        cut = sized | "Cut" >> beam.MapTuple(cuts)
        keep = beam.ParDo(_Keep(self.blocks), beam.pvalue.AsSingleton(cut))
        return {
            "counted": sums["counted"],
            "members": sums["counted"] | "Keep" >> keep.with_output_types(BUCKET),
            "summary": sized | "Describe" >> beam.MapTuple(describe_languages),
        }
