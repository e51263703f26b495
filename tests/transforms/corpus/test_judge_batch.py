import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.corpus.hash_sets import HashSet
from alignset.transforms.corpus.judge_batch import has_rare_token
from alignset.transforms.corpus.remembered import recalled, remembered
from alignset.transforms.pairs.measure_pairs import NGrams, Pairs, measure
from tests.support.made_batches import ngram_hash, ngrams_by_row, pair_batch

URL = "http://a.example/b.jpg"
HASHES = [(high << 42) + low for high in (0, 1, 7, 2**22 - 1) for low in (0, 1, 2**41)]


def hash_set(hashes: set[int]) -> HashSet:
    return HashSet(np.array(sorted(hashes), np.uint64))


def pairs_of(rows: list[list[int]]) -> Pairs:
    """Pairs with these n-grams, an odd number each, those of the last row first."""
    starts, ngrams = [], []
    for row in reversed(rows):
        starts.append(len(ngrams))
        ngrams += row
    counts = [(len(row) + 1) // 2 for row in rows]
    return measure(pair_batch([(URL, "x")] * len(rows)))._replace(
        ngrams=NGrams(np.array(ngrams, np.uint64), np.array(starts[::-1], np.int64)),
        word_count=np.array(counts, np.int32),
    )


ngrams = st.sampled_from(HASHES)
texts = st.lists(ngrams, max_size=5).map(lambda row: row if len(row) % 2 else row[:-1])


@given(st.lists(st.tuples(texts, st.booleans())), st.sets(ngrams))
def test_one_ngram_outside_makes_a_text_rare(rows: list, vocabulary: set[int]) -> None:
    alive = np.array([is_alive for _, is_alive in rows], np.bool_)
    is_rare = has_rare_token(pairs_of([row for row, _ in rows]), alive, hash_set(vocabulary))
    rare = [is_alive and not vocabulary.issuperset(row) for row, is_alive in rows]
    assert is_rare.tolist() == rare


@pytest.mark.parametrize(
    ("missing", "rare"),
    [
        (None, [False] * 3),
        ("a", [True, False, False]),
        ("a b", [True, False, False]),
        ("b c", [True, True, False]),
        ("c", [True, True, False]),
    ],
)
def test_unigrams_and_bigrams_of_texts(missing: str | None, rare: list[bool]) -> None:
    vocabulary = {ngram_hash(ngram) for ngram in {"a", "b", "c", "a b", "b c"} - {missing}}
    pairs = measure(pair_batch([(URL, "A b, c"), (URL, "b c"), (URL, "-")]))
    assert has_rare_token(pairs, np.ones(3, np.bool_), hash_set(vocabulary)).tolist() == rare


@given(st.lists(st.tuples(st.text("ab -,&éß"), st.booleans())), st.randoms())
def test_what_is_remembered_is_as_rare(rows: list, random) -> None:
    """Plain texts and others."""
    batch = pair_batch([(URL, text) for text, _ in rows])
    pairs = measure(batch)
    alive = np.array([is_alive for _, is_alive in rows], np.bool_)
    distinct = np.unique(pairs.ngrams.hashes)
    vocabulary = {int(ngram) for ngram in distinct if random.random() < 0.9}
    hashes = hash_set(vocabulary | {7})
    later = recalled(remembered(pairs, batch))
    rare = [
        is_alive and not vocabulary.issuperset(row)
        for is_alive, row in zip(alive, ngrams_by_row(pairs), strict=True)
    ]
    assert has_rare_token(pairs, alive, hashes).tolist() == rare
    assert has_rare_token(later, alive, hashes).tolist() == rare


def test_no_rows() -> None:
    assert len(has_rare_token(measure(pair_batch([])), np.ones(0, np.bool_), hash_set({1}))) == 0
