from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.columns.hashing import word_hash
from alignset.transforms.pairs.text_kernels import bare_ampersand, next_blank, ngram_count, walk
from alignset.transforms.pairs.unicode_tables import characters
from tests.support.made_batches import ngram_hash, xxh

BYTES = bytes([0x20, 0x21, 0x1F, 0x00, 0xA0, 0xFF, 0x61])  # a blank, and what may look like one


def buffer(text: bytes, behind: bytes = b" " * 8) -> np.ndarray:
    return np.frombuffer(text + behind, np.uint8)


def blank_in(text: bytes, start: int, behind: bytes) -> int:
    return int(next_blank(buffer(text, behind), start, len(text)))


def test_a_trusted_text_that_is_not_wanted_has_no_room() -> None:
    text = "é à ü".encode()
    ngrams = np.full(9, 7, np.uint64)
    texts = np.empty(99, np.uint8), np.zeros(2, np.int32), np.empty(99, np.uint8)
    out = (
        *(np.zeros(1, np.uint64), np.zeros(1, np.int32), ngrams),
        *(np.zeros(1, np.int64), np.zeros(1, np.bool_)),
    )
    column = buffer(text), np.array([0, len(text)], np.int32)
    wanted, tables = np.zeros(1, np.bool_), tuple(characters())
    assert walk(*column, wanted, tables, np.uint8(0), texts, out) == 0
    assert set(ngrams.tolist()) == {7}


@pytest.mark.parametrize("behind", [b" " * 8, b"!" * 8, b"\0" * 8, b"!! !  !!"])
def test_a_blank_at_each_place(behind: bytes) -> None:
    for size, filler in product(range(26), (0x21, 0x00, 0xA0, 0x1F)):
        text = bytes([filler]) * size
        assert blank_in(text, 0, behind) == size
        for place in range(size):
            with_blank = text[:place] + b" " + text[place + 1 :]
            assert blank_in(with_blank, 0, behind) == place
            assert blank_in(with_blank, place + 1, behind) == size
            assert blank_in(text[:place] + b" " * (size - place), 0, behind) == place


@given(st.lists(st.sampled_from(BYTES), max_size=40).map(bytes), st.integers(0, 8))
def test_the_next_blank_is_the_first_one(text: bytes, start: int) -> None:
    start = min(start, len(text))
    place = text.find(b" ", start)
    assert blank_in(text, start, b" " * 8) == (place if place >= 0 else len(text))


@pytest.mark.parametrize("behind", [b"\0" * 8, b"\xff" * 8, b"a dog, a"])
def test_words_hash_as_if_filled_up_with_nuls(behind: bytes) -> None:
    for size in range(1, 50):
        for word in (b"abcdefg"[:size].ljust(size, b"z"), bytes(range(200, 200 + size))):
            data = buffer(b"xyz" + word, behind)
            filled = word + b"\0" * (-size % 8)
            assert word_hash(data, 3, 3 + size) == xxh(filled)
        assert word_hash(buffer(b"w" * size, behind), 0, size) == ngram_hash("w" * size)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (b"&", 1),
        (b"& ", 1),
        (b"&&", 1),
        (b"&;", 1),
        (b"&amp;", 5),
        (b"&amp;x", 5),
        (b"&amp", 0),
        (b"&am", 0),
        (b"&ampx", 0),
        (b"&amq;", 0),
        (b"&anp;", 0),
        (b"&bmp;", 0),
        (b"&\t", 0),
        (b"&#", 0),
        (b"&\xc3\xa9", 0),
    ],
)
def test_ampersands_that_need_no_python(text: bytes, size: int) -> None:
    for behind in (b"amp;amp;", b"; ; ; ; "):
        assert bare_ampersand(buffer(b"xx" + text, behind), 2, 2 + len(text)) == size


@pytest.mark.parametrize(("words", "ngrams"), [(0, 0), (1, 1), (2, 3), (20, 39)])
def test_the_number_of_ngrams(words: int, ngrams: int) -> None:
    assert ngram_count(words) == ngrams
