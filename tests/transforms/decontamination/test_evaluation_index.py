import os
from pathlib import Path

import pyarrow as pa
import pytest

from alignset.transforms.decontamination.copy_index import Nearest
from alignset.transforms.decontamination.copy_index_files import FILES
from alignset.transforms.decontamination.copy_planes import image_planes
from alignset.transforms.decontamination.evaluation_index import (
    EvaluationIndex,
    find_index,
    open_index,
    sets_of,
)
from alignset.transforms.decontamination.index_evaluation_images import (
    describe_part,
    digested,
    index_path,
    write_index,
)
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.images.examine import Image, examine
from tests.support.picture_files import encoded, photograph


def names_of(index: EvaluationIndex, rows: list[int | None]) -> list[tuple[str, str]]:
    return [(row["set"], row["name"]) for row in index.names(rows).to_pylist()]


def looks(count: int) -> list[Image]:
    """The first photographs as an index looks at them."""
    bodies = [encoded(photograph(number), "JPEG") for number in range(count)]
    images = [examine(body, keep_grey=True) for body in bodies]
    return [image for image in images if isinstance(image, Image)]


def made(folder: Path, count: int = 3) -> str:
    files = []
    for number in range(count):
        path = folder / "photographs" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(photograph(number), "JPEG"))
        files.append(EvaluationFile("some", str(path)))
    place = str(folder / "index")
    parts = [describe_part(tuple(files), place, str(folder))]
    assert write_index(place, parts) == place
    return place


def test_an_index_names_its_images(tmp_path: Path) -> None:
    place = made(tmp_path)
    index = open_index(place)
    assert index is not None
    assert names_of(index, [0, 1, 2, None]) == [
        *(("some", f"{n}.jpg") for n in range(3)),
        (None, None),
    ]
    found = index.nearest(image_planes(looks(3)[::-1]))
    assert [nearest and nearest.row for nearest in found] == [2, 1, 0]
    assert open_index(place) is index
    assert open_index("") is None


def test_an_index_whose_files_are_not_whole_is_none(tmp_path: Path) -> None:
    place = made(tmp_path)
    description = find_index(place)
    assert description is not None
    assert set(description.sizes) == {"images.parquet", *FILES}
    os.truncate(f"{place}/planes.u8", 16)
    assert find_index(place) is None
    os.remove(f"{place}/planes.u8")
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
        names[folder] = index_path("in", digested(files))
        assert index_path("in", digested(files[::-1])) == names[folder]
    assert names["a"] == names["b"] != names["c"]
    assert names["a"].startswith("in/copy-")

    one = index_path("in", [("s", "/a/x.jpg", "0")])
    assert index_path("in", [("t", "/a/x.jpg", "0")]) != one
    assert index_path("in", [("s", "/b/y.jpg", "0")]) != one
    assert index_path("in", [("s", "/b/x.jpg", "0")]) == one


def test_the_sets_of_an_index(tmp_path: Path) -> None:
    assert [(name, of.images) for name, of in sets_of(made(tmp_path)).items()] == [("some", 3)]
    assert sets_of("") == {}


def test_an_index_that_goes_away_while_parts_are_measured_is_not_made_without_them(
    tmp_path: Path,
) -> None:
    place = made(tmp_path)
    file = EvaluationFile("some", str(tmp_path / "photographs" / "0.jpg"))
    part = describe_part((file,), place, str(tmp_path))  # nothing: it is there
    os.remove(f"{place}/description.json")
    with pytest.raises(RuntimeError, match="went away while it was in use: start again"):
        write_index(place, [part])
    assert find_index(place) is None


def test_columns_name_the_nearest_image(tmp_path: Path) -> None:
    index = open_index(made(tmp_path))
    assert index is not None
    columns = index.columns([Nearest(2, 3.0, {}), None, Nearest(0, 0.0, {"cosine": 0.5})])
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "evaluation_set": ["some", None, "some"],
        "evaluation_image": ["2.jpg", None, "0.jpg"],
        "evaluation_distance": [3.0, None, 0.0],
        "evaluation_numbers": ["{}", None, '{"cosine": 0.5}'],
    }
    assert index.columns([])["evaluation_distance"] == pa.array([], pa.float64())
