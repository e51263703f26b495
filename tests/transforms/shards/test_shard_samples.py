"""The samples of a shard: what the sidecar, the tar and the list of answers have of kept pairs."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.fetching.orders import Fetched, ImageResponse
from alignset.transforms.images.examine import Image
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.shards.shard_files import SHARD_SCHEMA, TarWriter
from alignset.transforms.shards.shard_pairs import ShardPairs, shared_images
from alignset.transforms.shards.shard_samples import add_samples, write_answers, write_sidecar
from alignset.transforms.shards.stated_opt_outs import StatedOptOuts
from tests.support.made_images import images_of
from tests.support.rules import run_rules

PAIRS = pa.table(
    {
        "key": np.arange(4, dtype=np.uint64),
        "url": [f"http://a.test/{n}.jpg" for n in range(4)],
        "caption": ["one", "two", "three", "four"],
        "source_license": [None, None, "cc-by", None],
        "source_opted_out": [None, None, "meta_robots,tdm_reservation", None],
    }
)
BODIES = [b"first", b"second", b"third", b"no picture"]


def test_samples_have_what_was_measured_and_stated_of_the_kept(tmp_path: Path):
    """Of four pairs the second is dropped, and the last cannot be encoded."""
    looks = [Image("jpeg", 3, 4, 10 + row, plain=row < 3) for row in range(4)]
    images = images_of(tmp_path, BODIES, run_rules(), looks)
    images.drop(1, "too_small")
    opt_outs = StatedOptOuts(OptOutSettings(unwished="report"), 4)
    for row, body in enumerate(BODIES):
        answer = (
            ImageResponse(f"http://b.test/{row}.jpg", 200, 1.5, "image/jpeg") if row < 2 else None
        )
        fetched = Fetched(row, body, None, None, ("x_robots_tag",) * (row == 2), answer)
        opt_outs.note(fetched, FileLook(body))
    measures = {"unsafe_score": pa.array([0.25, None, None, None], pa.float64())}
    shared, on_no_list = shared_images(PAIRS, np.ones(4, np.bool_)), pa.nulls(4, pa.string())
    pairs = ShardPairs(PAIRS, shared, images, on_no_list, measures | opt_outs.columns())

    sink = io.BytesIO()
    tar = TarWriter(sink)
    samples = add_samples(tar, pairs)
    tar.finish()
    assert pairs.reasons == [None, "too_small", None, "undecodable"]
    assert pairs.details[3] == "unwritable"
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as opened:
        files = {member.name: opened.extractfile(member).read() for member in opened}
    first, third = f"{0:016x}", f"{2:016x}"
    ends = ("jpg", "json", "txt")
    assert [*files] == [f"{key}.{end}" for key in (first, third) for end in ends]
    assert (files[f"{first}.jpg"], files[f"{third}.txt"]) == (b"first", b"three")
    assert json.loads(files[f"{third}.json"])["sha256"] == images.sha256[2]

    write_sidecar(samples, tmp_path / "sidecar", pairs)
    table = pq.read_table(tmp_path / "sidecar")
    assert table.schema.equals(SHARD_SCHEMA)
    rows = table.to_pylist()
    assert [row["phash"] for row in rows] == ["000000000000000a", "000000000000000c"]
    assert [row["unsafe_score"] for row in rows] == [0.25, None]
    assert [row["page_license"] for row in rows] == [None, "cc-by"]
    assert rows[0]["opted_out"] is None
    assert rows[1]["opted_out"] == "x_robots_tag,meta_robots,tdm_reservation"

    write_answers(pairs, tmp_path / "answers")
    (row,) = pq.read_table(tmp_path / "answers").to_pylist()
    assert (row["key"], row["url"]) == (first, "http://a.test/0.jpg")
    assert (row["final_url"], row["status"]) == ("http://b.test/0.jpg", 200)
    assert row["content_type"] == "image/jpeg"
    pairs.drop(0, "too_small")
    write_answers(pairs, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    images.spool.close()
