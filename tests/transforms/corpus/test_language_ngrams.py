"""N-grams by language: hashed with it, and cut so that as many texts keep all of theirs."""

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.corpus.language_ngrams import (
    ENGLISH_NUMBER,
    hash_with_language,
    language_numbers,
    vocabulary_sizes,
)
from alignset.transforms.pairs.measure_pairs import NGrams
from alignset.transforms.pairs.texts import measure_texts
from tests.support.made_batches import pair_hash, xxh

OTHER = int(language_numbers(pa.array(["ja"]))[0])


def test_english_is_hashed_as_it_always_was_and_others_with_their_code() -> None:
    texts = measure_texts(pa.array(["a dog", "", "dog", "dog"]), np.ones(4, np.bool_))
    before = texts.ngrams.copy()
    numbers = language_numbers(pa.array(["en", None, "ja", "und"]))
    hash_with_language(NGrams(texts.ngrams, texts.first_ngram), texts.word_count, numbers)
    assert texts.ngrams[:3].tolist() == before[:3].tolist()
    dog = int(before[3])
    assert texts.ngrams[3:].tolist() == [pair_hash(dog, xxh("ja")), pair_hash(dog, xxh("und"))]


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
