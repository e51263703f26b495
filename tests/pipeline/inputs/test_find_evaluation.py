"""Which evaluation images, or which index of them, a command names; and those it cannot use."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_evaluation import (
    Evaluation,
    check_index_folder,
    find_evaluation,
    find_evaluation_files,
    index_folder,
)
from tests.support.golden import evaluation_image
from tests.transforms.decontamination.test_evaluation_index import made


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("exam", "NAME=PATH"),
        ("=there", "NAME=PATH"),
        ("exam=", "NAME=PATH"),
        ("exam=nowhere", r"no evaluation images at 'nowhere' \(exam\)"),
        ("exam={here},exam={here}", "eval_images names exam twice"),
        ("exam={here}/empty", r"no evaluation images at '.*/empty' \(exam\)"),
    ],
)
def test_images_that_cannot_be_had(tmp_path: Path, flag: str, says: str) -> None:
    (tmp_path / "a.png").write_bytes(evaluation_image())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=says):
        find_evaluation(flag.replace("{here}", str(tmp_path)), "")


def test_evaluation_sets_are_found_by_name(tmp_path: Path) -> None:
    for name in ("one/a.png", "one/deep/b.JPG", "one/e.tiff", "one/f.jfif", "two/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(evaluation_image())
    (tmp_path / "one" / "labels.txt").write_text("no image")
    files = find_evaluation_files(f"x={tmp_path}/one,y={tmp_path}/two/*.png")
    assert [(file.name, Path(file.path).name) for file in files] == [
        ("x", "a.png"),
        ("x", "b.JPG"),
        ("x", "e.tiff"),  # cannot be read, which is told
        ("x", "f.jfif"),
        ("y", "c.png"),
    ]


def test_an_index_is_used_as_it_is(tmp_path: Path) -> None:
    place = made(tmp_path)
    assert find_evaluation("", f"{place}/") == Evaluation(index=place)
    assert find_evaluation("", "") == Evaluation()
    with pytest.raises(UsageError, match="is an index itself: leave out --eval_images"):
        find_evaluation(f"exam={tmp_path}/photographs", place)
    path = Path(place, "description.json")
    text = path.read_text()
    path.write_text(text.replace('"7"', '"6"'))  # whose thumbnails of JPEGs differ
    assert path.read_text() != text
    with pytest.raises(UsageError, match="was made by another version of alignset: pass --eval_im"):
        find_evaluation("", place)


def test_what_cannot_be_used_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(evaluation_image())
    with pytest.raises(UsageError, match="is not a whole index"):
        find_evaluation("", str(folder))
    (folder / "description.json").write_text("{")
    with pytest.raises(UsageError, match="is not a whole index"):
        find_evaluation("", str(folder))
    pq.write_table(pa.table({"label": [1]}), folder / "labels.parquet")
    with pytest.raises(UsageError, match=r"labels\.parquet cannot be used: .*no column image"):
        find_evaluation(f"x={folder}", "")
    (folder / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"labels\.parquet cannot be used"):
        find_evaluation(f"x={folder}", "")
    check_index_folder(str(tmp_path / "new" / "deep"))
    check_index_folder("s3://bucket/x")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match="is a file"):
        check_index_folder(str(folder / "a.png" / "index"))


def test_paths_are_those_that_workers_find(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(evaluation_image())
    there = find_evaluation(f"x={tmp_path}", "").on_workers(lambda path: f"/at{path}")
    assert [file.path for file in there.files] == [f"/at{tmp_path}/a.png"]
    assert (there.index, Evaluation(index="b").on_workers(str.upper).index) == ("", "B")
    for out, folder in {
        "/data/set": "/data/set.eval_index",
        "s3://bucket/set": "s3://bucket/set.eval_index",
        "s3://bucket": "s3://bucket/eval_index",
    }.items():
        assert index_folder(out) == folder
