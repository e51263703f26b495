import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tests.made_batches import in_the_middle, xxh
from tests.nasty_texts import ascii_captions, captions
from transforms.texts import (
    has_rare_token,
    kept_text,
    kept_texts,
    ngram_counts,
    ngram_hashes,
    text_identities,
    text_words,
    word_columns,
)

columns = st.lists(st.one_of(captions, ascii_captions))


def strings(texts: list[str]) -> pa.StringArray:
    return pa.array(texts, pa.string())


@pytest.mark.parametrize(
    ("caption", "kept"),
    [
        ("a dog", "a dog"),
        ("", ""),
        (" ", ""),
        (" a", "a"),
        ("a ", "a"),
        ("a  b", "a b"),
        ("a\tb\r\nc\x0bd\x0ce\x1cf", "a b c d e f"),
        ("a\u00a0b\u3000c\u2028d\x85e", "a b c d e"),
        ("a\u200bb\ufeffc", "a\u200bb\ufeffc"),  # no white space to Unicode
        ("a &amp; b", "a & b"),
        ("a &amp;amp; b", "a &amp; b"),  # decoded once
        ("&nbsp;a&#32;&#9;b&nbsp;", "a b"),
        ("caf&eacute; &eacute", "café é"),
        ("AT&T & Co &unknown;", "AT&T & Co &unknown;"),
        ("&#xD800;&#0;", "\ufffd\ufffd"),
        ("e\u0301", "é"),
        ("e&#x301;", "é"),
        ("\u212b", "Å"),
        ("ﬁ ①", "ﬁ ①"),  # NFC, not NFKC
        ("\x7f\x01", "\x7f\x01"),
    ],
)
def test_the_kept_text(caption: str, kept: str) -> None:
    assert kept_text(caption) == kept
    assert kept_texts(strings(["x", caption, "y  z"])).to_pylist() == ["x", kept, "y z"]


@pytest.mark.parametrize(
    ("kept", "identity"),
    [
        ("A Dog", "a dog"),
        ("[@`{Z", "[@`{z"),
        ("STRASSE Straße", "strasse strasse"),
        ("ΣΑΣ ς", "σασ σ"),
        ("İ I ı", "i̇ i ı"),
        ("ﬁ ẞ", "fi ss"),
    ],
)
def test_the_identity(kept: str, identity: str) -> None:
    assert text_identities(strings(["X", kept])).to_pylist() == ["x", identity]


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ("a dog", ["a", "dog"]),
        ("", []),
        ("- ... !", []),
        ("'a' (dog), -5°", ["a", "dog", "5"]),
        ("don't x-y a.b.c.", ["don't", "x-y", "a.b.c"]),
        ("_a_ $1,000", ["a", "1,000"]),
        ("«дом» “ñ” 日本。", ["дом", "ñ", "日本"]),
        ("½ ① ٣ ²", ["½", "①", "٣", "²"]),
        ("a\u0301 x\u0301", ["a", "x"]),  # a lone mark is neither letter nor digit
        ("🐕 dog🐕 🐕dog", ["dog", "dog"]),
        ("a - b", ["a", "b"]),
    ],
)
def test_the_words(identity: str, words: list[str]) -> None:
    assert text_words(identity) == words
    joined, counts = word_columns(strings(["x y", identity, "z!"]))
    assert joined.to_pylist() == ["x y", " ".join(words), "z"]
    assert counts.tolist() == [2, len(words), 1]


@given(columns)
def test_columns_are_what_the_rules_say_row_by_row(texts: list[str]) -> None:
    kept = [reference.kept_text(text) for text in texts]
    identities = [reference.text_identity(text) for text in kept]
    assert kept_texts(strings(texts)).to_pylist() == kept
    assert kept_texts(in_the_middle(strings(texts))).to_pylist() == kept
    assert text_identities(strings(kept)).to_pylist() == identities
    assert text_identities(in_the_middle(strings(kept))).to_pylist() == identities
    words = [reference.words(identity) for identity in identities]
    for column in (strings(identities), in_the_middle(strings(identities))):
        joined, counts = word_columns(column)
        joined.validate(full=True)
        assert joined.to_pylist() == [" ".join(row) for row in words]
        assert counts.tolist() == [len(row) for row in words]


@given(columns)
def test_a_kept_text_is_kept_as_it_is(texts: list[str]) -> None:
    once = [kept for kept in map(kept_text, texts) if "&" not in kept]  # "&amp;amp;" decodes again
    assert kept_texts(strings(once)).to_pylist() == once


@given(columns, columns)
def test_batches_do_not_matter(first: list[str], second: list[str]) -> None:
    whole, counts = word_columns(text_identities(kept_texts(strings(first + second))))
    parts = [word_columns(text_identities(kept_texts(strings(part)))) for part in (first, second)]
    assert whole.to_pylist() == parts[0][0].to_pylist() + parts[1][0].to_pylist()
    assert counts.tolist() == parts[0][1].tolist() + parts[1][1].tolist()


@given(columns)
def test_ngrams_are_words_and_neighbours(texts: list[str]) -> None:
    identities = [reference.text_identity(reference.kept_text(text)) for text in texts]
    joined, counts = word_columns(strings(identities))
    expected = [sorted(xxh(ngram) for ngram in reference.ngrams(text)) for text in identities]
    sizes = ngram_counts(counts)
    assert sizes.tolist() == [len(row) for row in expected]
    hashes = ngram_hashes(joined, counts)
    rows = np.split(hashes, np.cumsum(sizes)[:-1]) if texts else []
    assert [sorted(row.tolist()) for row in rows] == expected
    sliced = ngram_hashes(in_the_middle(joined), counts)
    assert sliced.tolist() == hashes.tolist()


def test_a_bigram_is_no_unigram_and_has_an_order() -> None:
    joined = strings(["a b", "b a"])
    hashes = ngram_hashes(joined, np.array([2, 2], np.int32)).tolist()
    assert hashes == [xxh("a"), xxh("b"), xxh("a b"), xxh("b"), xxh("a"), xxh("b a")]


@given(st.lists(st.lists(st.booleans(), max_size=4)))
def test_one_missing_ngram_makes_a_text_rare(unigrams: list[list[bool]]) -> None:
    # Each word's n-gram is found or not; the bigrams all are.
    rows = [(row + [True] * (len(row) - 1)) if row else [] for row in unigrams]
    found = np.array([one for row in rows for one in row], np.bool_)
    counts = np.array([len(row) for row in unigrams], np.int32)
    assert has_rare_token(found, counts).tolist() == [not all(row) for row in rows]
