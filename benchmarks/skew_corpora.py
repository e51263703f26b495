"""Corpora of text_corpus.py bent to one side each, to see that no skew breaks the text rules."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from text_corpus import Rows, columns_of, draw, word_list, write_groups

Columns = dict[str, pa.Array]
Bend = Callable[[int, int, pa.StringArray], Columns]

LONG_TEXT = 1_000_000  # bytes
# Of the numbers that draw() gives out, none is below 2**32 but for shared images and texts.
_THE_IMAGE, _THE_TEXT = 1 << 20, 3 << 20


def _one_text(group: int, size: int, words: pa.StringArray) -> Columns:
    """Every other pair has the same text."""
    rows = draw(group, size)
    rows.texts[::2] = _THE_TEXT
    return columns_of(rows, words)


def _one_image(group: int, size: int, words: pa.StringArray) -> Columns:
    """Every other pair shows the same image, each time with a text of its own."""
    rows = draw(group, size)
    rows.images[::2] = _THE_IMAGE
    return columns_of(rows, words)


def _one_host(group: int, size: int, words: pa.StringArray) -> Columns:
    """90% of the URLs are of one host."""
    rows = draw(group, size)
    columns = columns_of(rows, words)
    # Chosen by the image, which has one URL.
    alike = pa.array(rows.images * 2_654_435_761 % 100 < 90)
    on_one_host = pc.replace_substring_regex(columns["url"], r"ost\d+\.", "ost1.")
    return columns | {"url": pc.if_else(alike, on_one_host, columns["url"])}


def _long_text(group: int, size: int, words: pa.StringArray) -> Columns:
    """Two texts of 1 MB in each row group: one of many words, one of a single word."""
    columns = columns_of(draw(group, size), words)
    text = " ".join(words.slice(1000 * group, LONG_TEXT // 4).to_pylist())
    lone = f"w{group}".ljust(LONG_TEXT, "x")
    long = {size // 3: text[:LONG_TEXT].strip(), size // 2: lone}
    mask = np.zeros(size, np.bool_)
    mask[list(long)] = True
    texts = pc.replace_with_mask(columns["caption"], pa.array(mask), pa.array(long.values()))
    return columns | {"caption": texts}


def _lone_words(group: int, size: int, words: pa.StringArray) -> Columns:
    """Every other text is one word that no other text has."""
    columns = columns_of(draw(group, size), words)
    number = pa.array(np.arange(size) + (group << 32)).cast(pa.string())
    lone = pc.binary_join_element_wise("q", number, "")
    texts = pc.if_else(pa.array(np.arange(size) % 2 == 0), lone, columns["caption"])
    return columns | {"caption": texts}


def _all_equal(group: int, size: int, words: pa.StringArray) -> Columns:
    """All pairs are the same one."""
    same = np.zeros(size, np.int64)
    return columns_of(Rows(same + _THE_IMAGE, same + _THE_TEXT), words)


CASES: dict[str, Bend] = {
    "one_text": _one_text,
    "one_image": _one_image,
    "one_host": _one_host,
    "long_text": _long_text,
    "lone_words": _lone_words,
    "all_equal": _all_equal,
}


def write_skewed(path: Path, case: str, pairs: int) -> None:
    """Writes the corpus of a case, as `write_corpus` does.

    Raises:
      KeyError: there is no such case.
    """
    words, bend = word_list(), CASES[case]
    write_groups(path, pairs, lambda group, size: bend(group, size, words))
