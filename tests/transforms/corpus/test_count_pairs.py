from collections import Counter
from collections.abc import Callable

import apache_beam as beam
import pyarrow as pa
import pytest

from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.corpus.count_pairs import (
    FindFrequent,
    count_batch,
    distinct_pairs,
    precedence,
)
from alignset.transforms.pairs.measure_pairs import measure
from alignset.transforms.storage.blocks import Blocks
from tests.support.languages_by_eldc import language_score
from tests.support.made_batches import (
    expect_rows,
    language_rule,
    ngram_hashes,
    pair_batch,
    run_in_beam,
    xxh,
    xxh_pair,
)

ENGLISH = "the brown dog sleeps under the old wooden table"
GERMAN = "der braune Hund schläft unter dem alten Holztisch"
A, B, C = "http://a.example/", "HTTP://B.example:80/", "http://c.example/"
B_IDENTITY = "http://b.example/"
BUCKETS = 4


def bucket(value: int, buckets: int = BUCKETS) -> int:
    return value * buckets >> 64


def pair_row(url: str, text: str, *, exact: tuple[str, str]) -> tuple[int, ...]:
    """url, text, exact; the highest bit says that no image is stored."""
    return xxh(url), xxh(text), xxh_pair(*exact) | 1 << 63


def rows_of(batch: pa.RecordBatch) -> list[tuple]:
    return [tuple(row.values()) for row in batch.to_pylist()]


def ngram_counts(*identities: str) -> dict[int, int]:
    return Counter(hash_ for identity in identities for hash_ in ngram_hashes(identity))


def test_a_batch_counts_its_usable_rows() -> None:
    rows = [(None, "x"), (A, "A  Dog"), (B, b"\xff"), (B, "a dog.")]
    part = count_batch(pair_batch(rows), first_row=100, language=language_rule(""))
    assert rows_of(part.pairs) == [
        (*pair_row(A, "a dog", exact=(A, "A Dog")), 101, 1),
        (*pair_row(B_IDENTITY, "a dog.", exact=(B, "a dog.")), 103, 1),
    ]
    assert part.pairs.schema.names == ["url", "text", "exact", "row", "counted"]
    assert dict(rows_of(part.ngrams)) == ngram_counts("a dog", "a dog.")
    assert part.ngrams["ngram"].to_pylist() == sorted(ngram_counts("a dog"))
    assert (len(part.repeats), len(part.languages), len(part.measures.url)) == (0, 0, 4)


def test_of_pairs_that_repeat_within_a_batch_one_goes_on() -> None:
    """The first by its very strings, then by its row; n-grams are those of all rows."""
    spellings = ["a Dog", "A dog", "a dog", "a dog "]
    first = min(("a Dog", "A dog", "a dog"), key=lambda text: xxh_pair(A, text) | 1 << 63)
    rows = [(A, "one"), *((A, text) for text in spellings), (B, "a dog"), (A, "one"), (A, "a dog")]
    part = count_batch(pair_batch(rows), first_row=10, language=language_rule(""))
    place = 11 + spellings.index(first)
    assert rows_of(part.pairs) == [
        (*pair_row(A, "one", exact=(A, "one")), 10, 1),
        (*pair_row(A, "a dog", exact=(A, first)), place, 1),
        (*pair_row(B_IDENTITY, "a dog", exact=(B, "a dog")), 15, 1),
    ]
    assert rows_of(part.repeats) == [(row,) for row in (11, 12, 13, 14, 16, 17) if row != place]
    assert dict(rows_of(part.ngrams)) == ngram_counts(*["a dog"] * 6, *["one"] * 2)


def with_columns(rows: list[tuple], **columns: pa.Array) -> pa.RecordBatch:
    batch = pair_batch(rows)
    for name, column in columns.items():
        batch = batch.append_column(name, column)
    return batch


def precedence_of(batch: pa.RecordBatch) -> list[int]:
    return precedence(measure(batch), batch).tolist()


def test_precedence_depends_on_the_row_alone_with_what_it_carries() -> None:
    same = [(A, "a dog")] * 4
    scores = pa.array([0.5, None, 0.25, 0.5], pa.float64())
    names = pa.array(["", None, "x", ""], pa.string())
    batch = with_columns(same, **{f"{CARRIED}score": scores, f"{CARRIED}name": names})
    whole = precedence_of(batch)
    assert (whole[0], len({*whole})) == (whole[3], 3)
    assert [precedence_of(batch.slice(row, 1)) for row in range(4)] == [[of] for of in whole]


def test_a_page_or_statement_that_is_null_counts_as_one_that_is_missing() -> None:
    rows = [(A, "a dog"), (A, "a dog"), (A, "a dog")]
    bare = precedence_of(pair_batch(rows))
    pages = pa.array([b"http://p.example/", None, b""], pa.binary())
    with_pages = precedence_of(with_columns(rows, page_url=pages))
    assert [with_pages[at] == bare[at] for at in range(3)] == [False, True, True]
    said = pa.array(["cc-by", None, None], pa.string())
    opted = pa.array([None, None, "meta_robots"], pa.string())
    stated = with_columns(rows, source_license=said, source_opted_out=opted)
    assert [a == b for a, b in zip(precedence_of(stated), bare, strict=True)] == [
        False,
        True,
        False,
    ]


def test_a_stored_image_stands_before_any_that_is_to_be_fetched() -> None:
    rows = [(A, f"a dog {n}") for n in range(40)]
    sizes = pa.array([n * (n % 2) for n in range(40)], pa.int64())
    found = precedence_of(with_columns(rows, source_size=sizes))
    assert [of < 1 << 63 for of in found] == [n % 2 == 1 for n in range(40)]
    assert found[0] == precedence_of(pair_batch(rows))[0]
    one, other = (pa.array([size], pa.int64()) for size in (7, 8))
    assert precedence_of(with_columns(rows[:1], source_size=one)) != precedence_of(
        with_columns(rows[:1], source_size=other)
    )


def test_another_language_is_named_and_does_not_count() -> None:
    rows = [(None, "x"), (A, GERMAN), (B, "a dog"), (B, ENGLISH), (B, b"\xff"), (C, GERMAN)]
    rows.append((A, f" {GERMAN}"))
    part = count_batch(pair_batch(rows), first_row=10, language=language_rule("en"))
    score = language_score(GERMAN.casefold(), "en")[0]
    named = [row for row in rows_of(part.languages) if row[0] != 12]
    assert named == [(row, "de", score, None) for row in (11, 15, 16)]
    votes = dict(zip(*(part.pairs[name].to_pylist() for name in ("row", "counted")), strict=True))
    assert (votes[11], votes[13], votes[15]) == (0, 1, 0)
    assert 16 in part.repeats["row"].to_pylist()
    ngrams = dict(rows_of(part.ngrams))
    assert not ngrams.keys() & set(ngram_hashes(GERMAN.casefold()))
    assert ngrams.keys() >= set(ngram_hashes(ENGLISH))


def test_nothing_counts_nothing() -> None:
    for batch in (pair_batch([]), pair_batch([(None, None)])):
        counts = count_batch(batch, first_row=0, language=language_rule("en"))
        assert [len(part) for part in counts[:4]] == [0, 0, 0, 0]
        assert len(counts.measures.url) == len(batch)


PAIR_KINDS = {
    "url": pa.uint64(),
    "text": pa.uint64(),
    "exact": pa.uint64(),
    "row": pa.uint32(),
    "counted": pa.uint8(),
    "split": pa.uint32(),
}


def batch_of_rows(rows: list[tuple], kinds: dict[str, pa.DataType]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [[]] * len(kinds)
    arrays = [pa.array(list(c), kind) for c, kind in zip(columns, kinds.values(), strict=True)]
    return pa.record_batch(arrays, names=list(kinds))


def test_distinct_pairs_of_several_splits() -> None:
    rows = [
        (1, 1, 9, 0, 1, 5),
        (1, 1, 9, 9, 1, 2),  # of one exact hash, the one of the first split
        (1, 2, 9, 3, 1, 2),
        (3, 3, 5, 0, 0, 1),
        (3, 3, 4, 1, 0, 9),  # the smallest exact hash
        (4, 4, 1, 2**32 - 1, 1, 2**32 - 1),
        (4, 4, 1, 2**32 - 2, 1, 2**32 - 1),
        (1, 1, 9, 1, 1, 3),
    ]
    pairs = batch_of_rows(rows, PAIR_KINDS)
    first, repeated = distinct_pairs(pairs)
    assert first.tolist() == [row in (1, 2, 4, 6) for row in range(len(rows))]
    assert repeated.schema.names == ["split", "row"]
    assert rows_of(repeated) == [(1, 0), (3, 1), (5, 0), (2**32 - 1, 2**32 - 1)]
    first, repeated = distinct_pairs(pairs.filter(pa.array(first)))
    assert (first.tolist(), rows_of(repeated)) == ([True] * 4, [])


def in_blocks(
    rows: list[tuple],
    kinds: dict[str, pa.DataType],
    blocks: Blocks,
    hash_of: Callable[[tuple], int],
) -> list[tuple[int, pa.RecordBatch]]:
    """Rows by the bucket of their hash, two to a block."""
    of_bucket: dict[int, list[tuple]] = {}
    for row in rows:
        of_bucket.setdefault(bucket(hash_of(row)), []).append(row)
    return [
        (number, block)
        for number, its in of_bucket.items()
        for at in range(0, len(its), 2)
        for block in blocks.pack([batch_of_rows(its[at : at + 2], kinds)])
    ]


def spread_by_bucket(rows: list[tuple]) -> dict[int, list[tuple]]:
    return {bucket(row[0]): [r for r in rows if bucket(r[0]) == bucket(row[0])] for row in rows}


LIMITS = [(2, [1, 2, 2**63]), (3, [1, 2**63]), (4, [2**63]), (2**32 - 1, [2**63]), (2**32, [])]


@pytest.mark.parametrize("by_reference", [False, True])
def test_frequent_is_more_than_the_limit(tmp_path, by_reference: bool) -> None:
    blocks = Blocks(str(tmp_path) if by_reference else None)
    counts = [(1, 3), (2, 2), (1, 1), (3, 2), (2, 1), (2**63, 2**32 - 1), (2**63, 1)]
    kinds = {"hash": pa.uint64(), "count": pa.uint32()}
    packed = in_blocks(counts, kinds, blocks, lambda row: row[0])
    of_images = [(BUCKETS + number, block) for number, block in packed]
    above_four = spread_by_bucket([(2**63,)])

    def build(pipeline: beam.Pipeline) -> None:
        partners = pipeline | beam.Create(packed + of_images)
        for limit, frequent in LIMITS:
            above = spread_by_bucket([(hash_,) for hash_ in frequent])
            outputs = partners | f"Texts {limit}" >> FindFrequent(BUCKETS, limit, 4)
            expect_rows(outputs["texts"], above, f"texts {limit}")
            expect_rows(outputs["images"], above_four, f"images {limit}")
        outputs = partners | "Images" >> FindFrequent(BUCKETS, 4, 3)
        expect_rows(outputs["texts"], above_four, "many texts")
        expect_rows(outputs["images"], spread_by_bucket([(1,), (2**63,)]), "many images")

    run_in_beam(build)
