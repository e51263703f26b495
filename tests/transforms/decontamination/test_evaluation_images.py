import io
import tarfile
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hostile_tars import END, HOSTILE, header, padded
from tests.support.made_batches import run_in_beam
from tests.support.picture_files import encoded, photograph
from transforms.decontamination import evaluation_images as evaluation
from transforms.decontamination.evaluation_images import (
    EvaluationFile,
    EvaluationSet,
    HashEvaluationImages,
    evaluation_distances,
    evaluation_reasons,
    hash_evaluation_file,
    open_evaluation_hashes,
    write_evaluation_hashes,
)
from transforms.images.examine import Image, examine

BODIES = [encoded(photograph(seed), kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP"))]
hashes = st.integers(0, 2**64 - 1)


def phash(body: bytes) -> int:
    image = examine(body, in_full=True)
    assert isinstance(image, Image)
    return image.phash


PHASHES = [phash(body) for body in BODIES]


def tar_of(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as tar:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return str(path)


def test_a_file_that_is_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(BODIES[0])
    hashed = hash_evaluation_file(EvaluationFile("flickr", str(path)))
    assert hashed == ("flickr", PHASHES[:1], 0)


def test_a_tar_of_images(tmp_path: Path, caplog) -> None:
    members = {"1.jpg": BODIES[0], "1.txt": b"a dog", "1.json": b"{}", "d/2.PNG": BODIES[1]}
    path = tar_of(tmp_path / "a.tar", members | {"3.jpg": b"<html>", "4.webp": BODIES[2]})
    hashed = hash_evaluation_file(EvaluationFile("coco", path))
    assert hashed == ("coco", PHASHES, 1)
    assert "1 evaluation images cannot be decoded" in caplog.text


@pytest.mark.parametrize("name", ["image", "jpg", "png", "webp", "bytes"])
@pytest.mark.parametrize("in_struct", [False, True])
def test_a_column_of_images(tmp_path: Path, name: str, in_struct: bool) -> None:
    rows = [*BODIES, None]
    images = [{"bytes": body, "path": "x"} for body in rows] if in_struct else rows
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"label": [1, 2, 3, 4], name: images}), path)
    assert hash_evaluation_file(EvaluationFile("a", path)) == ("a", PHASHES, 1)


def test_a_table_without_images_says_what_it_has(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"picture": BODIES, "label": [1, 2, 3]}), path)
    with pytest.raises(ValueError, match=r"no column image.*picture, label"):
        hash_evaluation_file(EvaluationFile("a", path))


@pytest.mark.parametrize("name", ["a.tar", "a.jpg", "a.parquet"])
def test_images_of_too_many_bytes_are_counted_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(evaluation, "MAX_BYTES", len(BODIES[0]))
    path = tmp_path / name
    for more, expected in ((b"", (PHASHES[:1], 0)), (b"\0", ([], 1))):
        if name == "a.tar":
            tar_of(path, {"1.jpg": BODIES[0] + more})
        elif name == "a.jpg":
            path.write_bytes(BODIES[0] + more)
        else:
            pq.write_table(pa.table({"image": [BODIES[0] + more]}), path)
        assert hash_evaluation_file(EvaluationFile("a", str(path))) == ("a", *expected)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_counted_or_one_line(tmp_path: Path, name: str) -> None:
    tar, expected = HOSTILE[name]
    path = tmp_path / "a.tar"
    path.write_bytes(tar)
    if isinstance(expected, str):
        with pytest.raises(RuntimeError, match=rf"cannot read .*a\.tar to its end: .*{expected}"):
            hash_evaluation_file(EvaluationFile("a", str(path)))
    else:
        images = sum(member[0].endswith(".jpg") for member in expected)
        assert hash_evaluation_file(EvaluationFile("a", str(path))) == ("a", [], images)


def test_links_are_counted_and_names_may_be_any(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", errors="surrogateescape") as tar:
        for name in ("caf\udce9.jpg", "\u202e.png", "a" * 300 + ".JPG"):
            member = tarfile.TarInfo(name)
            member.size = len(BODIES[0])
            tar.addfile(member, io.BytesIO(BODIES[0]))
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "\u202e.png")):
            member = tarfile.TarInfo("link.jpg")
            member.type, member.linkname = kind, target
            tar.addfile(member)
    hashed = hash_evaluation_file(EvaluationFile("a", str(path)))
    assert hashed == ("a", PHASHES[:1] * 3, 2)


def test_many_tiny_members(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes((header(b"a.jpg", 1) + padded(b"\xff")) * 20_000 + END)
    assert hash_evaluation_file(EvaluationFile("a", str(path))) == ("a", [], 20_000)


@pytest.mark.parametrize(
    "images",
    [["a.jpg"], [1], [[b"x"]], [{"path": "a.jpg"}], [{"bytes": "a"}], [{"bytes": {"a": b"x"}}]],
)
def test_a_column_that_holds_no_bytes_is_none(tmp_path: Path, images: list) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": images}), path)
    with pytest.raises(ValueError, match="has no column image"):
        hash_evaluation_file(EvaluationFile("a", path))


def test_a_large_image_in_a_dictionary_is_held_once(tmp_path: Path) -> None:
    """64 rows of one value were 64 times its bytes."""
    path = str(tmp_path / "a.parquet")
    large = pa.array([bytes(1 << 22)], pa.binary())
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 640, pa.int32()), large)
    plain = {"dictionary_pagesize_limit": 1 << 30, "store_schema": False}
    pq.write_table(pa.table({"image": rows}), path, **plain)
    before = pa.total_allocated_bytes()
    most = 0
    for body in evaluation.image_bodies(path):
        most = max(most, pa.total_allocated_bytes() - before)
        assert len(body) == 1 << 22
    assert most < 32 << 20


@pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_a_damaged_table_is_one_line(tmp_path: Path, at: float) -> None:
    path = tmp_path / "a.parquet"
    checked = {"write_page_checksum": True, "use_dictionary": False}
    pq.write_table(pa.table({"image": BODIES * 9}), path, **checked)
    data = bytearray(path.read_bytes())
    for place in range(int(at * (len(data) - 64)), int(at * (len(data) - 64)) + 64):
        data[place] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"cannot read .*a\.parquet to its end: "):
        hash_evaluation_file(EvaluationFile("a", str(path)))


def test_hash_evaluation_images_in_beam(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(BODIES[1])
    files = [
        EvaluationFile("one", str(path)),
        EvaluationFile("two", tar_of(tmp_path / "b.tar", {"1.jpg": BODIES[0], "2.webp": b""})),
    ]

    def build(pipeline: beam.Pipeline) -> None:
        hashed = pipeline | beam.Create(files) | HashEvaluationImages(str(tmp_path / "work"))
        sets = {"one": EvaluationSet(1, 0), "two": EvaluationSet(1, 1)}
        assert_that(hashed["sets"], equal_to([sets]), label="sets")
        read = hashed["path"] | beam.Map(lambda path: open_evaluation_hashes(path).tolist())
        assert_that(read, equal_to([sorted(PHASHES[:2])]), label="hashes")

    run_in_beam(build)


def test_no_evaluation_images_are_no_file(tmp_path: Path) -> None:
    assert write_evaluation_hashes([], str(tmp_path)) == ""
    assert open_evaluation_hashes("").tolist() == []


@given(st.lists(hashes), st.lists(hashes))
def test_distances_equal_the_nearest_by_hand(phashes: list[int], evaluation: list[int]) -> None:
    distances = evaluation_distances(np.array(phashes, np.uint64), np.array(evaluation, np.uint64))
    assert distances.tolist() == [
        min([(phash ^ other).bit_count() for other in evaluation], default=64) for phash in phashes
    ]


@pytest.mark.parametrize(
    ("distance", "min_distance", "reason"),
    [
        (5, 6, "evaluation_overlap"),
        (6, 6, None),
        (0, 0, None),
        (0, 1, "evaluation_overlap"),
        (63, 64, "evaluation_overlap"),
        (64, 64, None),
        (None, 64, None),
    ],
)
def test_each_side_of_the_limit(
    distance: int | None, min_distance: int, reason: str | None
) -> None:
    distances = pa.array([64, distance], pa.int32())
    reasons = evaluation_reasons(distances, min_distance=min_distance)
    assert reasons.type == pa.string()
    assert reasons.to_pylist() == [None, reason]
    assert evaluation_reasons(distances[2:], min_distance=6).to_pylist() == []
