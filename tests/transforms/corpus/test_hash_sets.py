"""Sets of hashes as files: written by buckets, opened by name."""

import hashlib
import re
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that

from alignset.transforms.columns.batches import batch_of
from alignset.transforms.corpus.corpus_documents import HashFile
from alignset.transforms.corpus.hash_sets import HashSet
from alignset.transforms.corpus.write_hash_sets import WriteHashSets
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.storage.files import local_copy
from tests.support.made_batches import run_in_beam
from tests.support.memory_files import names_in, read

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
    (empty, _) = [name for name in names_in(folder) if re.search(r"/empty-[0-9a-f]{32}$", name)]
    assert not HashSet.open(local_copy(empty)).contains(MEMBERS).any()


def test_large_sets_are_joined_from_files_and_not_in_memory(folder: str) -> None:
    members = [(at, batch_of({"hash": MEMBERS[at : at + 1]})) for at in range(3)]

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | WriteHashSets(folder, {"known": pipeline | beam.Create(members)}, ["known"])

    run_in_beam(build)
    parts = [
        name for name in names_in(folder) if re.search(r"/known-part-\d{5}-[0-9a-f]{32}$", name)
    ]
    assert [read(part) for part in parts] == [BODY[:8], BODY[8:16], BODY[16:24]]
