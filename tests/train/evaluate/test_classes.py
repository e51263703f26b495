"""What classes are called, and the subsets of ImageNet."""

from pathlib import Path

import pytest

from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import find_classes, imagenet_names


def test_folders_name_themselves():
    classes = find_classes("", ["great_white shark", "tench"])
    assert classes.names == ["great white shark", "tench"]
    assert [classes.number(label) for label in ("tench", "great_white shark")] == [1, 0]


def test_folders_named_by_synsets_have_imagenets_names():
    classes = find_classes("", ["n01440764", "n01484850"])
    assert classes.names == ["tench", "great white shark"]
    assert find_classes("", ["n01440764", "n99999999"]).names == ["n01440764", "n99999999"]


def test_imagenets_names_are_clips():
    import open_clip  # here: it imports for half a second

    assert [*imagenet_names().values()] == list(open_clip.IMAGENET_CLASSNAMES)
    assert imagenet_names()["n02123045"] == "tabby cat"


@pytest.mark.parametrize(
    ("name", "count", "first", "last", "lacks"),
    [
        ("imagenet", 1000, "n01440764", "n15075141", None),
        ("imagenet-v2", 1000, "n01440764", "n15075141", None),
        ("imagenet-a", 200, "n01498041", "n12267677", "n01440764"),
        ("imagenet-r", 200, "n01443537", "n12267677", "n01440764"),
    ],
)
def test_subsets_are_told_among_their_own_classes(name, count, first, last, lacks):
    classes = find_classes(name, [first, last])
    assert len(classes.names) == count
    assert (classes.names[0], classes.number(first)) == (imagenet_names()[first], 0)
    assert classes.number(str(count - 1)) == count - 1
    if lacks:
        with pytest.raises(SettingsError, match=f"'{lacks}' of --data is not a class of {name}"):
            find_classes(name, [lacks])


def test_a_file_names_them(tmp_path: Path):
    (tmp_path / "names").write_text("red car\n\nBlue Car\n")
    classes = find_classes(str(tmp_path / "names"), ["blue_car", "red car", "0"])
    assert classes.names == ["red car", "Blue Car"]
    assert [classes.number(label) for label in ("blue_car", "1", "0")] == [1, 1, 0]
    (tmp_path / "labels").write_text("n1\ta red car\nn2\ta blue car\n")
    classes = find_classes(str(tmp_path / "labels"), None)
    assert [classes.number(label) for label in ("n2", "n1")] == [1, 0]
    assert classes.names == ["a red car", "a blue car"]


def test_what_is_no_class_is_told_in_a_line(tmp_path: Path):
    (tmp_path / "names").write_text("cat\ndog\n")
    (tmp_path / "twice").write_text("cat\nCat\n")
    (tmp_path / "one").write_text("cat\n")
    (tmp_path / "bytes").write_bytes(b"\xff")
    for file, labels, says in (
        ("names", ["cat", "cow"], "'cow' of --data is not a class of"),
        ("names", ["2"], "'2' of --data is not a class of"),
        ("twice", [], "'Cat' twice"),
        ("one", [], "has 1 class;"),
        ("bytes", [], "can't be read"),
        ("nothing", [], "can't be read"),
    ):
        with pytest.raises(SettingsError, match=says) as error:
            find_classes(str(tmp_path / file), labels)
        assert "\n" not in str(error.value)
    with pytest.raises(SettingsError, match="--classes"):
        find_classes("", None)
