"""Batches of pairs as the tests write them, hashes by the `xxhash` package, and one Beam run."""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import xxhash
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from alignset.demo import text_rules
from alignset.pipeline.runs.beam_patches import beam_patches
from alignset.transforms.pairs.measure_pairs import NGrams, Pairs
from alignset.transforms.pairs.texts import Texts
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.storage.blocks import unpack

Rows = Sequence[tuple[str | bytes | None, str | bytes | None]]


def language_rule(language: str, detector: str = "") -> RuleSettings:
    """The rules of a language, with the default thresholds."""
    return RuleSettings(language=language, language_detector=detector)


def raw(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def pair_batch(rows: Rows) -> pa.RecordBatch:
    """Rows of (URL, alt-text) as a source gives them: binary, any bytes."""
    columns = [[raw(row[at]) for row in rows] for at in (0, 1)]
    return pa.record_batch([pa.array(c, pa.binary()) for c in columns], names=["url", "caption"])


def read_batches(split: Sequence[Rows]) -> Iterator[pa.RecordBatch]:
    """A source whose splits are lists of batches of rows."""
    yield from map(pair_batch, split)


def in_the_middle(column: pa.Array) -> pa.Array:
    """The same rows, as a slice of a longer column."""
    filled = pa.array(["http://before.example/ß"] * 3, pa.string()).cast(column.type)
    return pa.concat_arrays([filled, column, filled]).slice(3, len(column))


def xxh(text: str | bytes) -> int:
    return xxhash.xxh64_intdigest(text.encode() if isinstance(text, str) else text)


def pair_hash(first: int, second: int) -> int:
    return xxh(struct.pack("<QQ", first, second))


def xxh_pair(url: str, text: str) -> int:
    return pair_hash(xxh(url), xxh(text))


def ngram_hash(ngram: str) -> int:
    """The hash of a unigram, or of a bigram, whose words one space parts."""
    words = [word.encode() for word in ngram.split(" ")]
    hashes = [xxh(word.ljust(-(-len(word) // 8) * 8, b"\0")) for word in words]
    return hashes[0] if len(hashes) == 1 else pair_hash(*hashes)


def vocabulary_bytes(ngrams: Iterable[str]) -> bytes:
    """A vocabulary as it is written."""
    return b"".join(struct.pack("<Q", ngram) for ngram in sorted(map(ngram_hash, ngrams)))


def count_ngrams(captions: Iterable[str]) -> Counter[str]:
    """How often each n-gram stands in these alt-texts."""
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(text_rules.ngrams(text_rules.text_identity(text_rules.kept_text(caption))))
    return counts


def ngram_hashes(identity: str) -> list[int]:
    """The hashes of all n-grams of a text, ascending."""
    return sorted(map(ngram_hash, text_rules.ngrams(identity)))


def ngrams_by_row(measured: Texts | Pairs) -> list[list[int]]:
    """The hashes of each text's n-grams, ascending."""
    if isinstance(measured, Texts):
        ngrams = NGrams(measured.ngrams, measured.first_ngram)
    else:
        assert measured.ngrams is not None
        ngrams = measured.ngrams
    starts, words = ngrams.first.tolist(), measured.word_count.tolist()
    sizes = [2 * count - 1 if count else 0 for count in words]
    return [
        sorted(ngrams.hashes[start : start + size].tolist())
        for start, size in zip(starts, sizes, strict=True)
    ]


def run_in_beam(build: Callable[[beam.Pipeline], None]) -> None:
    with beam_patches(), beam.Pipeline(runner=FnApiRunner()) as pipeline:
        build(pipeline)


def expect_rows(blocks: beam.PCollection, expected: dict[Any, list[tuple]], label: str) -> None:
    """Asserts the rows of the blocks of each key, whatever their order."""
    flat = blocks | f"Unpack {label}" >> beam.FlatMap(
        lambda item: [
            (item[0], *row.values()) for batch in [unpack(item[1])] for row in batch.to_pylist()
        ]
    )
    rows = [(key, *row) for key, its_rows in expected.items() for row in its_rows]
    assert_that(flat, equal_to(rows), label=label)
