import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.columns.hashing import HashSet, string_hashes
from alignset.transforms.columns.records import (
    clear_contents,
    cut,
    host_of,
    key_hashes,
    least_rows,
    nearest_rows,
    rejected_rows,
)
from alignset.transforms.storage.blocks import (
    REFERENCE,
    BatchCoder,
    Blocks,
    batch_of,
    is_there,
    numbered,
    remove,
    unpack,
    unpack_each,
)
from tests.support.made_batches import in_the_middle, xxh
from tests.support.rules import STEP_OF

BATCH = pa.record_batch(
    {
        "key": pa.array([0, 2**64 - 1, None], pa.uint64()),
        "text": pa.array(["a", None, "日本"], pa.string()),
        "raw": pa.array([b"\xff", b"", None], pa.binary()),
    }
)
hashes = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 2**63, 2**64 - 1])))


def test_a_slice_takes_no_more_than_its_rows() -> None:
    million = batch_of({"key": np.arange(1_000_000, dtype=np.uint64)})
    encoded = BatchCoder().encode(million.slice(500_000, 10))
    assert len(encoded) < 2000
    assert BatchCoder().decode(encoded)["key"].to_pylist() == list(range(500_000, 500_010))


def test_a_reference_is_small_and_keeps_its_path(tmp_path) -> None:
    folder = tmp_path / 'é " [1, 2]\n'
    folder.mkdir()
    packed = Blocks(str(folder)).pack([BATCH, BATCH.slice(1)])
    for block, batch in zip(packed, [BATCH, BATCH.slice(1)], strict=True):
        encoded = BatchCoder().encode(block)
        assert len(encoded) < len(str(folder)) + 100  # an IPC stream takes 700
        decoded = BatchCoder().decode(encoded)
        assert decoded.equals(block)
        assert decoded.schema == REFERENCE
        assert unpack(decoded).equals(batch)


def test_a_split_has_no_more_rows_than_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignset.transforms.storage.blocks.MAX_ROWS", 3)
    two = pa.record_batch([pa.array([1, 2])], names=["n"])
    assert [first for first, _ in numbered([two, two.slice(1)])] == [0, 2]
    with pytest.raises(RuntimeError, match="more than 3 rows; split it"):
        list(numbered([two, two]))


def test_what_references_lead_to_is_taken_away(tmp_path) -> None:
    blocks = Blocks(str(tmp_path))
    first, second = (pa.record_batch([pa.array([number])], names=["a"]) for number in (1, 2))
    both = pa.concat_batches(blocks.pack([first]) + blocks.pack([second]))
    (kept,) = blocks.pack([first])
    mapped = list(unpack_each(both))
    assert is_there(both)
    remove(both.slice(0, 1))
    assert not is_there(both)
    remove(both)
    assert [batch["a"].to_pylist() for batch in mapped] == [[1], [2]]  # until they are let go
    assert (is_there(both), is_there(kept), len(list(tmp_path.iterdir()))) == (False, True, 1)


TOP = 2**64 - 1


def strings(rows: list[bytes | None]) -> pa.StringArray:
    return pa.array(rows, pa.binary()).view(pa.string())


def test_every_length_around_the_blocks_of_the_hash() -> None:
    rows = [bytes(range(i, i + size)) for size in range(100) for i in (0, 150)]
    assert string_hashes(strings(rows)).tolist() == [xxh(row) for row in rows]


def test_the_hash_never_changes() -> None:
    assert string_hashes(pa.array(["", "a", "a photograph of a dog, 640 px wide"])).tolist() == [
        0xEF46DB3751D8E999,
        0xD24EC4F1A98C6E5B,
        0x3FC4DF533D21E440,
    ]


@given(st.lists(st.one_of(st.none(), st.binary(max_size=80), st.text(max_size=9).map(str.encode))))
def test_hashes_are_those_of_xxhash(rows: list[bytes | None]) -> None:
    hashes = string_hashes(strings(rows)).tolist()
    assert hashes == [xxh(row or b"") for row in rows]
    assert string_hashes(in_the_middle(strings(rows))).tolist() == hashes
    assert string_hashes(strings(rows).slice(1)).tolist() == hashes[1:]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 1000, 300_000])
def test_sets_of_each_size_know_members_from_neighbours(size: int) -> None:
    members = np.unique(np.random.default_rng(size).integers(0, TOP, size, np.uint64))
    member_set = HashSet(members)
    assert member_set.contains(members).all()
    near = np.concatenate([members + np.uint64(1), members - np.uint64(1)])
    assert member_set.contains(near).tolist() == np.isin(near, members).tolist()


@pytest.mark.parametrize("members", [[2, 1], [1, 1], [1, 2, 2], [TOP, 0]])
def test_unsorted_members_are_refused(members: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        HashSet(np.array(members, np.uint64))


# Examples are chosen by their keys alone, and bins know their threshold.


@pytest.mark.parametrize(("size", "count"), [(0, 4), (3, 4), (100, 4), (5000, 16)])
def test_examples_are_those_with_the_smallest_hashes(size: int, count: int):
    random = np.random.default_rng(size)
    keys = random.integers(0, 1 << 64, size, np.uint64)
    if size > 50:
        keys[10:40] = keys[:30]  # repeated pairs are shown once
    rows = np.flatnonzero(random.random(size) < 0.8)
    hashes = key_hashes(keys)
    first = {int(hashes[row]): int(row) for row in rows[::-1]}
    assert least_rows(hashes, rows, count).tolist() == [first[h] for h in sorted(first)[:count]]


def test_the_same_few_keys_many_times_are_found_beyond_the_first_bound():
    hashes = key_hashes(np.array([1] * 500 + [2] * 500 + [3] * 500, np.uint64))
    rows = np.arange(1500)
    assert set(least_rows(hashes, rows, 3).tolist()) == {0, 500, 1000}


def test_the_nearest_come_first_and_equal_ones_by_their_hashes():
    ranks = np.array([3.0, np.nan, 1.0, 1.0, 0.5, 9.0])
    hashes = np.array([0, 0, 8, 7, 9, 0], np.uint64)
    assert nearest_rows(ranks, hashes, np.arange(6), 3).tolist() == [4, 3, 2]
    assert nearest_rows(ranks, hashes, np.arange(6), 9).tolist() == [4, 3, 2, 0, 5]
    assert nearest_rows(ranks, hashes, np.array([1]), 9).tolist() == []


def test_long_texts_are_cut():
    assert (cut("abc", 3), cut("abcd", 3), cut(None, 3)) == ("abc", "ab…", "")


def test_hosts():
    hosts = {
        "https://User:pw@A.Example:8080/x?y=http://b/": "a.example:8080",
        "http://a.example?x": "a.example",
        "http://a.example#x/y": "a.example",
        "no url": "",
    }
    assert {url: host_of(url) for url in hosts} == hosts
    assert len(host_of(f"http://{'a' * 9000}/")) == 120


PAIRS = pa.record_batch(
    {
        "key": pa.array([1, 2**64 - 1, 0xABC], pa.uint64()),
        "url": ["http://a/", "http://b/", "http://c/"],
        "caption": ["a", "b", "c"],
    }
)


def strings_of_rejects(values: list[str | None]) -> pa.StringArray:
    return pa.array(values, pa.string())


def test_rows_that_hold_neither_url_nor_text_nor_page_nor_picture() -> None:
    reasons = strings_of_rejects(["blocked", "blocked", "too_few_words"])
    pairs = PAIRS.append_column("page_url", strings_of_rejects(["http://p/"] * 3))
    rows = rejected_rows(pairs, reasons, strings_of_rejects(["a.txt:host"] * 3), STEP_OF)
    which = pa.array([True, False, False])
    first, second, third = clear_contents(rows, which).to_pylist()
    assert {name: value for name, value in first.items() if value is not None} == {
        "key": "0000000000000001",
        "step": "blocklist",
        "reason": "blocked",
        "detail": "a.txt:host",
    }
    assert [second, third] == rows.slice(1).to_pylist()
    assert clear_contents(rows, pa.array([False] * 3)) is rows
