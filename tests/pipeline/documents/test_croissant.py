"""The Croissant file: mlcroissant validates it, and loads by it what the dataset holds."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.pipeline.documents.croissant import MOST_TARS, TO_BE_FILLED, croissant
from alignset.pipeline.runs.documents import Funnel, Manifest, Retry, ShardEntry
from alignset.transforms.storage.documents import read_document
from tests.support.command import manifest, samples
from tests.support.golden_run import Golden

Reader = Callable[[Path, str], list[dict[str, Any]]]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where mlcroissant puts what it unpacks, as it reads when it is imported."""
    assert "mlcroissant" not in sys.modules
    folder = tmp_path_factory.mktemp("croissant")
    os.environ["CROISSANT_CACHE"] = str(folder)
    yield folder
    del os.environ["CROISSANT_CACHE"]


@pytest.fixture
def records(cache: Path) -> Reader:
    """The records of a dataset's folder, by their name: fields without the name before them."""
    from mlcroissant import Dataset

    def read(folder: Path, name: str) -> list[dict[str, Any]]:
        shutil.rmtree(cache, ignore_errors=True)  # which it names by a tar's path alone
        rows = Dataset(folder / "croissant.json").records(name)
        return [{key.partition("/")[2]: value for key, value in row.items()} for row in rows]

    return read


def documents(folder: Path) -> tuple[Manifest, Funnel]:
    return (
        read_document(f"{folder}/manifest.json", Manifest),
        read_document(f"{folder}/funnel.json", Funnel),
    )


def test_it_is_valid_but_for_what_a_person_fills_in(
    golden: Golden, caplog: pytest.LogCaptureFixture
):
    from mlcroissant import Dataset

    metadata = Dataset(golden.output / "croissant.json").metadata
    assert not metadata.ctx.issues.errors
    (warning,) = metadata.ctx.issues.warnings
    assert "datePublished" in warning
    assert "@context" not in caplog.text  # it says where that is not the standard's
    assert metadata.license == [TO_BE_FILLED]
    assert metadata.version == "1.0.0"
    assert any(str(line).startswith("fetch: ") for line in metadata.data_preprocessing_protocol)


def test_records_are_the_sidecars_rows(golden: Golden, records: Reader):
    tables = [pq.read_table(path) for path in sorted(golden.output.glob("shards/*.parquet"))]
    rows = pa.concat_tables(tables).to_pylist()
    loaded = records(golden.output, "train")
    assert len(loaded) == len(rows) == manifest(golden.output)["pairs"]
    for name in ("key", "url", "caption", "sha256"):
        assert [row[name].decode() for row in loaded] == [row[name] for row in rows]
    assert [row["width"] for row in loaded] == [row["width"] for row in rows]


def test_images_are_loaded_by_their_keys(golden: Golden, records: Reader):
    stored = samples(golden.output)
    loaded = records(golden.output, "train_images")
    assert {row["key"].decode() for row in loaded} == stored.keys()
    for row in loaded:
        with Image.open(io.BytesIO(stored[row["key"].decode()]["jpg"])) as image:
            assert row["image"].size == image.size
            assert row["image"].tobytes() == image.tobytes()


def test_what_was_dropped_is_loaded_with_its_reason(golden: Golden, records: Reader):
    dropped = [row["reason"].decode() for row in records(golden.output, "rejected")]
    counts = {
        reason: n
        for step in documents(golden.output)[1].steps
        for reason, n in step.dropped.items()
        if n
    }
    assert {reason: dropped.count(reason) for reason in {*dropped}} == counts


def test_a_set_of_texts_alone(golden: Golden, tmp_path: Path, records: Reader):
    described, funnel = documents(golden.output)
    rows = {name: ["a", "b"] for name in ("key", "url", "caption")} | {"page_url": [None, "p"]}
    (tmp_path / "pairs").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "pairs" / "00000.parquet")
    texts = replace(described, job=described.job | {"text_only": True}, pairs=2, shards={})
    (tmp_path / "croissant.json").write_bytes(croissant(texts, funnel, {}))
    loaded = records(tmp_path, "train")
    assert [row["page_url"] for row in loaded] == [None, b"p"]
    assert loaded[0].keys() == rows.keys()


def test_pairs_that_are_held_out_are_records_of_their_own(
    golden: Golden, tmp_path: Path, records: Reader
):
    described, funnel = documents(golden.output)
    first, *others = described.shards
    shutil.copytree(golden.output / "shards", tmp_path / "shards")
    (tmp_path / "holdout").mkdir()
    for path in (tmp_path / "shards").glob(f"{first}*"):
        path.rename(tmp_path / "holdout" / path.name)
    trained = {name: described.shards[name] for name in others}
    held = replace(described, shards=trained, holdout={first: described.shards[first]})
    (tmp_path / "croissant.json").write_bytes(croissant(held, funnel, {}))
    held_out = described.shards[first].pairs
    assert len(records(tmp_path, "validation")) == held_out
    assert len(records(tmp_path, "validation_images")) == held_out
    assert len(records(tmp_path, "train")) == described.pairs - held_out


def test_an_empty_set_has_no_records_but_what_was_dropped(golden: Golden):
    described, funnel = documents(golden.output)
    shards = dict.fromkeys(described.shards, ShardEntry(0, None))
    document = json.loads(croissant(replace(described, pairs=0, shards=shards), funnel, {}))
    assert [record["@id"] for record in document["recordSet"]] == ["rejected"]


def test_of_very_many_tars_none_is_named(golden: Golden):
    described, funnel = documents(golden.output)
    for tars, named in ((MOST_TARS, MOST_TARS), (MOST_TARS + 1, 0)):
        shards = {f"{number:05d}": ShardEntry(10, "ab" * 32) for number in range(tars)}
        document = json.loads(croissant(replace(described, shards=shards), funnel, {}))
        kinds = [node["@type"] for node in document["distribution"]]
        assert kinds.count("cr:FileObject") == named


def test_a_retry_is_a_new_version_and_no_path_is_told(golden: Golden):
    described, funnel = documents(golden.output)
    retry = Retry(3, 1, (4, 4), described.fetch, ["dns"])
    body = croissant(replace(described, retries=[retry]), funnel, {})
    assert json.loads(body)["version"] == "1.1.0"
    assert str(golden.output.parent).encode() not in body
