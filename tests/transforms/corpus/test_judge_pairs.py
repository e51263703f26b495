from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from alignset.transforms.columns.batches import batch_of
from alignset.transforms.corpus.hash_sets import HashSet
from alignset.transforms.corpus.judge_batch import CorpusSets, has_rare_token, text_rows
from alignset.transforms.corpus.judge_pairs import BATCHES_PER_BLOCKS, JudgePairs
from alignset.transforms.corpus.remembered import remembered
from alignset.transforms.pairs.measure_pairs import measure
from alignset.transforms.rules.verdicts import faults, first_of
from alignset.transforms.storage.blocks import Blocks, is_there, remove
from alignset.transforms.workers.counts import Counts
from tests.support.made_batches import (
    expect_rows,
    ngram_hash,
    pair_batch,
    read_batches,
    run_in_beam,
    xxh,
    xxh_pair,
)
from tests.support.rules import run_rules

URL = "http://a.example/b.jpg"


def hash_set(*texts: str) -> HashSet:
    return HashSet(np.array(sorted(map(xxh, texts)), np.uint64))


def vocabulary(*ngrams: str) -> HashSet:
    return HashSet(np.array(sorted(map(ngram_hash, ngrams)), np.uint64))


def judged(rows: list[tuple], *, repeated=(), foreign=(), **corpus: HashSet | None) -> list:
    of_corpus = CorpusSets(hash_set(), hash_set(), None)._replace(**corpus)
    pairs = measure(pair_batch(rows))
    at = np.arange(len(rows))
    marks = np.isin(at, repeated), np.isin(at, foreign), np.zeros(len(rows), np.bool_)
    rules = run_rules(min_words=2, max_words=3)
    asked = text_rows(pairs, of_corpus, *marks)
    return first_of(faults(rules.catalogue.texts, asked, rules.numbers)).to_pylist()


def test_of_several_reasons_the_first_in_the_order_of_the_design() -> None:
    # Row n fails the n-th rule and all after it that a pair can fail at once.
    rows = [
        (URL, b"\xff"),
        (URL, "x"),
        (URL, "x"),
        (URL, "x"),
        (URL, "x y z w"),
        (URL, "x y"),
        (URL, "x z"),
        ("http://c.example/", "x z"),
        ("http://c.example/", "a b"),
    ]
    assert judged(
        rows,
        repeated=(0, 1),
        foreign=(0, 1, 2),
        frequent_texts=hash_set("x", "x y", "x y z w", "\ufffd"),
        crowded_images=hash_set(URL),
        vocabulary=vocabulary("a", "b", "a b"),
    ) == [
        *("malformed_pair", "duplicate_pair", "wrong_language", "too_few_words", "too_many_words"),
        *("text_on_too_many_images", "image_with_too_many_texts", "rare_token", None),
    ]


def test_without_a_vocabulary_each_text_with_words_is_rare() -> None:
    pairs = measure(pair_batch([(URL, "a b"), (URL, "-")]))
    assert has_rare_token(pairs, np.ones(2, np.bool_), vocabulary()).tolist() == [True, False]


@pytest.mark.parametrize(("by_reference", "plan"), [(False, False), (True, True)])
def test_judge_pairs_in_beam(tmp_path: Path, by_reference: bool, plan: bool) -> None:
    (tmp_path / "blocks").mkdir()
    blocks = Blocks(str(tmp_path / "blocks") if by_reference else None)
    ngrams = vocabulary("a", "dog", "cat", "a dog", "a cat")
    sets = {
        "frequent_texts": hash_set("a dog"),
        "crowded_images": hash_set(),
        "vocabulary": ngrams,
    }
    for name, members in sets.items():
        (tmp_path / name).write_bytes(members.members.astype("<u8").tobytes())
    splits = [
        (
            0,
            [
                [(URL, "A  cat"), (None, "x")],
                [],
                [(URL, "a dog"), (URL, "a CAT"), (URL, "un chat")],
            ],
        ),
        (1, [[(URL, "a rat")]]),
        (2, [[(f"{URL}?2", "cat &amp; a cat"), (f"{URL}?2", "a cat")]]),
    ]
    rows = {at: batch_of({"row": np.array([at], np.uint32)}) for at in (3, 4)}
    columns = {"row": pa.array([3, 4], pa.uint32()), "language": ["es", "fr"], "score": [0.3, 0.4]}
    columns["votes"] = pa.nulls(2, pa.string())
    named = pa.record_batch(columns).take(pa.array([1, 0]))
    repeated = [(0, block) for block in blocks.pack([rows[3]])]
    foreign = [(0, block) for block in blocks.pack([named])]
    measured = [
        (
            split,
            pa.concat_batches(
                blocks.pack([remembered(measure(batch), batch) for batch in batches])
            ),
        )
        for split, batches in ((split, list(read_batches(rows))) for split, rows in splits)
        if by_reference
    ]
    first = xxh_pair(URL, "a cat"), URL, "A cat"
    second = xxh_pair(f"{URL}?2", "a cat"), f"{URL}?2", "a cat"

    lost = splits[1][1]  # where work is done again, the files are gone
    if by_reference:
        remove(measured[1][1])

    def build(pipeline: beam.Pipeline) -> None:
        paths = pipeline | "Sets" >> beam.Create([{name: str(tmp_path / name) for name in sets}])
        joined = {
            "split": pipeline | "Splits" >> beam.Create(splits),
            "repeated": pipeline | "Repeated" >> beam.Create(repeated),
            "languages": pipeline | "Foreign" >> beam.Create(foreign),
            "measured": pipeline | "Measured" >> beam.Create(measured),
        } | beam.CoGroupByKey()
        rules = run_rules(min_words=2, max_words=2)

        def read(split: list) -> Iterator[pa.RecordBatch]:  # but not what is known
            return iter(()) if by_reference and split != lost else read_batches(split)

        outputs = joined | JudgePairs(
            read, blocks, rules, paths, str(tmp_path / "out"), str(tmp_path / "work"), plan
        )
        expect_rows(outputs["kept"], {0: [first], 2: [second]} if plan else {}, "kept")
        counts = [
            Counts(
                5,
                1,
                {"malformed_pair": 1, "duplicate_pair": 1}
                | {"wrong_language": 1, "text_on_too_many_images": 1},
            ),
            Counts(1, 0, {"rare_token": 1}),
            Counts(2, 1, {"too_many_words": 1}),
        ]
        assert_that(outputs["counts"], equal_to(counts), label="counts")

    run_in_beam(build)
    assert not any(is_there(block) for _, block in measured)  # taken away when they were used
    rejected = [
        tuple(row.values())[1:]
        for path in sorted(tmp_path.glob("out/rejected/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert [row[:8] for row in rejected] == [
        ("", "x", "pairs", "malformed_pair", "no_url", None, None, None),
        (URL, "a dog", "images_per_text", "text_on_too_many_images", None, None, None, None),
        (URL, "a CAT", "duplicates", "duplicate_pair", None, "wrong_language", None, None),
        (URL, "un chat", "language", "wrong_language", "fr", None, None, 0.4),
        (URL, "a rat", "rare_tokens", "rare_token", None, None, None, None),
        (f"{URL}?2", "cat & a cat", "words", "too_many_words", None, None, None, None),
    ]
    kept = [
        tuple(row.values())
        for path in sorted(tmp_path.glob("out/pairs/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    expected = [(f"{key:016x}", url, caption, None) for key, url, caption in (first, second)]
    assert kept == ([] if plan else expected)


def test_many_batches_and_blocks_of_rows_in_any_order(tmp_path: Path) -> None:
    """More batches than share a file, and rows of one split that come from several buckets."""
    (tmp_path / "empty").write_bytes(b"")
    size = 2 * BATCHES_PER_BLOCKS + 3
    rows = [(f"{URL}?{at}", f"a dog {at}") for at in range(2 * size)]
    batches = [rows[at : at + 2] for at in range(0, len(rows), 2)]
    drop = [[61, 5], [0], [33, 2 * size - 1]]
    repeated = [(7, batch_of({"row": np.array(rows, np.uint32)})) for rows in drop]
    gone = {at for rows in drop for at in rows}
    expected = [
        (xxh_pair(url, text), url, text) for at, (url, text) in enumerate(rows) if at not in gone
    ]

    def build(pipeline: beam.Pipeline) -> None:
        names = ("frequent_texts", "crowded_images")
        paths = {name: str(tmp_path / "empty") for name in names} | {"vocabulary": ""}
        sets = pipeline | beam.Create([paths])
        joined = {
            "split": pipeline | "Splits" >> beam.Create([(7, batches)]),
            "repeated": pipeline | "Repeated" >> beam.Create(repeated),
            "languages": pipeline | "Foreign" >> beam.Create([]),
            "measured": pipeline | "Measured" >> beam.Create([]),
        } | beam.CoGroupByKey()
        rules = run_rules(min_words=1, max_words=9)
        outputs = joined | JudgePairs(
            read_batches, Blocks(), rules, sets, str(tmp_path), str(tmp_path), plan=True
        )
        expect_rows(outputs["kept"], {7: expected}, "kept")
        counts = Counts(2 * size, 2 * size - 5, {"duplicate_pair": 5})
        assert_that(outputs["counts"], equal_to([counts]), label="counts")

    run_in_beam(build)
