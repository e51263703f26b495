"""Images with classes, in each of their forms."""

from pathlib import Path

import pytest

from alignset.train.errors import SettingsError
from alignset.train.evaluate.sets.labelled import find_labelled
from tests.support.train_shards import write_tar


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_a_folder_for_each_class(tmp_path: Path):
    root = put(tmp_path, "cat/2.png", "cat/1.JPG", "a dog/x/1.webp", "cat/notes.txt", ".git/1.png")
    found = find_labelled(str(root))
    assert found.names() == ["a dog", "cat"]
    for _ in range(2):
        assert [(image.data, image.label) for image in found] == [
            (b"a dog/x/1.webp", "a dog"),
            (b"cat/1.JPG", "cat"),
            (b"cat/2.png", "cat"),
        ]


def test_a_table(tmp_path: Path):
    put(tmp_path, "i/1.png", "i/2.png", "i/3.png")
    table = tmp_path / "t.tsv"
    table.write_text("path\tclass\tsplit\n1.png\tcat\ttest\n2.png\tdog\ttrain\n3.png\tcat\ttest\n")
    found = find_labelled(str(table), images=str(tmp_path / "i"), split="test")
    assert [(image.name, image.label) for image in found] == [("1.png", "cat"), ("3.png", "cat")]
    assert len(list(find_labelled(str(table), images=str(tmp_path / "i")))) == 3


def test_shards(tmp_path: Path):
    files = {"a.png": b"1", "a.cls": b"7\n", "b.cls": b"1", "c.jpg": b"2", "c.txt": b"5"}
    write_tar(tmp_path / "0.tar", files)
    found = find_labelled(str(tmp_path))
    assert found.names() is None
    assert list(found) == [(b"1", "7", "a")]


def test_what_is_no_such_set_is_told_in_a_line(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    put(tmp_path, "full/cat/1.png", "full/dog/notes.txt", "set/cat/1.png", "set/dog/1.png")
    (tmp_path / "a.csv").write_text("image,label\n")
    (tmp_path / "set" / "t.csv").write_text("image,label\ncat/1.png,cat\ndog/1.png,dog\n")
    for data, flags, says in (
        ("empty", {}, "a folder with a subfolder of images for each class"),
        ("full", {}, "the class folder .*dog' has no image"),
        ("a.csv", {}, "no image with a class"),
        ("b.csv", {}, "there is no file"),
        ("nothing", {}, "no images with classes at .*a folder with a subfolder of images for"),
        ("full", {"images": "x"}, "--images goes with a table"),
        ("set", {"split": "test"}, "--split goes with a table"),
        ("set/t.csv", {"split": "test"}, "no column split"),
    ):
        with pytest.raises(SettingsError, match=says) as error:
            find_labelled(str(tmp_path / data), **flags)
        assert "\n" not in str(error.value)
