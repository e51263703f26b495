from collections import Counter

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from alignset.demo import text_rules
from alignset.transforms.columns.batches import batch_of
from alignset.transforms.corpus.corpus_documents import CountClass, VocabularySummary
from alignset.transforms.corpus.hash_counts import frequent_ngrams, vocabulary_cut
from alignset.transforms.corpus.vocabulary import BuildVocabulary, describe_vocabulary
from alignset.transforms.storage.blocks import Blocks, unpack
from tests.support.made_batches import run_in_beam
from tests.support.ngram_hashes import count_ngrams, ngram_hash

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
    ("buckets", "times", "by_reference"),
    [(8, 1, True), (256, 90, False), (1, 30_000, False)],
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


def test_a_corpus_without_words_has_an_empty_vocabulary() -> None:
    def build(pipeline: beam.Pipeline) -> None:
        built = pipeline | beam.Create([]) | BuildVocabulary(10, Blocks())
        assert_that(built["members"], equal_to([]), label="members")
        assert_that(built["summary"], equal_to([describe_vocabulary({}, 10)]), label="summary")

    run_in_beam(build)
    assert describe_vocabulary({}, 10) == VocabularySummary(
        ngrams=0,
        vocabulary=0,
        cut_off_count=0,
        occurrences=0,
        occurrences_in_vocabulary=0,
        share_of_occurrences=1.0,
        by_count=[],
    )


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
