"""A synthetic corpus of image URLs and alt-texts, shaped like the web's: the same at each size.

- Words follow Zipf's law over 4 million; the next word depends on the one before, so that bigrams
  repeat as they do in real text. 70% of the texts use common words only.
- 5% of the pairs share a text of a small pool, 3% show one of 50 much-used images, 2% are copies.
- Hosts follow Zipf's law. Some hosts have capitals, some URLs a default port or a fragment, some
  texts accents, entities, marks or double spaces; 0.5% are malformed.
- How a text is capitalised depends on its image alone, and each image has one URL, so that pairs
  of one identity are the same to the letter and whichever is kept does not matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS_PER_GROUP = 250_000
WORDS, COMMON_WORDS = 4_000_000, 30_000
SUCCESSORS, COMMON_SUCCESSORS = 1000, 30
HOSTS, SHARED_TEXTS, MUCH_USED_IMAGES = 200_000, 20_000, 50
MAX_WORDS = 40
_MARKED = 1 << 16  # so many of the most frequent words also come with a comma behind
_ENTITY, _SPACED = 150, 700  # ranks of a word that is "&amp;" and of one with a space behind

Ints = npt.NDArray[np.int64]


def write_corpus(path: Path, pairs: int) -> None:
    """Writes `pairs` pairs to a Parquet file with the columns `url` and `caption`."""
    words = word_list()
    write_groups(path, pairs, lambda group, size: columns_of(draw(group, size), words))


def write_groups(path: Path, pairs: int, make: Callable[[int, int], dict[str, pa.Array]]) -> None:
    """Writes a corpus by row groups; `make` gives the columns of a group by number and size."""
    # Beside it and then renamed: a stopped run leaves no half of a corpus in the cache.
    aside = path.with_suffix(".part")
    schema = pa.schema([("url", pa.string()), ("caption", pa.string())])
    with pq.ParquetWriter(aside, schema, compression="snappy") as writer:
        for group, first in enumerate(range(0, pairs, ROWS_PER_GROUP)):
            size = min(ROWS_PER_GROUP, pairs - first)
            writer.write_table(pa.table(make(group, size), schema), row_group_size=size)
    aside.rename(path)


@dataclass(frozen=True)
class Rows:
    """Which image and which text each pair has: int64[n] each."""

    images: Ints
    texts: Ints


def _zipf(uniform: npt.NDArray[np.float64], size: npt.ArrayLike) -> Ints:
    """Ranks from 0 to size - 1, rank r with a chance of about 1 / (r + 1), from [0, 1)."""
    return (np.exp(uniform * np.log(np.asarray(size) + 1.0)) - 1.0).astype(np.int64)


def draw(group: int, size: int) -> Rows:
    """The rows of a row group: which of them share an image or a text, and which are copies."""
    random = np.random.default_rng([7, group])
    own = np.arange(size, dtype=np.int64) + (np.int64(group + 1) << 32)
    images, texts = own.copy(), own.copy()
    kind = random.random(size)
    images[kind < 0.03] = _zipf(random.random(int((kind < 0.03).sum())), MUCH_USED_IMAGES)
    shared = random.random(size) < 0.05
    texts[shared] = _zipf(random.random(int(shared.sum())), SHARED_TEXTS)
    copies = np.flatnonzero(kind > 0.98)
    originals = random.integers(0, size, len(copies))
    images[copies], texts[copies] = images[originals], texts[originals]
    return Rows(images, texts)


def _mixed(values: npt.NDArray, salt: int) -> npt.NDArray[np.uint64]:
    """A well-spread function of each value (splitmix64): the same on every machine."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _unit(values: npt.NDArray, salt: int) -> npt.NDArray[np.float64]:
    """As `_mixed`, in [0, 1)."""
    return (_mixed(values, salt) >> np.uint64(11)).astype(np.float64) / 2.0**53


def word_list() -> pa.StringArray:
    """All words by rank, then the most frequent again with a comma behind."""
    # Consonant, vowel and perhaps an ending: however they are joined, they are told apart again.
    syllables = pa.array(
        [c + v + e for c in "bcdfghklmnprstvw" for v in "aeio" for e in ("", "n", "r", "s")]
    )
    at = np.arange(WORDS)
    parts = [syllables.take(pa.array(at % 256))]
    for power in (1, 2):  # frequent words are short
        digits = at // 256**power
        more = syllables.take(pa.array((digits - 1) % 256))
        parts.append(pc.if_else(pa.array(digits > 0), more, ""))
    parts.append(pc.if_else(pa.array(at % 256 == 255), "é", ""))
    words = pc.binary_join_element_wise(*parts, "")
    odd = pa.array((at == _ENTITY) | (at == _SPACED))
    words = pc.replace_with_mask(words, odd, pa.array(["&amp;", words[_SPACED].as_py() + " "]))
    marked = pc.binary_join_element_wise(words.slice(0, _MARKED), ",", "")
    return pa.concat_arrays([words, marked])


def columns_of(rows: Rows, words: pa.StringArray) -> dict[str, pa.Array]:
    """The URLs and alt-texts of rows; `words` as `word_list` gives them."""
    urls = _urls(rows.images)
    captions = _captions(rows.texts, words)
    capital = pa.array(_unit(rows.images, 11) < 0.4)
    captions = pc.if_else(capital, pc.utf8_capitalize(captions), captions)
    fault = _unit(rows.images ^ (rows.texts << 1), 12)
    captions = pc.if_else(pa.array(fault < 0.001), pa.scalar(None, pa.string()), captions)
    captions = pc.if_else(pa.array((fault >= 0.001) & (fault < 0.002)), " ", captions)
    urls = pc.if_else(pa.array((fault >= 0.002) & (fault < 0.003)), "/images/logo.png", urls)
    urls = pc.if_else(pa.array((fault >= 0.003) & (fault < 0.004)), "data:image/png;base64,", urls)
    urls = pc.if_else(
        pa.array((fault >= 0.004) & (fault < 0.005)), pa.scalar(None, pa.string()), urls
    )
    return {"url": urls, "caption": captions}


def _urls(images: Ints) -> pa.StringArray:
    host = pa.array(_zipf(_unit(images, 1), HOSTS)).cast(pa.string())
    spelling = _unit(images, 2)
    start = np.where(spelling < 0.01, "HTTPS://Host", "https://host")
    port = np.where((spelling > 0.01) & (spelling < 0.02), ":443", "")
    fragment = np.where((spelling > 0.02) & (spelling < 0.03), "#main", "")
    name = pa.array(_mixed(images, 3)).cast(pa.string())
    parts = [start, host, ".example.com", port, "/wp-content/uploads/", name, ".jpg", fragment]
    return pc.binary_join_element_wise(
        *(pa.array(part) if isinstance(part, np.ndarray) else part for part in parts), ""
    )


def _captions(texts: Ints, vocabulary: pa.StringArray) -> pa.StringArray:
    """The text of each number: a function of the number alone."""
    lengths = np.exp(2.1 + 0.7 * _normal(texts)).astype(np.int64).clip(1, MAX_WORDS)
    common = _unit(texts, 4) < 0.7
    words = np.where(common, COMMON_WORDS, WORDS)
    successors = np.where(common, COMMON_SUCCESSORS, SUCCESSORS)
    table = np.empty((len(texts), MAX_WORDS), np.int32)
    word = _zipf(_unit(texts, 5), words)
    for at in range(MAX_WORDS):
        table[:, at] = word
        choice = _zipf(_unit(texts, 16 + at), successors)
        word = _zipf(_unit(word * SUCCESSORS + choice, 6), words)
    used = np.arange(MAX_WORDS) < lengths[:, None]
    comma = _mixed(texts, 9)[:, None] >> np.arange(MAX_WORDS, dtype=np.uint64) & np.uint64(15) == 0
    table[comma & (table < _MARKED)] += WORDS
    flat = table[used]
    ends = np.append(0, np.cumsum(lengths)).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(ends, vocabulary.take(pa.array(flat))), " ")


def _normal(texts: Ints) -> npt.NDArray[np.float64]:
    """Box and Muller's normal numbers from two uniform ones."""
    radius = np.sqrt(-2.0 * np.log1p(-_unit(texts, 7)))
    return radius * np.cos(2 * np.pi * _unit(texts, 8))
