import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.decontamination.evaluation_index import (
    DigestedFile,
    EvaluationIndex,
    digested,
    find_index,
    index_path,
    open_index,
    set_folders,
    sets_of,
)
from alignset.transforms.decontamination.index_evaluation_images import write_index
from alignset.transforms.decontamination.measured_parts import measure_part
from alignset.transforms.decontamination.overlap_measure import Nearest
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.decontamination.perceptual_overlap import PerceptualMeasure
from alignset.transforms.workers.fencing import Fence
from tests.support.picture_files import encoded, photograph

MEASURE = PerceptualMeasure()
FENCE = Fence("start", "start")


def names_of(index: EvaluationIndex, rows: list[int | None]) -> list[tuple[str, str]]:
    return [(row["set"], row["name"]) for row in index.names(rows).to_pylist()]


def made(folder: Path, count: int = 3) -> str:
    files = []
    for number in range(count):
        path = folder / "photographs" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(photograph(number), "JPEG"))
        files.append(EvaluationFile("some", str(path)))
    place = str(folder / "index")
    parts = [measure_part(tuple(files), place, MEASURE, str(folder / "work"), FENCE)]
    assert write_index(place, MEASURE, parts) == place
    return place


def test_an_index_names_its_images(tmp_path: Path) -> None:
    place = made(tmp_path)
    index = open_index(place, MEASURE)
    assert index is not None
    assert names_of(index, [0, 1, 2, None]) == [
        *(("some", f"{n}.jpg") for n in range(3)),
        (None, None),
    ]
    hashes = np.fromfile(f"{place}/phashes.u64", "<u8")
    assert [nearest and nearest.row for nearest in index.nearest(hashes[::-1])] == [2, 1, 0]
    assert open_index(place, MEASURE) is index
    assert open_index("", MEASURE) is None


def test_an_index_whose_files_are_not_whole_is_none(tmp_path: Path) -> None:
    place = made(tmp_path)
    description = find_index(place)
    assert description is not None
    assert set(description.sizes) == {"images.parquet", "phashes.u64"}
    os.truncate(f"{place}/phashes.u64", 16)
    assert find_index(place) is None
    os.remove(f"{place}/phashes.u64")
    assert find_index(place) is None
    for text in ("{}", "{", ""):
        (tmp_path / "description.json").write_text(text)
        assert find_index(str(tmp_path)) is None


def test_its_name_is_of_contents_and_settings_wherever_they_lie(tmp_path: Path) -> None:
    names = {}
    for folder, body in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        for name in ("x.jpg", "y.jpg"):
            (tmp_path / folder / name).write_bytes(body)
        files = [EvaluationFile("s", str(tmp_path / folder / name)) for name in ("x.jpg", "y.jpg")]
        names[folder] = index_path("in", MEASURE, digested(files))
        assert index_path("in", MEASURE, digested(files[::-1])) == names[folder]
    assert names["a"] == names["b"] != names["c"]
    assert names["a"].startswith("in/phash-")

    file = DigestedFile("s", "/a/x.jpg", "0")
    one = index_path("in", MEASURE, [file])
    assert index_path("in", MEASURE, [file._replace(name="t")]) != one
    assert index_path("in", MEASURE, [file._replace(path="/b/y.jpg")]) != one
    assert index_path("in", MEASURE, [file._replace(path="/b/x.jpg")]) == one


@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        (["/a/b/1.jpg"], "/a/b/"),
        (["/a/b/1.jpg", "/a/c/2.jpg"], "/a/"),
        (["/a/b/1.jpg", "/a/bc/2.jpg"], "/a/"),
        (["s3://x/1.tar", "s3://x/2.tar"], "s3://x/"),
        (["/1.jpg", "/a/2.jpg"], "/"),
    ],
)
def test_the_folder_of_a_set(paths: list[str], folder: str) -> None:
    files = [("s", path) for path in paths] + [("other", "/z/1.jpg")]
    assert set_folders(files) == {"s": folder, "other": "/z/"}


def test_the_sets_of_an_index(tmp_path: Path) -> None:
    assert [(name, of.images) for name, of in sets_of(made(tmp_path)).items()] == [("some", 3)]
    assert sets_of("") == {}


def test_an_index_that_goes_away_while_parts_are_measured_is_not_made_without_them(
    tmp_path: Path,
) -> None:
    place = made(tmp_path)
    file = EvaluationFile("some", str(tmp_path / "photographs" / "0.jpg"))
    part = measure_part(
        (file,), place, MEASURE, str(tmp_path / "work"), FENCE
    )  # nothing: it is there
    os.remove(f"{place}/description.json")
    with pytest.raises(RuntimeError, match="went away while it was in use: start again"):
        write_index(place, MEASURE, [part])
    assert find_index(place) is None


def test_columns_name_the_nearest_image(tmp_path: Path) -> None:
    index = open_index(made(tmp_path), MEASURE)
    assert index is not None
    columns = index.columns([Nearest(2, 3.0, {}), None, Nearest(0, 0.0, {"cosine": 0.5})])
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "evaluation_set": ["some", None, "some"],
        "evaluation_image": ["2.jpg", None, "0.jpg"],
        "evaluation_measure": ["phash", None, "phash"],
        "evaluation_distance": [3.0, None, 0.0],
        "evaluation_numbers": [None, None, '{"cosine": 0.5}'],
    }
    assert index.columns([])["evaluation_distance"] == pa.array([], pa.float64())
