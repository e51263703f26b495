import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.columns.batches import (
    REFERENCE,
    BatchCoder,
    batch_of,
    bucket_order,
    numbered,
)
from alignset.transforms.storage.blocks import (
    Blocks,
    is_there,
    remove,
    unpack,
    unpack_each,
    unpacked,
)

BATCH = pa.record_batch(
    {
        "key": pa.array([0, 2**64 - 1, None], pa.uint64()),
        "text": pa.array(["a", None, "日本"], pa.string()),
        "raw": pa.array([b"\xff", b"", None], pa.binary()),
    }
)
hashes = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 2**63, 2**64 - 1])))


@pytest.mark.parametrize("batch", [BATCH, BATCH.slice(1), BATCH.slice(1, 1), BATCH.slice(3)])
def test_the_coder_round_trips(batch: pa.RecordBatch) -> None:
    coder = BatchCoder()
    assert coder.decode(coder.encode(batch)).equals(batch)
    assert coder.encode(batch) == coder.encode(batch)


def test_a_slice_takes_no_more_than_its_rows() -> None:
    million = batch_of({"key": np.arange(1_000_000, dtype=np.uint64)})
    encoded = BatchCoder().encode(million.slice(500_000, 10))
    assert len(encoded) < 2000
    assert BatchCoder().decode(encoded)["key"].to_pylist() == list(range(500_000, 500_010))


@pytest.mark.parametrize("by_reference", [False, True])
def test_blocks_come_out_as_they_went_in(tmp_path, by_reference: bool) -> None:
    blocks = Blocks(str(tmp_path) if by_reference else None)
    batches = [BATCH, BATCH.slice(1), BATCH.slice(3), BATCH.slice(2, 1)]
    packed = blocks.pack(batches)
    assert len(list(tmp_path.iterdir())) == by_reference  # one file for all of them
    assert all((block.schema == REFERENCE) == by_reference for block in packed)
    for block, batch in zip(packed, batches, strict=True):
        crossed = BatchCoder().decode(BatchCoder().encode(block))
        assert unpack(crossed).equals(batch)
    assert unpacked(packed).equals(pa.Table.from_batches(batches))
    assert blocks.pack([]) == []


@pytest.mark.parametrize("sizes", [[], [0], [3], [2, 0, 3, 1]])
def test_batches_are_numbered_by_their_first_rows(sizes: list[int]) -> None:
    batches = [batch_of({"n": np.zeros(size)}) for size in sizes]
    pairs = list(numbered(iter(batches)))
    assert [first for first, _ in pairs] == [sum(sizes[:at]) for at in range(len(sizes))]
    assert [batch for _, batch in pairs] == batches


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


@given(hashes, st.integers(0, 16).map(lambda power: 1 << power))
def test_rows_are_brought_together_by_bucket(values: list[int], buckets: int) -> None:
    order, slices = bucket_order(np.array(values, np.uint64), buckets)
    assert sorted(order.tolist()) == list(range(len(values)))
    by_bucket = [(b, int(row)) for b, i, j in slices for row in order[i:j]]
    expected = sorted((value * buckets >> 64, row) for row, value in enumerate(values))
    assert by_bucket == expected  # in each bucket in the order of the rows


def test_a_split_has_no_more_rows_than_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignset.transforms.columns.batches.MAX_ROWS", 3)
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
