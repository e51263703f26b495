"""How a run is cut up, by the size of its input."""

import numpy as np
import pytest

from alignset.pipeline.curate import BYTES_PER_BUCKET, bucket_count
from alignset.pipeline.inputs.splits import InputFile
from alignset.transforms.columns.batches import bucket_order

MIB, GIB = 1 << 20, 1 << 30


def test_all_files_count() -> None:
    files = [InputFile(f"{n}.parquet", 128 * MIB, "parquet") for n in range(9)]
    assert bucket_count(files[:7]) == 8
    assert bucket_count(files) == 16


@pytest.mark.parametrize("exponent", range(20, 39))
def test_a_bucket_has_its_bytes_at_most_and_half_at_least(exponent: int) -> None:
    for size in (2**exponent - 1, 2**exponent, 3 * 2**exponent // 2):
        buckets = bucket_count([InputFile("a.parquet", size, "parquet")])
        assert buckets.bit_count() == 1
        assert size / buckets <= BYTES_PER_BUCKET
        assert buckets == 8 or size / buckets >= BYTES_PER_BUCKET / 2
        assert bucket_order(np.full(1, 2**64 - 1, np.uint64), buckets)[1] == [(buckets - 1, 0, 1)]
