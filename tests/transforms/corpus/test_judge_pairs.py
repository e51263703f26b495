import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to

from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.columns.hashing import HashSet
from alignset.transforms.corpus import corpus_documents
from alignset.transforms.corpus.corpus_documents import HashFile, check_vocabulary
from alignset.transforms.corpus.count_pairs import distinct_pairs, precedence
from alignset.transforms.corpus.judge_pairs import JudgePairs
from alignset.transforms.corpus.vocabulary import WriteHashSets
from alignset.transforms.pairs.measure_pairs import measure, remembered
from alignset.transforms.storage.blocks import Blocks, batch_of, is_there, remove
from alignset.transforms.storage.documents import Counts
from alignset.transforms.storage.files import local_copy, write_atomically
from tests.support.made_batches import (
    expect_rows,
    ngram_hash,
    pair_batch,
    read_batches,
    run_in_beam,
    xxh_pair,
)
from tests.support.memory_files import names_in, read
from tests.support.root import ROOT
from tests.support.rules import run_rules

A = "http://a.example/"


def test_what_is_remembered_is_not_read_again_unless_it_is_gone(tmp_path: Path) -> None:
    """Rows and reasons: tests/runs/test_text_stage.py."""
    for name in ("blocks", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "none").write_bytes(b"")
    blocks = Blocks(str(tmp_path / "blocks"))
    splits = [(n, [[(f"{A}{n}", "a dog"), (f"{A}{n}", "a cat")], [(None, "x")]]) for n in range(3)]
    measured = []
    for n, split in splits:
        batches = [remembered(measure(batch), batch) for batch in read_batches(split)]
        measured.append((n, pa.concat_batches(blocks.pack(batches))))
    remove(measured[1][1])  # where work is done again, the files are gone

    def read_split(split: list) -> Iterator[pa.RecordBatch]:
        assert split == splits[1][1], "it is remembered"
        return read_batches(split)

    def build(pipeline: beam.Pipeline) -> None:
        names = ("frequent_texts", "crowded_images")
        paths = {name: str(tmp_path / "none") for name in names} | {"vocabulary": ""}
        parts = {"split": splits, "repeated": [], "languages": [], "measured": measured}
        joined = {name: pipeline | name >> beam.Create(part) for name, part in parts.items()}
        sets, rules = pipeline | beam.Create([paths]), run_rules(min_words=1, max_words=9)
        folders = str(tmp_path / "out"), str(tmp_path / "work")
        judge = JudgePairs(read_split, blocks, rules, sets, *folders, plan=True)
        outputs = joined | beam.CoGroupByKey() | judge
        expected = {
            n: [(xxh_pair(f"{A}{n}", text), f"{A}{n}", text) for text in ("a dog", "a cat")]
            for n in range(3)
        }
        expect_rows(outputs["kept"], expected, "kept")
        counts = [Counts(3, 2, {"malformed_pair": 1})] * 3
        assert_that(outputs["counts"], equal_to(counts), label="counts")

    run_in_beam(build)
    assert not any(is_there(block) for _, block in measured)  # taken away when they were used


def extend_schema(rows: list[tuple], **columns: pa.Array) -> pa.RecordBatch:
    batch = pair_batch(rows)
    for name, column in columns.items():
        batch = batch.append_column(name, column)
    return batch


def precedence_of(batch: pa.RecordBatch) -> list[int]:
    return precedence(measure(batch), batch).tolist()


def test_of_equal_pairs_the_first_by_its_strings_then_by_its_split_and_row_stands_for_them() -> (
    None
):
    last = 2**32 - 1
    rows = [  # url, text, exact, row, split
        *((1, 1, 9, 0, 5), (1, 1, 9, 9, 2)),
        *((3, 3, 5, 0, 1), (3, 3, 4, 1, 9)),
        *((4, 4, 1, last, last), (4, 4, 1, last - 1, last), (1, 2, 9, 3, 2)),
    ]
    names, kinds = ("url", "text", "exact", "row", "split"), [pa.uint64()] * 3 + [pa.uint32()] * 2
    columns = [pa.array(c, k) for c, k in zip(zip(*rows, strict=True), kinds, strict=True)]
    first, repeated = distinct_pairs(pa.record_batch(columns, names=names))
    assert first.tolist() == [False, True, False, True, False, True, True]
    assert repeated.to_pylist() == [
        {"split": split, "row": row} for split, row in ((1, 0), (5, 0), (last, last))
    ]


def test_precedence_depends_on_the_row_alone_with_what_it_carries() -> None:
    same = [(A, "a dog")] * 4
    scores = pa.array([0.5, None, 0.25, 0.5], pa.float64())
    names = pa.array(["", None, "x", ""], pa.string())
    batch = extend_schema(same, **{f"{CARRIED}score": scores, f"{CARRIED}name": names})
    whole = precedence_of(batch)
    assert (whole[0], len({*whole})) == (whole[3], 3)
    assert [precedence_of(batch.slice(row, 1)) for row in range(4)] == [[of] for of in whole]


def test_a_page_or_statement_that_is_null_counts_as_one_that_is_missing() -> None:
    rows = [(A, "a dog"), (A, "a dog"), (A, "a dog")]
    bare = precedence_of(pair_batch(rows))
    pages = pa.array([b"http://p.example/", None, b""], pa.binary())
    with_pages = precedence_of(extend_schema(rows, page_url=pages))
    assert [with_pages[at] == bare[at] for at in range(3)] == [False, True, True]
    said = pa.array(["cc-by", None, None], pa.string())
    opted = pa.array([None, None, "meta_robots"], pa.string())
    stated = extend_schema(rows, source_license=said, source_opted_out=opted)
    assert [a == b for a, b in zip(precedence_of(stated), bare, strict=True)] == [
        False,
        True,
        False,
    ]


def test_a_stored_image_stands_before_any_that_is_to_be_fetched() -> None:
    rows = [(A, f"a dog {n}") for n in range(40)]
    sizes = pa.array([n * (n % 2) for n in range(40)], pa.int64())
    found = precedence_of(extend_schema(rows, source_size=sizes))
    assert [of < 1 << 63 for of in found] == [n % 2 == 1 for n in range(40)]
    assert found[0] == precedence_of(pair_batch(rows))[0]
    one, other = (pa.array([size], pa.int64()) for size in (7, 8))
    assert precedence_of(extend_schema(rows[:1], source_size=one)) != precedence_of(
        extend_schema(rows[:1], source_size=other)
    )


# Sets of hashes as files: written by buckets, opened by name.

MEMBERS = np.sort(np.random.default_rng(3).integers(0, 2**64 - 1, 50, np.uint64))
BODY = MEMBERS.astype("<u8").tobytes()


@pytest.mark.parametrize("by_reference", [False, True])
def test_buckets_in_any_order_make_sorted_files(
    folder: str, tmp_path: Path, by_reference: bool
) -> None:
    (tmp_path / "blocks").mkdir()
    blocks = Blocks(str(tmp_path / "blocks") if by_reference else None)
    bucket = (MEMBERS >> np.uint64(60)).astype(int)
    numbers = [15, 3, *(n for n in range(15) if n != 3)]
    batches = [batch_of({"hash": MEMBERS[bucket == number]}) for number in numbers]
    members = list(zip(numbers, blocks.pack(batches), strict=True))
    expected = {"full": BODY, "empty": b"", "large": BODY}

    def check(written: list[dict[str, HashFile]]) -> None:
        (files,) = written
        assert files.keys() == expected.keys()
        for name, body in expected.items():
            assert files[name].bytes == len(body)
            assert files[name].sha256 == hashlib.sha256(body).hexdigest()
            assert files[name].members == len(body) // 8
            assert read(files[name].path) == body

    def build(pipeline: beam.Pipeline) -> None:
        sets = {
            "full": pipeline | "Full" >> beam.Create(members),
            "empty": pipeline | "Empty" >> beam.Create([]),
            "large": pipeline | "Large" >> beam.Create(members),
        }
        large = () if by_reference else ("large",)
        assert_that(pipeline | WriteHashSets(folder, sets, large), check)

    run_in_beam(build)
    run_in_beam(build)  # as a retry does: what readers have open stays as it is
    written = [name for name in names_in(folder) if re.search(r"/full-[0-9a-f]{32}$", name)]
    assert len(written) == 2
    assert [read(path) for path in written] == [BODY, BODY]
    assert HashSet.open(local_copy(written[0])).contains(MEMBERS).all()
    # A large set is joined from files of its buckets, and not in memory.
    parts = {name[-38:-33] for name in names_in(folder) if "/large-part-" in name}
    assert parts == (set() if by_reference else {f"{number:05d}" for number in numbers})
    (empty, _) = [name for name in names_in(folder) if re.search(r"/empty-[0-9a-f]{32}$", name)]
    assert not HashSet.open(local_copy(empty)).contains(MEMBERS).any()


# The vocabulary's file: written by buckets, checked before it is used, read by anyone.


def u64(*members: int) -> bytes:
    return b"".join(member.to_bytes(8, "little") for member in members)


@pytest.mark.parametrize("members", [[0], [2**64 - 1], [0, 1, 2**63, 2**64 - 1]])
@pytest.mark.parametrize("piece", [8, 16, 24, 1 << 20])
def test_a_sorted_file_is_a_vocabulary(monkeypatch, folder: str, members: list, piece: int) -> None:
    monkeypatch.setattr(corpus_documents, "PIECE", piece)
    body, path = u64(*members), f"{folder}/{len(members)}-{members[0]}-{piece}"
    write_atomically(path, lambda sink: sink.write(body))
    checked = check_vocabulary(path)
    assert checked == HashFile(path, len(body), hashlib.sha256(body).hexdigest())
    assert checked.members == len(members)


@pytest.mark.parametrize("piece", [8, 16, 1 << 20])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "it is empty"),
        (b"1234567", "it has 7 bytes, no multiple of 8"),
        (u64(1, 2, 3) + b"1", "it has 25 bytes"),
        (u64(2, 1), "not ascending"),
        (u64(1, 1), "not ascending"),
        (u64(1, 2, 3, 3, 4), "not ascending"),
        (u64(1, 2, 3, 0), "not ascending"),
        (b"a text of 24 bytes, sure", "not ascending"),
    ],
)
def test_another_file_is_none(monkeypatch, tmp_path: Path, piece: int, body: bytes, says: str):
    monkeypatch.setattr(corpus_documents, "PIECE", piece)
    (tmp_path / "file").write_bytes(body)
    with pytest.raises(ValueError, match=says):
        check_vocabulary(str(tmp_path / "file"))


def test_the_documents_snippet_looks_up_a_word_and_a_bigram(monkeypatch, capsys, tmp_path: Path):
    page = (ROOT / "docs" / "files.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (snippet,) = [snippet for snippet in snippets if "vocabulary.u64" in snippet]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "OUT").mkdir()
    last = max(["red", "dog", "red dog", "é"], key=ngram_hash)  # beyond the end: not found either
    for ngrams in (["dog", "red dog"], ["dog"], ["red dog"], ["red"], [last], ["dog red", "é"]):
        (tmp_path / "OUT" / "vocabulary.u64").write_bytes(u64(*sorted(map(ngram_hash, ngrams))))
        exec(snippet, {})
        assert capsys.readouterr().out == f"{'dog' in ngrams} {'red dog' in ngrams}\n"
