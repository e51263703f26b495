from collections import Counter
from random import Random

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from alignset.demo import text_rules
from alignset.transforms.corpus.corpus_documents import (
    CountClass,
    CountSpread,
    VocabularySummary,
    add_spreads,
    spread_of,
)
from alignset.transforms.corpus.hash_counts import (
    ENGLISH_NUMBER,
    frequent_ngrams,
    language_numbers,
    sum_by_hash,
    vocabulary_cut,
    vocabulary_sizes,
)
from alignset.transforms.corpus.vocabulary import BuildVocabulary, describe_vocabulary
from alignset.transforms.storage.blocks import Blocks, batch_of, unpack
from tests.fuzz import counts as count_cases
from tests.support.made_batches import count_ngrams, ngram_hash, run_in_beam

CAPTIONS = ["red dog", "Red dog, é", "a red cat", "a cat", "cat"]
COUNTS = count_ngrams(CAPTIONS)
captions = st.lists(
    st.lists(st.sampled_from(["a", "dog", "É", "red", "straße", "x" * 9]), max_size=4).map(
        " ".join
    ),
    max_size=8,
)


def bucket_of(ngram: str, buckets: int) -> int:
    return ngram_hash(ngram) * buckets >> 64


def often(counts: Counter[str], times: int) -> Counter[str]:
    return Counter({ngram: count * times for ngram, count in counts.items()})


def kept_by_reference(counts: Counter[str], size: int) -> list[int]:
    return sorted(map(ngram_hash, text_rules.vocabulary(counts, size, ngram_hash)))


def blocks_of(part: Counter[str], buckets: int, blocks: Blocks) -> list:
    """One split's n-grams, by bucket."""
    by_bucket: dict[int, list[str]] = {}
    for ngram in sorted(part, key=ngram_hash):
        by_bucket.setdefault(bucket_of(ngram, buckets), []).append(ngram)
    batches = [
        batch_of(
            {
                "ngram": np.array([ngram_hash(ngram) for ngram in its], np.uint64),
                "count": np.array([part[ngram] for ngram in its], np.uint32),
            }
        )
        for its in by_bucket.values()
    ]
    return list(zip(by_bucket, blocks.pack(batches), strict=True))


def histograms_of(counts: Counter[str], buckets: int) -> dict:
    """Per bucket the distinct counts, and how many n-grams have each."""
    histograms: dict[int, Counter[int]] = {}
    for ngram, count in counts.items():
        histograms.setdefault(bucket_of(ngram, buckets), Counter())[count] += 1
    return {
        bucket: tuple(
            np.array(column, np.int64) for column in zip(*sorted(its.items()), strict=True)
        )
        for bucket, its in histograms.items()
    }


@given(captions, st.sampled_from([1, 8, 256]))
@settings(max_examples=60)
def test_exact_at_every_size(texts: list[str], buckets: int) -> None:
    counts = count_ngrams(texts)
    histograms = histograms_of(counts, buckets)
    for size in [*range(len(counts) + 2), 100_000_000]:
        cut, quotas = vocabulary_cut(histograms, size)
        kept = []
        for bucket in sorted(histograms):
            its = [ngram for ngram in counts if bucket_of(ngram, buckets) == bucket]
            its.sort(key=ngram_hash)
            hashes = np.array([ngram_hash(ngram) for ngram in its], np.uint64)
            sums = np.array([counts[ngram] for ngram in its], np.int64)
            kept += frequent_ngrams(hashes, sums, cut, quotas[bucket]).tolist()
        assert kept == kept_by_reference(counts, size)
        said = describe_vocabulary(histograms, size)
        kept_ngrams = text_rules.vocabulary(counts, size, ngram_hash)
        assert (said.ngrams, said.vocabulary) == (len(counts), len(kept_ngrams))
        assert said.occurrences == counts.total()
        assert said.occurrences_in_vocabulary == sum(counts[ngram] for ngram in kept_ngrams)
        share = sum(counts[ngram] for ngram in kept_ngrams) / counts.total() if counts else 1
        assert said.share_of_occurrences == pytest.approx(share, abs=1e-6)
        left = [counts[ngram] for ngram in counts if ngram not in kept_ngrams]
        assert said.cut_off_count == max(left, default=0)


@pytest.mark.parametrize(
    ("buckets", "times", "by_reference"), [(8, 1, True), (256, 90, False), (1, 30_000, False)]
)
def test_the_transform_is_exact_at_each_size(
    tmp_path, buckets: int, times: int, by_reference: bool
) -> None:
    """Whether counts fit in a byte, or two."""
    blocks = Blocks(str(tmp_path) if by_reference else None)
    packed = [
        block
        for captions in (CAPTIONS[:2], CAPTIONS[2:])
        for block in blocks_of(often(count_ngrams(captions), times), buckets, blocks)
    ]
    counts = often(COUNTS, times)
    sizes = [len(COUNTS) - 1, 100_000_000]  # any: test_exact_at_every_size

    def build(pipeline: beam.Pipeline) -> None:
        ngrams = pipeline | beam.Create(packed)
        for size in sizes:
            built = ngrams | f"Build {size}" >> BuildVocabulary(size, blocks)
            members = built["members"] | f"Rows {size}" >> beam.Map(
                lambda item: (item[0], unpack(item[1])["hash"].to_pylist())
            )
            kept = kept_by_reference(counts, size)
            by_bucket = [
                (bucket, [ngram for ngram in kept if ngram * buckets >> 64 == bucket])
                for bucket in {bucket_of(ngram, buckets) for ngram in COUNTS}
            ]
            summary = describe_vocabulary(histograms_of(counts, buckets), size)
            assert_that(members, equal_to(by_bucket), label=f"members {size}")
            assert_that(built["summary"], equal_to([summary]), label=f"summary {size}")

    run_in_beam(build)


def test_the_tail_by_hand() -> None:
    """7 once, 2 twice, one each 3, 10, 11, 100 and 101 times; of the 2 one is within the cut."""
    histograms = {
        0: (np.array([1, 2, 10, 101]), np.array([3, 1, 1, 1])),
        3: (np.array([1, 2, 3, 11, 100]), np.array([4, 1, 1, 1, 1])),
    }
    said = describe_vocabulary(histograms, 6)
    assert said == VocabularySummary(
        by_count=[
            CountClass(min_count=1, max_count=1, ngrams=7, occurrences=7),
            CountClass(min_count=2, max_count=2, ngrams=2, occurrences=4),
            CountClass(min_count=3, max_count=10, ngrams=2, occurrences=13),
            CountClass(min_count=11, max_count=100, ngrams=2, occurrences=111),
            CountClass(min_count=101, max_count=1000, ngrams=1, occurrences=101),
        ],
        ngrams=14,
        vocabulary=6,
        cut_off_count=2,
        occurrences=236,
        occurrences_in_vocabulary=227,
        share_of_occurrences=0.961864,
    )


# N-grams by language: hashed with it, and cut so that as many texts keep all of theirs.

OTHER = int(language_numbers(pa.array(["ja"]))[0])


def histogram(**ngrams: int) -> tuple:
    """As `count_5=3`: three n-grams occur five times each."""
    counts = sorted(int(name.removeprefix("count_")) for name in ngrams)
    return np.array(counts), np.array([ngrams[f"count_{count}"] for count in counts])


ENGLISH = {0: histogram(count_1=10, count_8=5), 3: histogram(count_8=5)}  # 90 occurrences
JAPANESE = {1: histogram(count_2=5, count_4=10)}  # 50


@pytest.mark.parametrize(
    ("size", "texts", "wanted"),
    [
        (20, (10, 10), 15),  # all of English: all of the other
        (10, (9, 5), 13),  # 80 of 90 occurrences, and 44.4 of 50, which are 10 and 2.2 n-grams
        (5, (9, 5), 6),  # 40 of 90: 22.2 of 50
        (10, (9, 10), 10),  # texts half as long keep as many with a share of 0.79
        (10, (18, 5), 14),  # texts twice as long, with 0.94
        (1000, (1, 1), 15),
    ],
)
def test_another_language_keeps_as_large_a_share_of_its_texts(
    size: int, texts: tuple[int, int], wanted: int
) -> None:
    histograms = {ENGLISH_NUMBER: ENGLISH, OTHER: JAPANESE}
    counted = dict(zip((ENGLISH_NUMBER, OTHER), texts, strict=True))
    assert vocabulary_sizes(histograms, size, counted) == {ENGLISH_NUMBER: size, OTHER: wanted}


def test_without_english_the_size_is_of_the_largest() -> None:
    histograms = {7: JAPANESE, 9: ENGLISH}
    assert vocabulary_sizes(histograms, 10, {7: 5, 9: 9}) == {7: 13, 9: 10}
    assert vocabulary_sizes({7: JAPANESE}, 10, {7: 5}) == {7: 10}
    assert vocabulary_sizes({}, 10, {}) == {}
    assert vocabulary_sizes(histograms, 10, {}).keys() == {7, 9}  # nothing is divided by 0


# How many things have which number of partners.


def test_bins_end_at_round_numbers_and_at_the_limit():
    counts = np.array([1, 1, 2, 10, 11, 13, 14, 20, 21, 1000, 1001], np.int64)
    spread = spread_of(counts, 13)
    assert spread.least == [1, 2, 10, 11, 14, 21, 501, 1001]
    assert spread.things == [2, 1, 1, 2, 2, 1, 1, 1]
    assert spread.partners == [2, 2, 10, 24, 34, 21, 1000, 1001]


def test_spreads_add_up():
    random = np.random.default_rng(3)
    counts = random.zipf(1.5, 2000).clip(1, 10**9).astype(np.int64)
    parts = [spread_of(counts[start::4], 10) for start in range(4)]
    assert add_spreads(parts) == spread_of(counts, 10)
    assert sum(add_spreads(parts).partners) == counts.sum()
    assert add_spreads([]) == CountSpread() == spread_of(counts[:0], 10)


def uint64(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


def test_counts_are_those_of_python() -> None:
    for seed in range(60):
        count_cases.check(Random(seed))


def test_sums_are_of_64_bits() -> None:
    sums = sum_by_hash(uint64([0] * 4), np.array([2**32 - 1] * 3 + [1], np.uint32))
    assert [column.tolist() for column in sums] == [[0], [3 * (2**32 - 1) + 1]]
