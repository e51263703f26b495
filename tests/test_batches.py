import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.batches import (
    REFERENCE,
    BatchCoder,
    Blocks,
    batch_of,
    bucket_order,
    bucket_slices,
    column,
    unpack,
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


def test_beam_uses_the_coder_for_batches() -> None:
    assert isinstance(beam.coders.registry.get_coder(pa.RecordBatch), BatchCoder)


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


def test_two_attempts_do_not_touch_each_other(tmp_path) -> None:
    first, second = (Blocks(str(tmp_path)).pack([BATCH.slice(at, 1)])[0] for at in (0, 1))
    assert unpack(first).equals(BATCH.slice(0, 1))
    assert unpack(second).equals(BATCH.slice(1, 1))


def test_a_column_of_several_blocks_is_one_array() -> None:
    batches = [batch_of({"n": np.array(part, np.uint64)}) for part in ([1, 2], [], [3])]
    assert column(unpacked(batches), "n").tolist() == [1, 2, 3]
    assert len(column(unpacked([]), "n")) == 0


@given(hashes, st.integers(0, 10).map(lambda power: 1 << power))
def test_buckets_are_the_top_bits(values: list[int], buckets: int) -> None:
    ordered = np.sort(np.array(values, np.uint64))
    slices = list(bucket_slices(ordered, buckets))
    found = [(b, value) for b, i, j in slices for value in ordered[i:j].tolist()]
    assert found == sorted((value * buckets >> 64, value) for value in values)
    assert all(stop > start for _, start, stop in slices)


@given(hashes, st.integers(0, 8).map(lambda power: 1 << power))
def test_rows_are_brought_together_by_bucket(values: list[int], buckets: int) -> None:
    order, slices = bucket_order(np.array(values, np.uint64), buckets)
    assert sorted(order.tolist()) == list(range(len(values)))
    found = [(b, int(row)) for b, i, j in slices for row in order[i:j]]
    expected = sorted((value * buckets >> 64, row) for row, value in enumerate(values))
    assert found == expected  # in each bucket in the order of the rows
