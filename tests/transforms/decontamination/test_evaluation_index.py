"""Files of evaluation images to an index of them, which names what images are copies of."""

import os
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from alignset.transforms.decontamination import index_evaluation_images as module
from alignset.transforms.decontamination.copy_index import FILES, Nearest
from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.decontamination.evaluation_index import (
    EvaluationIndex,
    find_index,
    open_index,
    sets_of,
)
from alignset.transforms.decontamination.index_evaluation_images import (
    CompareImages,
    DescribedPart,
    NearestImage,
    describe_part,
    digested,
    index_path,
    write_index,
)
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.images.examine import Image, examine
from tests.support.hostile_tars import HOSTILE, write_tar
from tests.support.made_batches import run_in_beam
from tests.support.picture_files import encoded, photograph

BODIES = [encoded(photograph(seed), kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP"))]


def looks(count: int) -> list[Image]:
    """The first photographs as an index looks at them."""
    bodies = [encoded(photograph(number), "JPEG") for number in range(count)]
    images = [examine(body, keep_grey=True) for body in bodies]
    return [image for image in images if isinstance(image, Image)]


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
    found = index.nearest(stack_thumbnails(looks(3)[::-1]))
    assert [nearest and nearest.row for nearest in found] == [2, 1, 0]
    assert [nearest and nearest.distance for nearest in found] == [0, 0, 0]
    assert open_index(place) is index
    assert open_index("") is None
    assert sets_of("") == {}
    columns = index.columns([Nearest(2, 3.0, {}), None, Nearest(0, 0.0, {"cosine": 0.5})])
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "evaluation_set": ["some", None, "some"],
        "evaluation_image": ["2.jpg", None, "0.jpg"],
        "evaluation_distance": [3.0, None, 0.0],
        "evaluation_numbers": ["{}", None, '{"cosine": 0.5}'],
    }
    assert index.columns([])["evaluation_distance"] == pa.array([], pa.float64())


def test_an_image_is_a_copy_below_the_least_distance_alone(tmp_path: Path) -> None:
    place, other = made(tmp_path, 1), encoded(photograph(5), "PNG")
    index = open_index(place)
    assert index is not None
    near = index.nearest(stack_thumbnails([examine(other, keep_grey=True)]))[0].distance
    images = [("other", other), ("html", b"<html>")]

    def build(pipeline: beam.Pipeline) -> None:
        singleton, input_images = pipeline | "Place" >> beam.Create([place]), beam.Create(images)
        for least, is_copy in ((near, False), (near + 0.5, True)):
            found = pipeline | f"Images {least}" >> input_images
            found |= f"Compare {least}" >> CompareImages(singleton, least)
            nearest = NearestImage(is_copy, "some", "0.jpg", near)
            wanted = [("other", nearest), ("html", NearestImage(fault="not_an_image: html"))]
            assert_that(found, equal_to(wanted), label=f"{least}")

    run_in_beam(build)


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


def described(tmp_path: Path, *files: EvaluationFile) -> DescribedPart:
    return describe_part(files, str(tmp_path / "no index"), str(tmp_path))


@pytest.mark.parametrize("bytes_at_once", [0, module.BYTES_AT_ONCE])
def test_a_part_of_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_at_once: int
) -> None:
    monkeypatch.setattr(module, "BYTES_AT_ONCE", bytes_at_once)
    (tmp_path / "a.jpg").write_bytes(BODIES[0])
    many = {f"{n:03}.png": BODIES[1] for n in range(130)}  # more than are described at once
    tar = str(write_tar(tmp_path / "b.tar", many | {"2.jpg": b"<html>", "d/3.webp": BODIES[2]}))
    files = (EvaluationFile("one", str(tmp_path / "a.jpg")), EvaluationFile("two", tar))
    part = described(tmp_path, *files)
    assert part.first == files[0]
    expected = [("two", name, tar) for name in (*many, "d/3.webp")]
    assert part.rows == [("one", "", files[0].path), *expected]
    assert part.unreadable == [("two", f"{tar}/2.jpg")]
    images = [examine(body, keep_grey=True) for body in BODIES]
    thumbnails = stack_thumbnails([image for image in images if isinstance(image, Image)])
    assert Path(part.path).read_bytes() == thumbnails[[0, *[1] * 130, 2]].tobytes()
    empty = str(write_tar(tmp_path / "a.tar", {"1.jpg": b""}))
    nothing = described(tmp_path, EvaluationFile("a", empty))
    assert (nothing.rows, Path(nothing.path).read_bytes()) == ([], b"")
    assert len(nothing.unreadable) == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_counted_or_one_line(tmp_path: Path, name: str) -> None:
    tar, expected = HOSTILE[name]
    path = tmp_path / "a.tar"
    path.write_bytes(tar)
    file = EvaluationFile("a", str(path))
    if isinstance(expected, str):
        with pytest.raises(RuntimeError, match=rf"cannot read .*a\.tar to its end: .*{expected}"):
            described(tmp_path, file)
    else:
        images = sum(member[0].endswith(".jpg") for member in expected)
        part = described(tmp_path, file)
        assert (part.rows, len(part.unreadable)) == ([], images)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_a_damaged_table_is_one_line(tmp_path: Path, at: float) -> None:
    path = tmp_path / "a.parquet"
    checked = {"write_page_checksum": True, "use_dictionary": False}
    pq.write_table(pa.table({"image": BODIES * 9}), path, **checked)
    data = bytearray(path.read_bytes())
    for place in range(int(at * (len(data) - 64)), int(at * (len(data) - 64)) + 64):
        data[place] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"cannot read .*a\.parquet to its end: "):
        described(tmp_path, EvaluationFile("a", str(path)))
