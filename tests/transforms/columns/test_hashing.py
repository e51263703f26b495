import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.columns import hashing
from alignset.transforms.columns.hashing import pair_begin, pair_end, pair_keys, string_hashes
from alignset.transforms.corpus.hash_sets import HashSet, is_member
from tests.support.made_batches import in_the_middle, pair_hash, xxh, xxh_pair

TOP = 2**64 - 1
uint64s = st.one_of(
    st.integers(0, TOP),
    st.integers(0, 5),
    st.integers(TOP - 5, TOP),
    st.integers(2**63 - 3, 2**63 + 3),
)


def strings(rows: list[bytes | None]) -> pa.StringArray:
    return pa.array(rows, pa.binary()).view(pa.string())


def hash_set(members: set[int]) -> HashSet:
    return HashSet(np.array(sorted(members), np.uint64))


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


@given(st.lists(st.tuples(st.text(), st.text())))
def test_a_key_is_the_hash_of_both_hashes(pairs: list[tuple[str, str]]) -> None:
    urls, texts = (string_hashes(pa.array([p[at] for p in pairs], pa.string())) for at in (0, 1))
    assert pair_keys(urls, texts).tolist() == [xxh_pair(*pair) for pair in pairs]


@given(uint64s, uint64s)
def test_a_pair_hashes_in_two_halves(first: int, second: int) -> None:
    first, second = np.uint64(first), np.uint64(second)
    expected = pair_hash(int(first), int(second))
    begun = np.uint64(pair_begin(first))  # Python sees kernels' results as its own numbers
    assert pair_end(begun, second) == expected
    assert hashing.pair_hash(first, second) == expected


@given(st.sets(uint64s), st.lists(uint64s))
def test_a_set_of_hashes_is_a_set(members: set[int], others: list[int]) -> None:
    asked = sorted(members) + others
    answers = hash_set(members).contains(np.array(asked, np.uint64))
    assert answers.tolist() == [hash_ in members for hash_ in asked]
    assert len(hash_set(members)) == len(members)
    assert [
        is_member(hash_set(members).table, np.uint64(hash_)) for hash_ in asked
    ] == answers.tolist()


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


@pytest.mark.parametrize("members", [[], [0], [0, 1, 2**63, TOP]])
def test_a_file_of_hashes_opens_as_a_set(tmp_path, members: list[int]) -> None:
    path = tmp_path / "set.u64"
    path.write_bytes(b"".join(member.to_bytes(8, "little") for member in members))
    opened = HashSet.open(path)
    assert opened.members.tolist() == members
    asked = np.array([0, 1, 2, 2**63, TOP], np.uint64)
    assert opened.contains(asked).tolist() == [int(hash_) in members for hash_ in asked]
