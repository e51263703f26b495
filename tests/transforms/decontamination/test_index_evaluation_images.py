import json
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from alignset.transforms.decontamination import index_evaluation_images as module
from alignset.transforms.decontamination.copy_planes import image_planes
from alignset.transforms.decontamination.evaluation_files import parts_of
from alignset.transforms.decontamination.evaluation_index import open_index
from alignset.transforms.decontamination.index_evaluation_images import (
    DescribedPart,
    IndexEvaluationImages,
    describe_part,
    digested,
    read_planes,
)
from alignset.transforms.decontamination.overlap_settings import EvaluationFile, EvaluationSet
from alignset.transforms.images.examine import Image, examine
from tests.support.hostile_tars import HOSTILE
from tests.support.made_batches import run_in_beam
from tests.support.picture_files import encoded, photograph
from tests.support.tar_files import tar_of
from tests.transforms.decontamination.test_evaluation_index import names_of

BODIES = [encoded(photograph(seed), kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP"))]
LOOKS = [examine(body, keep_grey=True) for body in BODIES]
PLANES = image_planes([look for look in LOOKS if isinstance(look, Image)])


def indexed(files: list[EvaluationFile], folder: Path) -> tuple[Path | None, dict]:
    """The place of the index that Beam makes of some files in a folder, and its sets."""
    got: dict[str, list] = {"place": [], "sets": []}

    def build(pipeline: beam.Pipeline) -> None:
        transform = IndexEvaluationImages(str(folder / "in"), str(folder))
        for name, output in (pipeline | beam.Create(parts_of(files)) | transform).items():
            written = folder / f"{name}.json"
            encoded = output | f"Encode {name}" >> beam.Map(_plain)
            encoded | f"Write {name}" >> beam.Map(written.write_text)
            assert_that(
                encoded | f"Count {name}" >> beam.combiners.Count.Globally(),
                equal_to([1]),
                label=name,
            )

    run_in_beam(build)
    got = {name: json.loads((folder / f"{name}.json").read_text()) for name in got}
    sets = {name: EvaluationSet(**counts) for name, counts in got["sets"].items()}
    return Path(got["place"]) if got["place"] else None, sets


def _plain(value: object) -> str:
    return json.dumps(value, default=vars)


def test_files_to_an_index(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(BODIES[1])
    tar = tar_of(tmp_path / "b.tar", {"1.jpg": BODIES[0], "2.webp": b""})
    files = [EvaluationFile("two", tar), EvaluationFile("one", str(tmp_path / "a.png"))]
    place, sets = indexed(files, tmp_path)
    assert place is not None
    assert place.parent == tmp_path / "in"
    assert sets == {"one": EvaluationSet(1, 0), "two": EvaluationSet(1, 1)}
    index = open_index(str(place))
    assert index is not None
    assert names_of(index, [0, 1]) == [("one", "a.png"), ("two", "b.tar/1.jpg")]


def test_an_index_is_made_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.png").write_bytes(BODIES[1])
    (tmp_path / "b.png").write_bytes(b"")
    files = [EvaluationFile("one", str(tmp_path / name)) for name in ("a.png", "b.png")]
    place, sets = indexed(files, tmp_path)
    assert place is not None
    made = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    caplog.clear()
    assert indexed(files, tmp_path) == (place, sets)
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == made
    assert "1 of the evaluation images cannot be decoded" in caplog.text
    assert "b.png …" not in caplog.text  # there are no more

    (place / "planes.u8").write_bytes(b"")  # as a killed run may have left it
    assert indexed(files, tmp_path) == (place, sets)
    assert (place / "planes.u8").stat().st_size == 64 * 64


def test_a_set_of_which_nothing_can_be_decoded_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(BODIES[1])
    files = [EvaluationFile(of, str(tmp_path / f"{of}.png")) for of in ("a", "b")]
    with pytest.raises(Exception, match="none of the 1 of a can be decoded"):
        indexed(files, tmp_path)
    assert not list(tmp_path.glob("in/*/description.json"))


def described(tmp_path: Path, *files: EvaluationFile) -> DescribedPart:
    return describe_part(files, str(tmp_path / "no index"), str(tmp_path))


def shown(part: DescribedPart) -> list[int]:
    """Which of BODIES each row of a part's thumbnails is of."""
    rows = [row for planes in read_planes(part) for row in planes]
    return [next(n for n, own in enumerate(PLANES) if (own == row).all()) for row in rows]


def test_a_part_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(BODIES[0])
    members = {"1.png": BODIES[1], "2.jpg": b"<html>", "d/3.webp": BODIES[2]}
    tar = tar_of(tmp_path / "b.tar", members)
    files = (EvaluationFile("one", str(tmp_path / "a.jpg")), EvaluationFile("two", tar))
    part = described(tmp_path, *files)
    assert part.first == files[0]
    assert part.rows == [
        ("one", "", files[0].path),
        ("two", "1.png", tar),
        ("two", "d/3.webp", tar),
    ]
    assert part.unreadable == [("two", f"{tar}/2.jpg")]
    assert shown(part) == [0, 1, 2]


def test_more_images_than_are_read_at_once(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", {f"{n:04}.png": BODIES[1] for n in range(130)})
    part = described(tmp_path, EvaluationFile("a", tar))
    assert shown(part) == [1] * 130
    assert [name for _, name, _ in part.rows] == [f"{n:04}.png" for n in range(130)]


def test_a_part_without_images_has_no_planes(tmp_path: Path) -> None:
    part = described(tmp_path, EvaluationFile("a", tar_of(tmp_path / "a.tar", {"1.jpg": b""})))
    assert (part.rows, list(read_planes(part))) == ([], [])
    assert len(part.unreadable) == 1


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


def test_large_images_are_described_few_at_once_and_read_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BYTES_AT_ONCE", 0)
    monkeypatch.setattr(module, "READ_AT_ONCE", 2)
    tar = tar_of(tmp_path / "a.tar", {f"{n}.png": BODIES[n] for n in range(3)})
    part = described(tmp_path, EvaluationFile("a", tar))
    assert shown(part) == [0, 1, 2]
    assert [len(planes) for planes in read_planes(part)] == [2, 1]


def test_a_digest_is_of_the_bytes_alone(tmp_path: Path) -> None:
    bodies = {"a.jpg": BODIES[0], "b.jpg": BODIES[0], "c.jpg": BODIES[1], "d.jpg": b""}
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    a, b, c, d = (
        digest for _, _, digest in digested(EvaluationFile("x", f"{tmp_path}/{n}") for n in bodies)
    )
    assert a == b
    assert len({a, c, d}) == 3
