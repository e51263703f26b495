"""The samples of a shard: what the sidecar, the tar and the list of answers have of kept pairs."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.fetching.orders import Answer, Fetched
from alignset.transforms.images.examine import Image
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.shards.measure_images import Measured
from alignset.transforms.shards.shard_files import SHARD_SCHEMA, Spool, TarWriter
from alignset.transforms.shards.shard_samples import (
    Samples,
    Verdicts,
    add_samples,
    write_sample_answers,
    write_sidecar,
)
from alignset.transforms.shards.shared_images import SafeEncoder, SharedImages
from alignset.transforms.shards.stated_wishes import StatedWishes
from alignset.transforms.wishes.wish_settings import WishSettings

PAIRS = pa.table(
    {
        "key": ["00", "01", "02", "03"],
        "url": [f"http://a.test/{n}.jpg" for n in range(4)],
        "caption": ["one", "two", "three", "four"],
        "source_license": [None, None, "cc-by", None],
        "source_opted_out": [None, None, "meta_robots,tdm_reservation", None],
    }
)
REASONS = pa.array([None, "too_small", None, None], pa.string())
BODIES = [b"first", b"second", b"third", b"no picture"]


def written(tmp_path: Path) -> tuple[Samples, bytes, Verdicts]:
    """A shard of four pairs: the second is dropped, and the last cannot be encoded."""
    spool, wishes = Spool(tmp_path / "spool"), StatedWishes(WishSettings(unwished="report"), 4)
    for index, body in enumerate(BODIES):
        answer = Answer(f"http://b.test/{index}.jpg", 200, 1.5, "image/jpeg") if index < 2 else None
        fetched = Fetched(index, body, None, None, ("x_robots_tag",) * (index == 2), answer)
        wishes.note(fetched, FileLook(body))
    images: dict[str, list[Any]] = {
        "image": [Image("jpeg", 3, 4, 0, plain=n < 3) for n in range(4)],
        "width": [3] * 4,
        "height": [4] * 4,
        "sha256": [f"{n}" * 64 for n in range(4)],
        "phash": [10, 11, 12, 13],
    }
    measured = Measured(images, [spool.put(body) for body in BODIES], 0)
    scores = {"unsafe_score": pa.array([0.25, None, None, None], pa.float64())}
    verdicts = Verdicts(REASONS, pa.nulls(4, pa.string()), scores | wishes.columns())
    of_pairs = SharedImages(np.arange(4), np.arange(4))
    sink = io.BytesIO()
    tar, encoder = TarWriter(sink), SafeEncoder(ResizeSettings())
    samples = add_samples(tar, PAIRS, of_pairs, measured, verdicts, spool, encoder)
    tar.finish()
    spool.close()
    return samples, sink.getvalue(), verdicts


def test_what_is_kept_and_can_be_encoded_is_a_sample(tmp_path: Path):
    samples, body, _ = written(tmp_path)
    assert (samples.pairs, samples.unwritable) == ([0, 2], [3])
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    assert [*files] == [f"{key}.{end}" for key in ("00", "02") for end in ("jpg", "json", "txt")]
    assert (files["00.jpg"], files["02.txt"]) == (b"first", b"three")
    assert json.loads(files["02.json"])["sha256"] == "2" * 64


def test_the_sidecar_has_what_was_measured_and_stated(tmp_path: Path):
    samples, _, _ = written(tmp_path)
    write_sidecar(samples, tmp_path / "sidecar")
    table = pq.read_table(tmp_path / "sidecar")
    assert table.schema.equals(SHARD_SCHEMA)
    rows = table.to_pylist()
    assert [row["phash"] for row in rows] == ["000000000000000a", "000000000000000c"]
    assert [row["unsafe_score"] for row in rows] == [0.25, None]
    assert [row["page_license"] for row in rows] == [None, "cc-by"]
    assert rows[0]["opted_out"] is None
    assert rows[1]["opted_out"] == "x_robots_tag,meta_robots,tdm_reservation"


def test_answers_are_those_by_which_samples_came(tmp_path: Path):
    samples, _, verdicts = written(tmp_path)
    write_sample_answers(samples, PAIRS, verdicts, tmp_path / "answers")
    (row,) = pq.read_table(tmp_path / "answers").to_pylist()
    assert (row["key"], row["url"]) == ("00", "http://a.test/0.jpg")
    assert (row["final_url"], row["status"]) == ("http://b.test/0.jpg", 200)
    assert row["content_type"] == "image/jpeg"
    write_sample_answers(Samples([], [], []), PAIRS, verdicts, tmp_path / "none")
    assert not (tmp_path / "none").exists()
