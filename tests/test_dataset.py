"""`alignset.Dataset`: what it reads is what the run wrote."""

import hashlib
import io
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

import alignset
from tests.support.command import funnel
from tests.support.golden_run import Golden
from tests.support.small_sets import image, put_rejected, put_shard


def test_counts_are_those_of_the_funnel(golden: Golden) -> None:
    dataset = alignset.Dataset(golden.output)
    document = funnel(golden.output)
    assert len(dataset) == document["pairs"] == dataset.kept().num_rows
    assert [step.step for step in dataset.steps] == [step["step"] for step in document["steps"]]
    assert sum(dataset.dropped.values()) == dataset.rejected().num_rows
    assert dataset.dropped["evaluation_overlap"] == 1
    assert 0 not in dataset.dropped.values()
    assert str(dataset).startswith(f"{golden.output}: {len(dataset)} pairs\nstep ")
    page = dataset._repr_html_()
    cells = [re.sub("<[^>]*>", "|", row) for row in page.split("<tr>")]
    assert cells[0] == f"||{golden.output}: {len(dataset)} pairs|"
    assert [row.split("|")[1] for row in cells[2:]] == [step.step for step in dataset.steps]
    assert any(row.endswith("evaluation_overlap 1") for row in cells)
    assert "script" not in page


def test_tables_have_the_rows_of_all_files_in_their_order(golden: Golden) -> None:
    dataset = alignset.Dataset(golden.output)
    files = sorted(map(str, (golden.output / "shards").glob("*.parquet")))
    assert dataset.paths.tables == files
    assert dataset.paths.shards == [path.replace(".parquet", ".tar") for path in files]
    assert Path(dataset.paths.report).is_file()
    keys = [key for path in files for key in pq.read_table(path)["key"].to_pylist()]
    kept = dataset.kept(columns=["key", "caption"])
    assert kept.column_names == ["key", "caption"]
    assert kept["key"].to_pylist() == keys
    for read in (dataset.kept, dataset.rejected):
        with pytest.raises(alignset.UsageError, match="has no column 'misspelt'; it has key, url"):
            read(["key", "misspelt"])
    assert len(dataset.rejected(["reason"]).to_pandas().reason.unique()) == len(dataset.dropped)


def test_samples_are_the_rows_with_their_images(golden: Golden) -> None:
    dataset = alignset.Dataset(golden.output)
    rows = dataset.kept().to_pylist()
    assert [sample.key for sample in dataset] == [row["key"] for row in rows]
    for sample, row in zip(dataset.samples(), rows, strict=True):
        assert (sample.key, sample.caption) == (row["key"], row["caption"])
        assert sample.record["url"] == row["url"]
        picture = PillowImage.open(io.BytesIO(sample.image))
        assert picture.size == (row["width"], row["height"])
        if picture.format == "JPEG":
            assert hashlib.sha256(sample.image).hexdigest() == row["sha256"]


def test_of_a_run_under_way_the_finished_shards_are_here(folder: str) -> None:
    keys = put_shard(folder, 1, 3)
    put_shard(folder, 0, 4, finished=False)
    put_rejected(folder, "images-00001", [("fetch_failed", "dns")])
    dataset = alignset.Dataset(f"{folder}/")
    assert dataset.path == folder
    assert dataset.paths.shards == [f"{folder}/shards/00001.tar"]
    assert dataset.paths.tables == [f"{folder}/shards/00001.parquet"]
    assert [sample.image for sample in dataset.samples()] == [image(1, n) for n in range(3)]
    assert dataset.kept()["key"].to_pylist() == keys
    assert dataset.rejected()["detail"].to_pylist() == ["dns"]
    assert str(dataset) == f"{folder}: 1 finished shard"
    assert len(dataset) == len([*dataset]) == 3
    with pytest.raises(alignset.UsageError, match=r"has no funnel\.json"):
        _ = dataset.steps


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(alignset.UsageError, match="is not a dataset"):
        alignset.Dataset(tmp_path)
