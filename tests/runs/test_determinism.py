"""Same pairs, keys, shard names and bytes however the work is cut up and in whatever order."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from tests.support.command import digests, fates, manifest, succeed
from tests.support.golden_run import Golden


def set_digests(output: Path) -> dict[str, str]:
    """Of what is the set itself: the other files name the input or follow its rows' order."""
    return {
        name: digest
        for name, digest in digests(output).items()
        if name.startswith(("shards/", "rejected/images-")) or name == "funnel.json"
    }


def test_there_are_several_shards(plain: Golden):
    assert len(manifest(plain.output)["shards"]) == 3


@pytest.mark.parametrize(
    "flags",
    [
        ("--batch_rows=7", "--connections=1"),
        ("--batch_rows=1000000", "--connections=256", "--direct_num_workers=2"),
        ("--direct_num_workers=2", "--direct_running_mode=multi_threading", "--batch_rows=30"),
        ("--direct_num_workers=2", "--direct_running_mode=multi_processing"),
    ],
    ids=" ".join,
)
def test_how_the_work_is_done_changes_no_byte_of_any_file(
    plain: Golden, tmp_path: Path, flags: tuple[str, ...]
):
    succeed(plain.pairs, tmp_path / "set", *plain.flags, *flags)
    assert digests(tmp_path / "set") == digests(plain.output)


def test_a_job_service_changes_no_byte_of_any_file(plain: Golden, tmp_path: Path):
    """Beam's own, as one would give the job to any engine."""
    service = LocalJobServicer(str(tmp_path / "staged"))
    port = service.start_grpc_server()
    flags = ("--runner=PortableRunner", f"--job_endpoint=localhost:{port}")
    try:
        succeed(plain.pairs, tmp_path / "set", *plain.flags, *flags, "--environment_type=LOOPBACK")
    finally:
        service.stop()
    assert digests(tmp_path / "set") == digests(plain.output)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_rows_and_files_changes_no_shard(plain: Golden, tmp_path: Path, seed: int):
    """Shuffled rows: in one file, then in several whose names sort in another order."""
    table, random = pq.read_table(plain.pairs), np.random.default_rng(seed)
    shuffled = table.take(pa.array(random.permutation(len(table))))
    edges = [0, len(table)] if seed == 0 else [0, 11, 12, 90, len(table)]
    names = random.permutation(len(edges) - 1)
    (tmp_path / "in").mkdir()
    for name, start, stop in zip(names, edges[:-1], edges[1:], strict=True):
        part = shuffled.slice(start, stop - start)
        pq.write_table(part, tmp_path / "in" / f"{name}.parquet", row_group_size=20)
    succeed(tmp_path / "in", tmp_path / "set", *plain.flags)
    assert set_digests(tmp_path / "set") == set_digests(plain.output)
    assert fates(tmp_path / "set") == fates(plain.output) == Counter(plain.fates)
