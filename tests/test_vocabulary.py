from collections import Counter

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tests.made_batches import run_in_beam
from transforms.batches import Blocks, batch_of, unpack
from transforms.vocabulary import BuildVocabulary

BUCKETS = 4
# Hashes spread over the buckets, counted 1 to 4 times over all blocks, so that many tie.
COUNTS = {(at * 0x9E3779B97F4A7C15) % 2**64: at % 4 + 1 for at in range(40)}
RANKED = sorted(COUNTS, key=lambda ngram: (-COUNTS[ngram], ngram))


def blocks_of(part: Counter, blocks: Blocks) -> list:
    """One split's n-grams, by bucket."""
    by_bucket: dict[int, list[int]] = {}
    for ngram in sorted(part):
        by_bucket.setdefault(ngram * BUCKETS >> 64, []).append(ngram)
    batches = [
        batch_of(
            {
                "ngram": np.array(its, np.uint64),
                "count": np.array([part[ngram] for ngram in its], np.uint32),
            }
        )
        for its in by_bucket.values()
    ]
    return list(zip(by_bucket, blocks.pack(batches), strict=True))


@pytest.mark.parametrize("by_reference", [False, True])
def test_the_vocabulary_is_exact_at_each_size(tmp_path, by_reference: bool) -> None:
    blocks = Blocks(str(tmp_path) if by_reference else None)
    once = Counter(dict.fromkeys(COUNTS, 1))
    rest = Counter({ngram: count - 1 for ngram, count in COUNTS.items() if count > 1})
    packed = blocks_of(once, blocks) + blocks_of(rest, blocks)

    def build(pipeline: beam.Pipeline) -> None:
        ngrams = pipeline | beam.Create(packed)
        for size, cut in ((1, 4), (9, 4), (10, 3), (11, 3), (29, 2), (39, 1), (40, 0), (41, 0)):
            built = ngrams | f"Build {size}" >> BuildVocabulary(size, blocks)
            members = built["members"] | f"Rows {size}" >> beam.Map(
                lambda item: (item[0], unpack(item[1])["hash"].to_pylist())
            )
            kept = sorted(RANKED[:size])
            by_bucket = [
                (bucket, [ngram for ngram in kept if ngram * BUCKETS >> 64 == bucket])
                for bucket in range(BUCKETS)
            ]
            summary = {"ngrams": 40, "vocabulary": min(size, 40), "cut_off_count": cut}
            assert_that(members, equal_to(by_bucket), label=f"members {size}")
            assert_that(built["summary"], equal_to([summary]), label=f"summary {size}")

    run_in_beam(build)


def test_a_corpus_without_words_has_an_empty_vocabulary() -> None:
    def build(pipeline: beam.Pipeline) -> None:
        built = pipeline | beam.Create([]) | BuildVocabulary(10, Blocks())
        summary = {"ngrams": 0, "vocabulary": 0, "cut_off_count": 0}
        assert_that(built["members"], equal_to([]), label="members")
        assert_that(built["summary"], equal_to([summary]), label="summary")

    run_in_beam(build)
