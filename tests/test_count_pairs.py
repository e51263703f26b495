from functools import partial
from itertools import pairwise

import apache_beam as beam
import pyarrow as pa
import pytest

from tests.made_batches import (
    expect_rows,
    language_rule,
    pair_batch,
    read_batches,
    run_in_beam,
    xxh,
    xxh_pair,
)
from transforms.batches import Blocks
from transforms.count_pairs import CountPairs, FindCrowdedImages, FindFrequentTexts, counted

ENGLISH = "the brown dog sleeps under the old wooden table"
GERMAN = "der braune Hund schläft unter dem alten Holztisch"
A, B, C = "http://a.example/", "HTTP://B.example:80/", "http://c.example/"
B_IDENTITY = "http://b.example/"
BUCKETS = 4


def bucket(value: int, buckets: int = BUCKETS) -> int:
    return value * buckets >> 64


def hashed(url: str, identity: str, *, exact: tuple[str, str]) -> tuple[int, int, int]:
    return xxh(url), xxh(identity), xxh_pair(*exact)


def test_a_batch_counts_its_usable_rows() -> None:
    rows = [(None, "x"), (A, "A  Dog"), (B, b"\xff"), (B, "a dog.")]
    found = counted(pair_batch(rows), first_row=100, language=language_rule(""))
    assert [tuple(row.values()) for row in found.pairs.to_pylist()] == [
        (*hashed(A, "a dog", exact=(A, "A Dog")), 101, 1),
        (*hashed(B_IDENTITY, "a dog.", exact=(B, "a dog.")), 103, 1),
    ]
    assert found.ngrams.tolist() == [xxh("a"), xxh("dog"), xxh("a dog")] * 2
    assert len(found.foreign) == 0


def test_another_language_is_named_and_does_not_count() -> None:
    rows = [(None, "x"), (A, GERMAN), (B, "a dog"), (B, ENGLISH), (B, b"\xff"), (C, GERMAN)]
    found = counted(pair_batch(rows), first_row=10, language=language_rule("en"))
    assert found.foreign.to_pylist()[0] == {"row": 11, "language": "de"}
    assert found.foreign["row"].to_pylist()[-1] == 15
    votes = dict(zip(*(found.pairs[name].to_pylist() for name in ("row", "counted")), strict=True))
    assert votes[11] == 0
    assert votes[13] == 1
    assert votes[15] == 0
    assert xxh("hund") not in found.ngrams.tolist()
    assert xxh("wooden table") in found.ngrams.tolist()


def test_nothing_counts_nothing() -> None:
    for batch in (pair_batch([]), pair_batch([(None, None)])):
        found = counted(batch, first_row=0, language=language_rule("en"))
        assert (len(found.pairs), len(found.ngrams), len(found.foreign)) == (0, 0, 0)


@pytest.mark.parametrize("by_reference", [False, True])
def test_count_pairs_in_beam(tmp_path, by_reference: bool) -> None:
    blocks = Blocks(str(tmp_path) if by_reference else None)
    splits = [
        (0, [[(A, "a dog"), (None, "x")], [], [(B, "A dog")]]),
        (1, [[(A, "a dog"), (A, GERMAN)], [(C, "one")]]),
        (2, [[]]),
    ]
    first = (*hashed(A, "a dog", exact=(A, "a dog")), 0, 1, 0)
    pairs = [
        first,
        (*hashed(B_IDENTITY, "a dog", exact=(B, "A dog")), 2, 1, 0),
        (*first[:3], 0, 1, 1),
        (*hashed(A, GERMAN.casefold(), exact=(A, GERMAN)), 1, 1, 1),
        (*hashed(C, "one", exact=(C, "one")), 2, 1, 1),
    ]
    by_url = {bucket(p[0]): [q for q in pairs if bucket(q[0]) == bucket(p[0])] for p in pairs}
    votes = [(p[1], p[0]) for p in pairs]
    by_text = {bucket(v[0]): [w for w in votes if bucket(w[0]) == bucket(v[0])] for v in votes}
    german = GERMAN.casefold().split()
    of_split = [
        {"a": 2, "dog": 2, "a dog": 2},
        {"a": 1, "dog": 1, "a dog": 1, "one": 1}
        | dict.fromkeys([*german, *(f"{x} {y}" for x, y in pairwise(german))], 1),
    ]
    ngrams: dict[int, list] = {}
    for ngram, count in [item for counts in of_split for item in counts.items()]:
        ngrams.setdefault(bucket(xxh(ngram), 4 * BUCKETS), []).append((xxh(ngram), count))

    rule = language_rule("")

    def build(pipeline: beam.Pipeline) -> None:
        found = pipeline | beam.Create(splits) | CountPairs(read_batches, blocks, rule, BUCKETS)
        expect_rows(found["by_url"], by_url, "by_url")
        expect_rows(found["by_text"], by_text, "by_text")
        expect_rows(found["ngrams"], ngrams, "ngrams")
        expect_rows(found["foreign"], {}, "foreign")

    run_in_beam(build)


def _in_blocks(rows: list[tuple], names: list[str], kinds: list[pa.DataType]) -> list:
    columns = [
        pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)
    ]
    whole = pa.record_batch(columns, names=names)
    return [(0, whole.slice(at, 2)) for at in range(0, len(rows), 2)]


@pytest.mark.parametrize("by_reference", [False, True])
def test_what_is_frequent_crowded_and_repeated_in_beam(tmp_path, by_reference: bool) -> None:
    blocks = Blocks(str(tmp_path) if by_reference else None)
    u64, u32 = pa.uint64(), pa.uint32()
    votes = [(1, 11), (1, 12), (1, 12), (2, 11), (2, 12), (2, 13), (1, 11)]  # text, url
    texts = _in_blocks(votes, ["text", "url"], [u64, u64])
    pairs = [  # url, text, exact, row, counted, split
        (5, 1, 30, 7, 1, 0),
        (5, 1, 20, 3, 1, 1),  # the first by its very strings
        (5, 1, 20, 4, 1, 1),
        (5, 2, 1, 8, 1, 0),
        (5, 3, 1, 5, 0, 1),  # does not count, but is judged
        (6, 1, 1, 6, 1, 1),
        (6, 2, 1, 9, 1, 0),
        (6, 3, 1, 10, 1, 0),
        (6, 3, 2, 2, 1, 0),
    ]
    names = ["url", "text", "exact", "row", "counted", "split"]
    urls = _in_blocks(pairs, names, [u64, u64, u64, u32, pa.uint8(), u32])

    def build(pipeline: beam.Pipeline) -> None:
        frequent = pipeline | "Texts" >> beam.Create(texts) | FindFrequentTexts(2)
        expect_rows(frequent, {0: [(2,)]}, "frequent")
        found = pipeline | "Urls" >> beam.Create(urls) | FindCrowdedImages(2, blocks)
        expect_rows(found["crowded"], {0: [(6,)]}, "crowded")
        expect_rows(found["repeated"], {0: [(7,), (2,)], 1: [(4,)]}, "repeated")

    run_in_beam(build)


def test_rows_are_numbered_through_the_batches_of_a_split() -> None:
    count = partial(counted, language=language_rule(""))
    whole = [(A, "a"), (None, "b"), (B, "c"), (C, "d")]
    one = count(pair_batch(whole), first_row=0).pairs
    two = count(pair_batch(whole[2:]), first_row=2).pairs
    assert one.slice(1).equals(two)
