"""The first reading of the corpus: columns of hashes to the buckets that count them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.carried import CARRIED, value_hashes
from alignset.transforms.columns.hashing import Bools, UInt64s, pair_keys
from alignset.transforms.columns.pair_columns import LICENSES_OF_PAGES, SOURCE_OPTED_OUT
from alignset.transforms.corpus.corpus_documents import spread_of
from alignset.transforms.corpus.hash_counts import (
    byte_runs,
    hash_with_language,
    language_numbers,
    ngrams_of,
    repeated_rows,
    runs,
    sum_by_hash,
)
from alignset.transforms.pairs.language_votes import found_languages
from alignset.transforms.pairs.measure_pairs import NGrams, Pairs, measure, mixed, remembered
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.storage.blocks import (
    BUCKET,
    Blocks,
    batch_of,
    group_by_bucket,
    numbered,
    unpacked,
)
from alignset.transforms.workers.stages import ThreadedDoFn
from alignset.transforms.workers.threads import map_in_threads

_NOT_STORED = np.uint64(1 << 63)  # in a row's precedence: its image is in no shard of the input
_LAST_BITS = np.uint64((1 << 16) - 1)
ReadSplit = Callable[[Any], Iterator[pa.RecordBatch]]
_OfBatch = tuple[int, list[pa.RecordBatch], list[beam.pvalue.TaggedOutput]]


class Counted(NamedTuple):
    """The counts of one batch; malformed rows are left out."""

    pairs: pa.RecordBatch  # url, text, exact: uint64; row: uint32; counted: uint8, by language
    repeats: pa.RecordBatch  # row: uint32, those that repeat another of `pairs`
    ngrams: pa.RecordBatch  # ngram: uint64; count: uint8, `byte_runs`; of counted rows. They ascend
    # within a `language` (uint8), where there is a vote.
    languages: pa.RecordBatch  # row: uint32, and `FoundLanguages`, of those that were found
    measures: Pairs  # the whole batch, malformed rows too, but for its n-grams, which are used up


def count_batch(
    batch: pa.RecordBatch, *, first_row: int, language: RuleSettings, ngrams: bool = True
) -> Counted:
    """Measures a batch for the corpus-wide counts.

    Args:
      batch: pairs as they were read.
      first_row: the first row's place in its split.
      language: pairs in any other are judged but do not count.
      ngrams: whether they are counted; else there are none.
    """
    pairs = measure(batch)
    usable = pairs.usable()
    rows = np.flatnonzero(usable)
    texts = pairs.text.filter(pa.array(usable)) if language.languages else pairs.text.slice(0, 0)
    answers = found_languages(texts, language)
    foreign = answers.rows[language.is_foreign(answers.languages)]
    counts = np.ones(len(rows), np.bool_)
    counts[foreign] = False
    voters = usable.copy()
    voters[rows[foreign]] = False
    numbers, own = None, counts.astype(np.uint8)
    if language.has_vote:
        own *= language_numbers(answers.languages)
        numbers = np.zeros(len(usable), np.uint8)
        numbers[rows] = own
    columns = {
        "url": pairs.url_hash[rows],
        "text": pairs.text_hash[rows],
        "exact": precedence(pairs, batch)[rows],
        "row": (rows + first_row).astype(np.uint32),
        "counted": own,
    }
    distinct = batch_of(columns)
    first, repeats = distinct_pairs(distinct)
    if len(repeats):
        distinct = distinct.filter(pa.array(first))
    language_columns = {
        "row": (rows[answers.rows] + first_row).astype(np.uint32),
        "language": answers.languages,
        "score": answers.scores,
        "votes": answers.votes,
    }
    if not ngrams:
        voters[:] = False
    assert pairs.ngrams is not None, "just measured"
    hash_with_language(pairs.ngrams, pairs.word_count, numbers)
    grams = _counted_ngrams(pairs.ngrams, pairs.word_count, voters, numbers)
    rest = pairs._replace(ngrams=None)
    return Counted(distinct, repeats, grams, batch_of(language_columns), rest)


def precedence(pairs: Pairs, batch: pa.RecordBatch) -> UInt64s:
    """Computes which of equal pairs is judged: the one with the lowest number, uint64[n].

    It depends on the row alone, with its carried columns and what its page says, so that the order
    of the input does not matter. A row with a stored image is below all others, since theirs would
    have to be fetched. Opt-outs that are only reported choose between rows that are equal in all
    else: those that a dataset has written down may be the image's.

    Args:
      pairs: the batch, measured. batch: as it was read.
    """
    hashes = pairs.exact_hash()
    for name in LICENSES_OF_PAGES.values():
        if name in batch.schema.names:
            hashes = mixed(hashes, batch[name])
    for name in batch.schema.names:
        if name.startswith(CARRIED):
            hashes = pair_keys(hashes, value_hashes(batch[name]))
    if SOURCE_OPTED_OUT in batch.schema.names:
        hashes ^= mixed(np.zeros_like(hashes), batch[SOURCE_OPTED_OUT]) & _LAST_BITS
    hashes |= _NOT_STORED
    if "source_size" in batch.schema.names:
        sizes = batch["source_size"].to_numpy().astype(np.uint64)
        stored = np.flatnonzero(sizes)
        hashes[stored] = pair_keys(hashes[stored], sizes[stored]) & ~_NOT_STORED
    return hashes


def _counted_ngrams(
    ngrams: NGrams,
    word_count: npt.NDArray[np.int32],
    voters: Bools,
    numbers: npt.NDArray[np.uint8] | None,
) -> pa.RecordBatch:
    if numbers is None:
        hashes = ngrams_of(ngrams.hashes, ngrams.first, word_count, voters)
        return batch_of(dict(zip(("ngram", "count"), byte_runs(np.sort(hashes)), strict=True)))
    parts = [batch_of({"ngram": np.zeros(0, np.uint64), "count": np.zeros(0, np.uint8)})]
    parts[0] = parts[0].append_column("language", pa.array([], pa.uint8()))
    for number in np.unique(numbers[voters]).tolist():
        rows = voters & (numbers == number)
        hashes = ngrams_of(ngrams.hashes, ngrams.first, word_count, rows)
        distinct, times = byte_runs(np.sort(hashes))
        of_language = np.full(len(distinct), number, np.uint8)
        parts.append(batch_of({"ngram": distinct, "count": times, "language": of_language}))
    return pa.concat_batches(parts)


def distinct_pairs(pairs: pa.RecordBatch) -> tuple[Bools, pa.RecordBatch]:
    """Which rows stand for a pair, each once, and the columns `row` and perhaps `split` of the
    others, which repeat it.

    Args:
      pairs: the columns of `Counted.pairs`, and `split` where they are of several.
    """
    place = pairs["row"].to_numpy().astype(np.uint64)
    names = ["row"]
    if "split" in pairs.schema.names:
        place |= pairs["split"].to_numpy().astype(np.uint64) << np.uint64(32)
        names = ["split", "row"]
    urls, texts, exact = (pairs[name].to_numpy() for name in ("url", "text", "exact"))
    repeats = repeated_rows(pair_keys(urls, texts), urls, texts, exact, place)
    repeats = repeats[np.argsort(place[repeats])]
    first = np.ones(len(pairs), np.bool_)
    first[repeats] = False
    return first, pairs.select(names).take(pa.array(repeats))


class _Count(ThreadedDoFn):
    def __init__(
        self, read: ReadSplit, blocks: Blocks, language: RuleSettings, buckets: int, ngrams: bool
    ) -> None:
        self.read, self.blocks = read, blocks
        self.language, self.buckets, self.ngrams = language, buckets, ngrams

    def work(self, element: tuple[int, Any]) -> Iterator[Any]:
        split_id, split = element
        rows = 0
        references: list[pa.RecordBatch] = []
        count = partial(self._count, split_id)
        for size, of_batch, outputs in map_in_threads(count, numbered(self.read(split))):
            rows += size
            references += of_batch
            yield from outputs
        if references:
            yield beam.pvalue.TaggedOutput("measured", (split_id, pa.concat_batches(references)))
        yield beam.pvalue.TaggedOutput("read", rows)

    def _count(self, split_id: int, item: tuple[int, pa.RecordBatch]) -> _OfBatch:
        first_row, batch = item
        part = count_batch(batch, first_row=first_row, language=self.language, ngrams=self.ngrams)
        parts = list(self._split_by_bucket(split_id, part))
        references = [remembered(part.measures, batch)] if self.blocks.folder else []
        # In one file, which goes when the second reading is done with it.
        blocks = self.blocks.pack([rows for _, _, rows in parts] + references)
        outputs = [
            beam.pvalue.TaggedOutput(tag, (bucket, block))
            for (tag, bucket, _), block in zip(parts, blocks, strict=False)
        ]
        for tag, rows in (("repeated", part.repeats), ("languages", part.languages)):
            for block in self.blocks.pack([rows] if len(rows) else []):
                outputs.append(beam.pvalue.TaggedOutput(tag, (split_id, block)))
        return len(batch), blocks[len(parts) :], outputs

    def _split_by_bucket(
        self, split_id: int, part: Counted
    ) -> Iterator[tuple[str, int, pa.RecordBatch]]:
        split = pa.array(np.full(len(part.pairs), split_id, np.uint32))
        pairs = part.pairs.append_column("split", split)
        keys = pair_keys(pairs["url"].to_numpy(), pairs["text"].to_numpy())
        ngrams = part.ngrams["ngram"].to_numpy()
        for tag, rows, hashes in (("pairs", pairs, keys), ("ngrams", part.ngrams, ngrams)):
            yield from (
                (tag, *of_bucket) for of_bucket in group_by_bucket(rows, hashes, self.buckets)
            )


@dataclass(eq=False)
class CountPairs(beam.PTransform):
    """Splits of the input to blocks of hash columns, by bucket.

    Args:
      read: gives the batches of one split, the same ones each time.
      blocks: how blocks cross the shuffles.
      language: as for `count_batch`.
      buckets: how many buckets of pairs, and of n-grams, a power of two.
      ngrams: whether they are counted, which a given vocabulary makes needless.

    Outputs, each of (bucket or split, block): `pairs` (url, text, exact, row, counted, split),
    `ngrams` (ngram, count), and by split `repeated` (row) and `languages` (row, language,
    score, votes); `measured`, of each split references to what is `remembered`, where blocks go by
    reference; and `read`, of each split its number of rows.
    """

    read: ReadSplit
    blocks: Blocks
    language: RuleSettings
    buckets: int = 8
    ngrams: bool = True

    def expand(self, splits: beam.PCollection) -> Any:
        # Declared so that Beam uses the IPC coder and does not pickle the batches.
        count = _Count(self.read, self.blocks, self.language, self.buckets, self.ngrams)
        tags = ("pairs", "ngrams", "repeated", "languages", "measured")
        outputs = splits | beam.ParDo(count).with_outputs(*tags, "read")
        for tag in tags:
            outputs[tag].element_type = BUCKET
        return outputs


class BucketDoFn(ThreadedDoFn):
    """Works on (bucket, one table of its blocks)."""

    def take(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> tuple[int, pa.Table]:
        return element[0], unpacked(element[1])


class _FindDistinct(BucketDoFn):
    def __init__(self, blocks: Blocks, buckets: int) -> None:
        self.blocks, self.buckets = blocks, buckets

    def work(self, element: tuple[int, pa.Table]) -> Iterator[Any]:
        pairs = element[1].combine_chunks().to_batches()[0]
        first, repeats = distinct_pairs(pairs)
        numbers = pairs["counted"].to_numpy()
        votes = first & (numbers > 0)
        yield beam.pvalue.TaggedOutput("languages", np.bincount(numbers[votes], minlength=256))
        for kind, name in enumerate(("text", "url")):
            hashes, partners = byte_runs(np.sort(pairs[name].to_numpy()[votes]))
            counted_hashes = batch_of({"hash": hashes, "count": partners})
            parts = group_by_bucket(counted_hashes, hashes, self.buckets)
            for bucket, block in self.blocks.pack_each(parts):
                yield beam.pvalue.TaggedOutput("partners", (kind * self.buckets + bucket, block))
        splits, counts = runs(repeats["split"].to_numpy())
        rows = np.split(repeats["row"].to_numpy(), np.cumsum(counts))
        # Copies, since a slice would carry all rows where Beam pickles it.
        of_splits = [batch_of({"row": of_split.copy()}) for of_split in rows[:-1]]
        for of_split in self.blocks.pack_each(zip(splits.tolist(), of_splits, strict=True)):
            yield beam.pvalue.TaggedOutput("repeated", of_split)


@dataclass(eq=False)
class FindDistinctPairs(beam.PTransform):
    """Blocks of pairs by key to the rows that repeat one, and to counts over the distinct pairs.

    Shuffled by pair and not by URL or text, so that no image or text, however much used, makes one
    bucket larger than another; and since a pair comes once, counts of parts add up.

    Outputs: `repeated` (split, rows) and `partners` (bucket, hash and count): by bucket of its text
    the images of a text, and by `buckets` and the bucket of its URL the texts of an image; and
    `languages`, int64[256] of each bucket: how many distinct pairs there are by `count_batch`.
    """

    blocks: Blocks
    buckets: int

    def expand(self, pairs: beam.PCollection) -> Any:
        tags = ("repeated", "partners")
        find = beam.ParDo(_FindDistinct(self.blocks, self.buckets))
        find = find.with_outputs(*tags, "languages")
        outputs = pairs | beam.GroupByKey() | find
        for tag in tags:
            outputs[tag].element_type = BUCKET
        return outputs


class _FindFrequent(BucketDoFn):
    def __init__(self, buckets: int, limits: tuple[int, int]) -> None:
        self.buckets, self.limits = buckets, limits

    def work(self, element: tuple[int, pa.Table]) -> Iterator[Any]:
        kind, bucket = divmod(element[0], self.buckets)
        hashes, sums = sum_by_hash(*(element[1][name].to_numpy() for name in ("hash", "count")))
        members = batch_of({"hash": np.sort(hashes[sums > self.limits[kind]])})
        yield beam.pvalue.TaggedOutput(("texts", "images")[kind], (bucket, members))
        tag = ("text_spread", "image_spread")[kind]
        yield beam.pvalue.TaggedOutput(tag, spread_of(sums, self.limits[kind]))


@dataclass(eq=False)
class FindFrequent(beam.PTransform):
    """`partners` of `FindDistinctPairs` to hashes of those with too many of them, by bucket.

    Args:
      buckets: of texts, and of images.
      max_images_per_text, max_texts_per_image: more are too many.

    Outputs: `texts` and `images`, each (bucket, hash); `text_spread` and `image_spread`, the
    `CountSpread` of each bucket: of the images of a text, and of the texts of an image.

    Source: ALIGN (Jia et al., 2021), section 3: images with more than 1000 associated texts, texts
    shared by more than 10 images.
    """

    buckets: int
    max_images_per_text: int
    max_texts_per_image: int

    def expand(self, partners: beam.PCollection) -> Any:
        limits = self.max_images_per_text, self.max_texts_per_image
        tags = ("texts", "images", "text_spread", "image_spread")
        find = beam.ParDo(_FindFrequent(self.buckets, limits)).with_outputs(*tags)
        outputs = partners | beam.GroupByKey() | find
        for tag in ("texts", "images"):
            outputs[tag].element_type = BUCKET
        return outputs
