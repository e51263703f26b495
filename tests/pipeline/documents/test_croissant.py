"""The Croissant file: mlcroissant validates it, and loads by it what the dataset holds."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.pipeline.documents.croissant import TO_BE_FILLED, croissant
from alignset.pipeline.runs.documents import Funnel, Manifest
from alignset.transforms.storage.documents import read_document
from tests.support.command import DOCUMENTS, funnel, manifest, samples
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
    assert metadata.ctx.is_v1_1()
    assert metadata.license == [TO_BE_FILLED]
    assert metadata.version == "1.0.0"
    assert any(str(line).startswith("fetch: ") for line in metadata.data_preprocessing_protocol)


def test_records_are_those_of_the_files(golden: Golden, records: Reader):
    tables = [pq.read_table(path) for path in sorted(golden.output.glob("shards/*.parquet"))]
    rows = pa.concat_tables(tables).to_pylist()
    loaded = records(golden.output, "train")
    assert len(loaded) == len(rows) == manifest(golden.output)["pairs"]
    for name in ("key", "url", "caption", "sha256"):
        assert [row[name].decode() for row in loaded] == [row[name] for row in rows]
    assert [row["width"] for row in loaded] == [row["width"] for row in rows]
    stored = samples(golden.output)
    loaded = records(golden.output, "train_images")
    assert {row["key"].decode() for row in loaded} == stored.keys()
    for row in loaded:
        with Image.open(io.BytesIO(stored[row["key"].decode()]["jpg"])) as image:
            assert row["image"].size == image.size
            assert row["image"].tobytes() == image.tobytes()
    dropped = [row["reason"].decode() for row in records(golden.output, "rejected")]
    steps = documents(golden.output)[1].steps
    counts = {reason: n for step in steps for reason, n in step.dropped.items() if n}
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


def test_licences_are_fields_of_each_record(golden: Golden):
    described, funnel = documents(golden.output)
    columns = {"LICENSE": "string", "terms": "string", "uid": "string"}
    texts = replace(described, job=described.job | {"text_only": True}, shards={})
    stated = {}
    for page in (
        croissant(replace(described, columns=columns), funnel, {}),
        croissant(replace(texts, columns=columns), funnel, {}, ["page_license"]),
    ):
        first = json.loads(page)["recordSet"][0]
        assert first["dataType"] == "sc:ImageObject"
        stated |= {field["name"]: field.get("equivalentProperty") for field in first["field"]}
    assert {name: of for name, of in stated.items() if of} == {
        **dict.fromkeys(["page_license", "page_rsl", "web_statement", "LICENSE"], "sc:license"),
        **dict.fromkeys(["usage_terms", "terms"], "sc:usageInfo"),
    }


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


@pytest.mark.slow
def test_the_lines_that_the_card_prints_work_in_the_folder(plain: Golden, tmp_path: Path):
    """Each by itself, and they all see each pair."""
    text = (plain.output / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 4
    counts = "len(pairs), len(frame), len(table), len([*described.records('train')])"
    by_the_card_alone = "datasets.load_dataset(os.getcwd())"
    script = "\n".join([*blocks, f"print({counts}, pairs.features)", f"print({by_the_card_alone})"])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=plain.output,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    count = funnel(plain.output)["pairs"]
    assert f"\n{count} {count} {count} {count} {{'jpg': Image(" in done.stdout
    assert re.search(
        rf"DatasetDict\({{\s+train: Dataset\({{\s+features: .*\s+num_rows: {count}\n", done.stdout
    )
    assert "'page_url': Value('string')" in done.stdout  # though each is null here
    beside = {name for name in DOCUMENTS if "/" not in name}
    assert {*os.listdir(plain.output)} == beside | {
        *("_generated", "evidence", "images", "rejected", "shards")
    }
