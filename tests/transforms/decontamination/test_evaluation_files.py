import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.decontamination import evaluation_files as files
from alignset.transforms.decontamination.evaluation_files import (
    find_images,
    named_images,
    parts_of,
    set_folders,
)
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from tests.support.hostile_tars import write_tar
from tests.support.picture_files import encoded, photograph

NO_IMAGES = (".txt", ".json")
BODIES = [encoded(photograph(seed), kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP"))]


@pytest.mark.parametrize("column", ["image", "jpg", "png", "webp", "bytes"])
def test_a_column_of_images(tmp_path: Path, column: str) -> None:
    path, bodies = str(tmp_path / "a.parquet"), [*BODIES, None]
    structs = [{"bytes": of, "path": p} for of, p in zip(bodies, (None, "", "c", "d"), strict=True)]
    for images, names in ((bodies, ["0", "1", "2", "3"]), (structs, ["0", "1", "c", "d"])):
        pq.write_table(pa.table({"label": [1, 2, 3, 4], column: images}), path)
        assert list(named_images(path)) == list(zip(names, [*BODIES, b""], strict=True))


def test_files_and_tars_of_images(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(BODIES[0])
    assert list(named_images(str(tmp_path / "a.jpg"))) == [("", BODIES[0])]
    members = {"1.jpg": BODIES[0], "1.txt": b"a dog", "1.json": b"{}", "d/2.PNG": BODIES[1]}
    others = {"3.jpg": b"<html>", "5.tif": b"II*\0", "6.JFIF": BODIES[0]}  # all are counted
    images = {name: body for name, body in (members | others).items() if name[1:] not in NO_IMAGES}
    assert dict(named_images(str(write_tar(tmp_path / "a.tar", members | others)))) == images


@pytest.mark.parametrize("name", ["a.tar", "a.jpg", "a.parquet"])
def test_images_of_too_many_bytes_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", len(BODIES[0]))
    path = tmp_path / name
    for more, expected in ((b"", BODIES[0]), (b"\0", b"")):
        if name == "a.tar":
            write_tar(path, {"1.jpg": BODIES[0] + more})
        elif name == "a.jpg":
            path.write_bytes(BODIES[0] + more)
        else:
            pq.write_table(pa.table({"image": [BODIES[0] + more]}), path)
        assert [image.body for image in named_images(str(path))] == [expected]


def test_links_have_no_bytes_and_names_may_be_any(tmp_path: Path) -> None:
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
    images = list(named_images(str(path)))
    assert [image.body for image in images] == [BODIES[0]] * 3 + [b"", b""]
    assert images[0].name == r"caf\xe9.jpg"
    assert find_images(str(path), [images[0].name]) == {images[0].name: BODIES[0]}
    paths = pa.array([b"\xff", b"ok", None]).view(pa.string())
    struct = pa.StructArray.from_arrays([pa.array([BODIES[0]] * 3), paths], ["bytes", "path"])
    pq.write_table(pa.table({"image": struct}), tmp_path / "a.parquet")
    assert [of.name for of in named_images(f"{tmp_path}/a.parquet")] == [r"\xff", "ok", "2"]


@pytest.mark.parametrize(
    "images",
    [["a.jpg"], [1], [[b"x"]], [{"path": "a.jpg"}], [{"bytes": "a"}], [{"bytes": {"a": b"x"}}]],
)
def test_a_column_that_holds_no_bytes_is_none(tmp_path: Path, images: list) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": images, "picture": [BODIES[0]]}), path)
    with pytest.raises(ValueError, match=r"has no column image.*it has image, picture"):
        list(named_images(path))


def test_a_large_image_in_a_dictionary_is_held_once(tmp_path: Path) -> None:
    """64 rows of one value were 64 times its bytes."""
    path = str(tmp_path / "a.parquet")
    large = pa.array([bytes(1 << 22)], pa.binary())
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 640, pa.int32()), large)
    plain = {"dictionary_pagesize_limit": 1 << 30, "store_schema": False}
    pq.write_table(pa.table({"image": rows}), path, **plain)
    before = pa.total_allocated_bytes()
    most = 0
    for _, body in named_images(path):
        most = max(most, pa.total_allocated_bytes() - before)
        assert len(body) == 1 << 22
    assert most < 32 << 20


def test_a_tar_is_a_part_of_its_own_and_images_come_many_at_once() -> None:
    images = [EvaluationFile("b", f"/b/{number:03}.jpg") for number in range(300)]
    others = [EvaluationFile("a", "/a/2.tar"), EvaluationFile("c", "/c/1.parquet")]
    parts = parts_of([*images, *others][::-1])
    assert [len(part) for part in parts] == [1, 256, 44, 1]
    assert [file for part in parts for file in part] == [others[0], *images, others[1]]
    assert parts_of([]) == []


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
