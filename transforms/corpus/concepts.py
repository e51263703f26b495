"""How often the n-grams of a text occur in the corpus, and which texts of frequent ones stay.

A pair stays with the probability `1 - product(1 - min(1, T / count))` over its concepts, where T is
`--max_pairs_per_concept`. Source: Xu et al., 2023 (arXiv 2309.16671), section 3, in its words.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.hashing import Bools, UInt64s, string_hashes
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.corpus.hash_counts import UInt8s, hash_with_language
from alignset.transforms.pairs.measure_pairs import NGrams, Pairs
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.rules.language_codes import NUMBERED
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, batch_of, unpack
from alignset.transforms.storage.files import local_copy, write_atomically

CONCEPTS, LISTED_CONCEPTS = "concepts", "concepts of a list"  # among the files to judge with
MOST_CONCEPTS = 100_000_000  # 12 bytes each, in each process
MOST_LISTED = 10_000_000
# Another place of a key than that by which languages are reduced to a size.
_OF_CONCEPTS = string_hashes(pa.array(["concepts"]))[0]


class ConceptCounts(NamedTuple):
    """The concepts of a corpus.

    Fields:
      hashes: ascending uint64[k]. counts: uint32[k].
      limit: pairs of each, about. listed: whether they are of a list, and a text without one goes;
        else they are all n-grams above the limit, and such a text has nothing frequent and stays.
    """

    hashes: UInt64s
    counts: npt.NDArray[np.uint32]
    limit: int
    listed: bool


@lru_cache(maxsize=2)
def open_concepts(path: str, limit: int, listed: bool) -> ConceptCounts:
    """The file that `WriteConcepts` wrote."""
    with pa.memory_map(local_copy(path)) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    return ConceptCounts(table["hash"].to_numpy(), table["count"].to_numpy(), limit, listed)


def named_file(path: str) -> str:
    """The file of `--concepts`, and the SHA-256 of its bytes.

    Raises:
      ValueError: it cannot be read, or is not a list of concepts; says why.
    """
    name, data = _named_bytes(path)
    _ngrams_in(data)
    return name


def listed_concepts(name: str, language: RuleSettings) -> UInt64s:
    """The n-grams of a file, as `named_file` names it, in each wanted language: ascending.

    Raises:
      ValueError: it is another file now, or has too many.
    """
    path, _, _ = name.rpartition("@")
    found, data = _named_bytes(path)
    if found != name:
        raise ValueError(f"{path} has changed since the command began")
    hashes = _ngrams_in(data)
    if not language.has_vote:
        return hashes
    numbers = [NUMBERED.index(code) + 1 for code in language.languages]
    if len(hashes) * len(numbers) > MOST_LISTED:
        raise ValueError(
            f"{path} has {len(hashes):,} concepts, which are too many in {len(numbers)} languages: "
            "name fewer of either"
        )
    copies = np.repeat(hashes, len(numbers))
    ones = np.ones(len(copies), np.int32)
    alone = NGrams(copies, np.arange(len(copies)))
    hash_with_language(alone, ones, np.tile(np.array(numbers, np.uint8), len(hashes)))
    return np.unique(copies)


def _named_bytes(path: str) -> tuple[str, bytes]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return f"{path}@{hashlib.sha256(data).hexdigest()[:16]}", data


def _ngrams_in(data: bytes) -> UInt64s:
    """The n-grams of a list, a word or two in each line: ascending uint64[k].

    Raises:
      ValueError: a line has no word, or more than two; says which.
    """
    lines = [line.strip() for line in data.decode().splitlines()]
    concepts = [line for line in lines if line]
    texts = measure_texts(pa.array(concepts, pa.string()), np.ones(len(concepts), np.bool_))
    for line, words in zip(concepts, texts.word_count.tolist(), strict=True):
        if not 1 <= words <= 2:
            raise ValueError(f"{line[:60]!r} has {words} words; a concept has one or two")
    if not concepts:
        raise ValueError("it names no concept")
    # "red dog" has the n-grams "red", "dog", and behind them the two.
    last = texts.first_ngram + np.where(texts.word_count == 2, 2, 0)
    return np.unique(texts.ngrams[last])


def kept_shares(
    ngrams: NGrams,
    words: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    concepts: ConceptCounts,
) -> npt.NDArray[np.float64]:
    """The probability with which each of some rows stays: float64[len(rows)]."""
    sizes = np.maximum(2 * words[rows].astype(np.int64) - 1, 0)
    ends = np.cumsum(sizes)
    of_row = np.repeat(np.arange(len(rows)), sizes)
    at = np.arange(len(of_row)) + np.repeat(ngrams.first[rows] - (ends - sizes), sizes)
    hashes = ngrams.hashes[at]
    order = np.lexsort((hashes, of_row))  # each n-gram of a text counts once
    of_row, hashes = of_row[order], hashes[order]
    first = np.ones(len(hashes), np.bool_)
    first[1:] = (of_row[1:] != of_row[:-1]) | (hashes[1:] != hashes[:-1])
    of_row, hashes = of_row[first], hashes[first]
    place, is_there = _find(concepts.hashes, hashes)
    of_row, counts = of_row[is_there], concepts.counts[place[is_there]]
    product = np.ones(len(rows))
    np.multiply.at(product, of_row, 1 - np.minimum(1.0, concepts.limit / counts))
    if not concepts.listed:
        product[np.bincount(of_row, minlength=len(rows)) == 0] = 0.0
    shares: npt.NDArray[np.float64] = 1 - product
    return shares


def _find(sorted_hashes: UInt64s, hashes: UInt64s) -> tuple[npt.NDArray[np.int64], Bools]:
    """Where hashes stand among ascending ones, int64[n], and which do: bool[n]."""
    place = np.searchsorted(sorted_hashes, hashes)
    is_there = place < len(sorted_hashes)
    is_there[is_there] = sorted_hashes[place[is_there]] == hashes[is_there]
    return place, is_there


def is_beyond_concepts(
    pairs: Pairs, alive: Bools, concepts: ConceptCounts, numbers: UInt8s | None = None
) -> Bools:
    """Which pairs go, by the hashes of their keys: bool[n].

    Args:
      alive: bool[n], those that are asked about; others get False.
      numbers: of their languages, as for `hash_with_language`.
    """
    texts = measure_texts(pairs.text, alive, pairs.word_count)
    ngrams = NGrams(texts.ngrams, texts.first_ngram)
    hash_with_language(ngrams, texts.word_count, numbers)
    rows = np.flatnonzero(alive)
    shares = kept_shares(ngrams, texts.word_count, rows, concepts)
    # A double holds 53 bits of the hash exactly.
    places = (key_hashes(pairs.key[rows] ^ _OF_CONCEPTS) >> np.uint64(11)) * 2.0**-53
    beyond = np.zeros(len(alive), np.bool_)
    beyond[rows] = places >= shares
    return beyond


class _Concepts(beam.DoFn):
    """The n-grams of a bucket that are concepts, with their counts."""

    def __init__(self, blocks: Blocks, limit: int, concepts: UInt64s | None) -> None:
        self.blocks, self.limit, self.concepts = blocks, limit, concepts

    def process(self, element: Bucket) -> Iterator[Bucket]:
        bucket, block = element
        table = unpack(block)
        hashes, counts = table["ngram"].to_numpy(), table["count"].to_numpy()
        in_file = counts > self.limit if self.concepts is None else _find(self.concepts, hashes)[1]
        rows = {"hash": hashes[in_file], "count": counts[in_file].astype(np.uint32)}
        yield bucket, self.blocks.pack([batch_of(rows)])[0]


@dataclass(eq=False)
class WriteConcepts(beam.PTransform):
    """(bucket, blocks of `ngram` and `count`, each n-gram once) to the path of a file of concepts.

    Args:
      folder: where to. limit: as `--max_pairs_per_concept`.
      concepts: the concepts; None: all n-grams above the limit.
    """

    folder: str
    blocks: Blocks
    limit: int
    concepts: UInt64s | None = None

    def expand(self, counts: beam.PCollection) -> beam.PCollection:
        path = f"{self.folder}/concepts"
        concepts = counts | beam.ParDo(_Concepts(self.blocks, self.limit, self.concepts))
        concepts.element_type = BUCKET
        start = counts.pipeline | beam.Create([None])
        return start | beam.Map(lambda _, parts: _write(parts, path), beam.pvalue.AsList(concepts))


def _write(parts: Iterable[Bucket], path: str) -> str:
    name = f"{path}-{uuid.uuid4().hex}"  # each attempt its own, since readers keep it open
    blocks = [unpack(block) for _, block in parts]
    hashes = np.concatenate([np.zeros(0, np.uint64), *(b["hash"].to_numpy() for b in blocks)])
    counts = np.concatenate([np.zeros(0, np.uint32), *(b["count"].to_numpy() for b in blocks)])
    if len(hashes) > MOST_CONCEPTS:
        raise ValueError(
            f"{len(hashes):,} words and pairs of words occur more often than "
            "--max_pairs_per_concept, too many to be in memory: raise it"
        )
    # A word is there in each language that it occurs in, with a hash of its own.
    order = np.argsort(hashes, kind="stable")
    rows = batch_of({"hash": hashes[order], "count": counts[order]})

    def write(sink: object) -> None:
        with pa.ipc.new_file(sink, rows.schema) as file:
            file.write_batch(rows)

    write_atomically(name, write)
    return name
