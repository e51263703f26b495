"""Hashes of the input against the files that came."""

import hashlib

import pyarrow as pa
import pytest

from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.shards.input_hashes import BAD_HASH, InputHashes

BODY = b"a picture"


@pytest.mark.parametrize("kind", ["md5", "sha256", "sha512"])
def test_a_file_is_the_one_that_is_meant_or_not(kind: str) -> None:
    right = hashlib.new(kind, BODY).hexdigest()
    hashes = [right, f" {right.upper()}\n", right[:-1] + "g", right[:-1], f"{right}0", "", None]
    table = pa.table({CARRIED + "hash": [*hashes, hashlib.new(kind, b"").hexdigest(), right]})
    of_input = InputHashes(kind, "hash", table)
    faults = [of_input.fault(pair, 0, [right]) for pair in range(8)]
    said = ["" if fault is None else fault.detail or "differs" for fault in faults]
    assert said == ["", "", BAD_HASH, BAD_HASH, BAD_HASH, "", "", "differs"]
    assert of_input.given.tolist() == [True] * 5 + [False] * 2 + [True] * 2
    assert of_input.fault(8, 0, [None]) is None  # no file came
    assert of_input.fault(8, None, []) is None  # none was asked for


def test_stored_images_and_pairs_without_the_column_are_not_compared() -> None:
    paths = pa.array(["shards/00000.tar", None], pa.string())
    table = pa.table({CARRIED + "hash": ["0" * 32, "0" * 32], "source_path": paths})
    of_input = InputHashes("md5", "hash", table)
    assert [of_input.fault(n, 0, ["1" * 32]) is None for n in range(2)] == [True, False]
    nothing = InputHashes("md5", "hash", pa.table({"key": [1]}))
    assert nothing.fault(0, 0, ["1" * 32]) is None
