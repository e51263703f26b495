"""Same pairs, keys, shard names and bytes however the work is cut up and in whatever order: once,
on a dataset that has every feature on."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from tests.support.agreement import rows
from tests.support.command import digests, funnel, manifest
from tests.support.described_sets import PAGES, DescribedSets, main

RICH = "rich"  # of `SETS`
# Files of the dataset itself; others name the input or follow the order of its rows.
OF_SHARDS = ("shards/", "holdout/", "rejected/images-", "rejected/holdout-", "funnel.json")


def run(described: DescribedSets, output: Path, *flags: str) -> None:
    """Makes the rich dataset with some flags changed."""
    names = {flag.partition("=")[0] for flag in flags}
    words = [w for w in described.words(RICH, output) if w.partition("=")[0] not in names]
    assert main(*words, *flags) == 0


def of_shards(output: Path) -> dict[str, str]:
    return {name: d for name, d in digests(output).items() if name.startswith(OF_SHARDS)}


def test_every_feature_is_on(described: DescribedSets) -> None:
    out = described.find(RICH)
    assert len(manifest(out)["shards"]) > 1  # held-out images follow from the port
    assert manifest(out)["holdout"]
    assert funnel(out)["pages"]["pages"] == PAGES
    kept = rows(out, "shards", "holdout")
    assert all(row["unsafe_score"] is not None and row["width"] <= 120 for row in kept)


@pytest.mark.parametrize(
    "flags",
    [
        ("--direct_num_workers=2", "--direct_running_mode=multi_threading", "--batch_rows=7"),
        pytest.param(
            ("--direct_num_workers=2", "--direct_running_mode=multi_processing"),
            marks=pytest.mark.slow,  # its workers import for 12 s of CPU
        ),
    ],
    ids=" ".join,
)
def test_how_the_work_is_done_changes_no_byte_of_any_file(
    described: DescribedSets, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    run(described, tmp_path / "set", *flags)
    assert digests(tmp_path / "set") == digests(described.find(RICH))


@pytest.mark.slow
def test_a_job_service_changes_no_byte_of_any_file(
    described: DescribedSets, tmp_path: Path
) -> None:
    """Beam's own, as one would give the job to any engine."""
    service = LocalJobServicer(str(tmp_path / "staged"))
    port = service.start_grpc_server()
    flags = ("--runner=PortableRunner", f"--job_endpoint=localhost:{port}")
    try:
        more = ("--environment_type=LOOPBACK", "--connections=1")
        run(described, tmp_path / "set", *flags, *more)
    finally:
        service.stop()
    assert digests(tmp_path / "set") == digests(described.find(RICH))


def test_the_order_of_rows_and_files_changes_no_shard(
    described: DescribedSets, tmp_path: Path
) -> None:
    """Shuffled rows, in several files whose names sort in another order; the pages from last to
    first. Of rows that are equal but for a carried column the same one stays."""
    table, random = pq.read_table(described.at / "pairs.parquet"), np.random.default_rng(0)
    shuffled = table.take(pa.array(random.permutation(len(table))))
    edges = [0, 11, 12, 50, len(table)]
    (tmp_path / "in").mkdir()
    for name, start, stop in zip("3120", edges[:-1], edges[1:], strict=True):
        part = shuffled.slice(start, stop - start)
        pq.write_table(part, tmp_path / "in" / f"{name}.parquet", row_group_size=20)
    records = (described.at / "pages.warc").read_bytes().split(b"WARC/1.0")[1:]
    (tmp_path / "pages.warc").write_bytes(b"".join(b"WARC/1.0" + r for r in reversed(records)))
    run(described, tmp_path / "set", f"--input={tmp_path}/in,{tmp_path}/pages.warc")
    first, second = described.find(RICH), tmp_path / "set"
    assert of_shards(second) == of_shards(first)
    of_both = (sorted(map(str, rows(of, "rejected"))) for of in (first, second))
    assert next(of_both) == next(of_both)
