import subprocess
import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.demo import text_rules
from alignset.transforms.pairs.text_kernels import ROWS_AT_ONCE
from alignset.transforms.pairs.texts import Texts, kept_text, measure_texts
from tests.support.made_batches import ngram_hash, ngram_hashes, ngrams_by_row, xxh
from tests.support.nasty_texts import ascii_captions, captions
from tests.support.root import ROOT

columns = st.lists(st.one_of(captions, ascii_captions))


def strings(texts: list[str]) -> pa.StringArray:
    return pa.array(texts, pa.string())


def measured(texts: list[str]) -> Texts:
    return measure_texts(strings(texts), np.ones(len(texts), np.bool_))


def told(texts: Texts) -> list[tuple]:
    """All that is known of each row."""
    texts.kept_texts.validate(full=True)
    columns = texts.kept_texts.to_pylist(), texts.hash.tolist(), texts.word_count.tolist()
    return list(zip(*columns, ngrams_by_row(texts), strict=True))


def by_the_rules(texts: list[str]) -> list[tuple]:
    kept = [text_rules.kept_text(text) for text in texts]
    identities = [text_rules.text_identity(text) for text in kept]
    return [
        (text, xxh(identity), len(text_rules.words(identity)), ngram_hashes(identity))
        for text, identity in zip(kept, identities, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("की का के क", "की|का|के|क"),  # vowel signs, without which all four would be one word
        ("สวนที่สวยงาม", "สวน|ที่|สวยงาม"),
        ("น้ำใส", "น้ำ|ใส"),
        ("白い犬が走る", "白い|犬|が|走る"),
        ("两只白色的狗", "两|只|白色|的|狗"),
        ("iPhone用ケース 3個 red-blue", "iphone|用|ケース|3|個|red-blue"),
        ("赤-青", "赤|青"),
        ("ភាសា\u200bខ្មែរ", "ភាសា|ខ្មែរ"),
        ("🐕🐕犬が好き🐕", "犬|が|好き"),  # ICU counts in UTF-16
        ("བོད་སྐད", "བོད|སྐད"),  # by syllables
        ("강아지가 뛴다", "강아지가|뛴다"),  # by spaces
        ("e\u030b\u0301 dog", "e|dog"),  # an accent is not a sign of a script
        ("&#26085;&#26412; dog", "日本|dog"),
    ],
)
def test_the_words_of_other_scripts(text: str, words: str) -> None:
    ngrams = [*words.split("|"), *map(" ".join, pairwise(words.split("|")))]
    texts = measured([text, text.upper()])
    assert set(texts.word_count.tolist()) == {len(words.split("|"))}
    for row in ngrams_by_row(texts):
        assert sorted(row) == sorted(map(ngram_hash, ngrams))


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
        ("x\u0334\u035c", "x\u0334\u035c"),  # of classes 1 and 233
        ("x\u035c\u0334", "x\u0334\u035c"),  # and no letter has either within
        ("x\u035cy\u0334", "x\u035cy\u0334"),
        ("x\u035c \u0334", "x\u035c \u0334"),
        ("\u1112\u1161\u11ab", "한"),
        ("&#" + "0" * 4297 + "65;", "A"),  # 4299 digits
        ("x&#" + "0" * 4298 + "65;y", "x\ufffdy"),
        ("x&#" + "9" * 5000 + "y", "x\ufffdy"),
        ("&#x" + "0" * 5000 + "41;", "A"),
    ],
)
def test_the_kept_text(caption: str, kept: str) -> None:
    assert kept_text(caption) == text_rules.kept_text(caption) == kept
    assert measured(["x", caption, "y  z"]).kept_texts.to_pylist() == ["x", kept, "y z"]


@pytest.mark.parametrize("before", ["", "-", "é "])
def test_words_of_every_length(before: str) -> None:
    """Around the 8 bytes that are looked at together, and at the very end of the buffer."""
    for size in (*range(1, 36), 63, 64, 65, 200):
        word = "abcdefghijklmnopqrstuvwxyz0123456789"[:size].ljust(size, "Q")
        texts = [f"{before}{word} {word[:7]} {word}.", f"{before}{word}"]
        assert told(measured(texts)) == by_the_rules(texts)


@given(columns, st.randoms())
def test_texts_that_are_not_wanted_have_no_words(texts: list[str], random) -> None:
    wanted = [random.random() < 0.5 for _ in texts]
    expected = [
        row if want else (*row[:2], 0, [])
        for row, want in zip(by_the_rules(texts), wanted, strict=True)
    ]
    measures = measure_texts(strings(texts), np.array(wanted, np.bool_))
    assert told(measures) == expected
    assert len(measures.ngrams) == sum(len(row[3]) for row in expected)  # and nothing between


def parted(mark: str, count: int) -> str:
    """So many marks in a row, a joiner after every 255."""
    whole, rest = divmod(count, 255)
    return "\u034f".join([mark * 255] * whole + [mark * rest] * (rest > 0))


# U+0334 belongs to no letter, so that only its run's length sends a text to Python.
@pytest.mark.parametrize("mark", ["\u0334", "\u0301"])
@pytest.mark.parametrize("count", [1, 254, 255, 256, 257, 510, 511, 765, 766])
def test_long_runs_of_marks_are_parted(mark: str, count: int) -> None:
    run, expected = mark * count, parted(mark, count)
    texts = {run: expected, f"a{run}": f"a{expected}", f"é {run}b{run}": f"é {expected}b{expected}"}
    texts[f"{run} {run}&lt;"] = f"{expected} {expected}<"
    texts[f"a{run}".replace(mark, f"&#{ord(mark)};")] = f"a{expected}"
    wanted = [unicodedata.normalize("NFC", text) for text in texts.values()]
    assert [kept_text(text) for text in texts] == wanted
    assert measured(list(texts)).kept_texts.to_pylist() == wanted
    assert told(measured(list(texts))) == by_the_rules(list(texts))
    assert ("\u034f" in wanted[0]) == (count > 255)


def test_runs_of_every_mark_are_parted() -> None:
    """Also of those whose own class is 0, as U+0F73's: NFC orders what they decompose to."""
    decomposed = {c: unicodedata.normalize("NFD", c) for c in points(0, 0x110000)}
    marks = [c for c, apart in decomposed.items() if all(map(unicodedata.combining, apart))]
    assert {"\u0f73", "\u0f75", "\u0f81", "\u0344", "\u0301"} < set(marks)
    for mark in marks:
        assert kept_text("a" + mark * 256) == unicodedata.normalize("NFC", "a" + parted(mark, 256))


@pytest.mark.slow
def test_ten_megabytes_of_marks_take_seconds() -> None:
    """In one run NFC would sort them for hours; in a process of its own, since none stops it."""
    code = """if True:
        import numpy as np, pyarrow as pa
        from alignset.transforms.pairs.texts import measure_texts
        text = "a" + "\\u0301\\u0334" * 2_500_000
        kept = measure_texts(pa.array([text]), np.ones(1, np.bool_)).kept_texts[0].as_py()
        assert len(kept) == len(text) - 1 + 19_607, len(kept)  # the first composes
        """
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=ROOT, check=True, timeout=200)


def points(first: int, last: int) -> list[str]:
    return [chr(code) for code in range(first, last) if not 0xD800 <= code < 0xE000]


def test_every_character_below_the_end_of_the_tables() -> None:
    texts = [f"A{c}b {c}" for c in points(0, 0x32400)]
    assert told(measured(texts)) == by_the_rules(texts)


def test_every_character_from_the_end_of_the_tables_on() -> None:
    texts = [" ".join(points(at, at + 1024)) for at in range(0x32400, 0x110000, 1024)]
    expected = [(text, xxh(text), 0, []) for text in texts]
    assert told(measured(texts)) == expected


def test_every_composition() -> None:
    """What any character decomposes to, whole and without its last mark beside it."""
    apart = [unicodedata.normalize("NFD", c) for c in points(0, 0x110000)]
    texts = [f"x{sequence}" for sequence in apart if len(sequence) > 1]
    texts += [
        f"{unicodedata.normalize('NFC', sequence[:-1])}{sequence[-1]}"
        for sequence in apart
        if sequence[1:]
    ]
    assert len(texts) > 24_000  # 11172 are Hangul syllables
    kept = measured(texts).kept_texts.to_pylist()
    assert kept == [unicodedata.normalize("NFC", text) for text in texts]


@pytest.mark.parametrize("rows", [ROWS_AT_ONCE - 1, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 1])
def test_more_rows_than_are_lowered_at_once(rows: int) -> None:
    texts = [f"Dog {row}" + " of A LONG row," * (row % 5) for row in range(rows)]
    texts[rows // 2] = "Grüner Hund"
    assert told(measured(texts)) == by_the_rules(texts)
