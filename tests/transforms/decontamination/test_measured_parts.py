from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.decontamination.measured_parts import (
    MeasuredPart,
    by_set,
    measure_part,
    read_features,
)
from alignset.transforms.decontamination.overlap_settings import EvaluationFile, EvaluationSet
from alignset.transforms.decontamination.perceptual_overlap import PerceptualMeasure
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.workers.fencing import Fence
from tests.support.hostile_tars import HOSTILE
from tests.support.picture_files import encoded, photograph
from tests.support.tar_files import tar_of

BODIES = [encoded(photograph(seed), kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP"))]
MEASURE = PerceptualMeasure()


def phash(body: bytes) -> int:
    image = examine(body, in_full=True)
    assert isinstance(image, Image)
    return image.phash


PHASHES = [phash(body) for body in BODIES]


def measured(tmp_path: Path, *files: EvaluationFile) -> MeasuredPart:
    fence = Fence(str(tmp_path / "start"), "start")
    return measure_part(files, str(tmp_path / "no index"), MEASURE, str(tmp_path / "work"), fence)


def hashes(part: MeasuredPart) -> list[int]:
    return [int(phash) for rows in read_features(part, MEASURE) for phash in rows]


def test_a_part_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(BODIES[0])
    members = {"1.png": BODIES[1], "2.jpg": b"<html>", "d/3.webp": BODIES[2]}
    tar = tar_of(tmp_path / "b.tar", members)
    files = (EvaluationFile("one", str(tmp_path / "a.jpg")), EvaluationFile("two", tar))
    part = measured(tmp_path, *files)
    assert part.first == files[0]
    assert part.rows == [
        ("one", "", files[0].path),
        ("two", "1.png", tar),
        ("two", "d/3.webp", tar),
    ]
    assert part.unreadable == [("two", f"{tar}/2.jpg")]
    assert hashes(part) == PHASHES
    assert by_set([part]) == {"one": EvaluationSet(1, 0), "two": EvaluationSet(2, 1)}


def test_more_images_than_are_read_at_once(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", {f"{n:04}.png": BODIES[1] for n in range(130)})
    part = measured(tmp_path, EvaluationFile("a", tar))
    assert hashes(part) == [PHASHES[1]] * 130
    assert [name for _, name, _ in part.rows] == [f"{n:04}.png" for n in range(130)]


def test_a_part_without_images_has_no_features(tmp_path: Path) -> None:
    part = measured(tmp_path, EvaluationFile("a", tar_of(tmp_path / "a.tar", {"1.jpg": b""})))
    assert (part.rows, list(read_features(part, MEASURE))) == ([], [])
    assert by_set([part]) == {"a": EvaluationSet(0, 1)}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_counted_or_one_line(tmp_path: Path, name: str) -> None:
    tar, expected = HOSTILE[name]
    path = tmp_path / "a.tar"
    path.write_bytes(tar)
    file = EvaluationFile("a", str(path))
    if isinstance(expected, str):
        with pytest.raises(RuntimeError, match=rf"cannot read .*a\.tar to its end: .*{expected}"):
            measured(tmp_path, file)
    else:
        images = sum(member[0].endswith(".jpg") for member in expected)
        assert by_set([measured(tmp_path, file)]) == (
            {"a": EvaluationSet(0, images)} if images else {}
        )


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
        measured(tmp_path, EvaluationFile("a", str(path)))


def test_large_images_are_measured_few_at_once_and_features_read_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignset.transforms.decontamination.measured_parts.BYTES_AT_ONCE", 0)
    tar = tar_of(tmp_path / "a.tar", {f"{n}.png": BODIES[n] for n in range(3)})
    assert hashes(measured(tmp_path, EvaluationFile("a", tar))) == PHASHES
    path = tmp_path / "a.rows"
    path.write_bytes(np.arange(2500, dtype="<u8").tobytes())
    part = MeasuredPart(EvaluationFile("a", "a"), str(path), [("a", "", "a")] * 2500, [])
    read = list(read_features(part, MEASURE))
    assert [len(rows) for rows in read] == [1024, 1024, 452]
    assert np.concatenate(read).tolist() == list(range(2500))
