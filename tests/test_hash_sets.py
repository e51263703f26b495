from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that

from tests.made_batches import run_in_beam
from transforms.batches import Blocks, batch_of
from transforms.hash_sets import WriteHashSet
from transforms.hashing import HashSet

MEMBERS = np.sort(np.random.default_rng(3).integers(0, 2**64 - 1, 50, np.uint64))


def is_a_name_of_its_own(path: str) -> Callable[[list[str]], None]:
    def check(written: list[str]) -> None:
        assert len(written) == 1
        assert written[0].startswith(f"{path}-")

    return check


@pytest.mark.parametrize("by_reference", [False, True])
def test_buckets_in_any_order_make_one_sorted_file(tmp_path: Path, by_reference: bool) -> None:
    blocks = Blocks(str(tmp_path) if by_reference else None)
    bucket = (MEMBERS >> np.uint64(60)).astype(int)
    numbers = [15, 3, *(n for n in range(15) if n != 3)]
    batches = [batch_of({"hash": MEMBERS[bucket == number]}) for number in numbers]
    members = list(zip(numbers, blocks.pack(batches), strict=True))
    full, empty = str(tmp_path / "full.u64"), str(tmp_path / "empty.u64")

    def build(pipeline: beam.Pipeline) -> None:
        written = pipeline | beam.Create(members) | "Full" >> WriteHashSet(full)
        nothing = pipeline | "None" >> beam.Create([]) | "Empty" >> WriteHashSet(empty)
        assert_that(written, is_a_name_of_its_own(full), label="full")
        assert_that(nothing, is_a_name_of_its_own(empty), label="empty")

    run_in_beam(build)
    run_in_beam(build)  # as a retry does
    for name in ("full.u64", "empty.u64"):
        first, second = sorted(map(str, tmp_path.glob(f"{name}-*")))
        assert first != second
    full, empty = (str(next(tmp_path.glob(f"{name}-*"))) for name in ("full.u64", "empty.u64"))
    assert Path(full).read_bytes() == MEMBERS.astype("<u8").tobytes()
    assert HashSet.open(full).contains(MEMBERS).all()
    assert not HashSet.open(empty).contains(MEMBERS).any()
