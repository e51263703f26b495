"""Images with captions, in each of their forms."""

import json
from pathlib import Path

import pytest

from alignset.train.errors import SettingsError
from alignset.train.evaluate.sets.captioned import Caption, find_captioned
from tests.support.train_shards import write_tar


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "val2014").mkdir(parents=True)
    for name in ("1.jpg", "2.jpg", "val2014/3.jpg"):
        (folder / name).write_bytes(name.encode())
    return folder


def entry(name: str, split: str, *texts: str, **more: object) -> dict:
    sentences = [{"raw": text, "sentid": i} for i, text in enumerate(texts)]
    return {"filename": name, "split": split, "sentences": sentences, **more}


def write_splits(path: Path, *entries: dict) -> str:
    path.write_text(json.dumps({"dataset": "any", "images": entries}))
    return str(path)


def test_karpathys_splits(tmp_path: Path, images: Path):
    data = write_splits(
        tmp_path / "a.json",
        entry("1.jpg", "test", "one ", "two", "three"),
        entry("2.jpg", "train", "four"),
        entry("3.jpg", "test", "five", filepath="val2014"),
    )
    found = find_captioned(data, images=str(images))
    for _ in range(2):  # as often as it is asked
        assert [(i.data, [c.text for c in i.captions]) for i in found] == [
            (b"1.jpg", ["one", "two", "three"]),
            (b"val2014/3.jpg", ["five"]),
        ]
    two = find_captioned(data, images=str(images), most=2)
    assert [len(image.captions) for image in two] == [2, 1]
    assert len(list(find_captioned(data, images=str(images), split=""))) == 3
    assert [i.name for i in find_captioned(data, images=str(images), split="train")] == ["2.jpg"]
    assert next(iter(found)).captions[1] == Caption("two", name="1")


def test_empty_captions_are_none_and_others_must_be_texts(tmp_path: Path, images: Path):
    data = write_splits(
        tmp_path / "a.json", entry("1.jpg", "test", "", "two", " "), entry("2.jpg", "test", " ")
    )
    found = [(i.name, i.captions) for i in find_captioned(data, images=str(images))]
    assert found == [("1.jpg", [Caption("two", name="1")])]
    data = write_splits(tmp_path / "b.json", {**entry("1.jpg", "test"), "sentences": [{"raw": 0}]})
    with pytest.raises(SettingsError, match="a caption is 0"):
        find_captioned(data, images=str(images))


def test_a_table_with_languages(tmp_path: Path, images: Path):
    data = images / "a.csv"
    data.write_text("image,caption,lang\n1.jpg,one,en\n2.jpg,zwei,de\n1.jpg,eins,de\n")
    assert [image.captions for image in find_captioned(str(data))] == [
        [Caption("one", "en"), Caption("eins", "de")],
        [Caption("zwei", "de")],
    ]


def test_shards(tmp_path: Path):
    tar = write_tar(tmp_path / "a.tar", {"k.png": b"1", "k.txt": b"one\ntwo"})
    for lines, texts in ((False, ["one\ntwo"]), (True, ["one", "two"])):
        (image,) = find_captioned(str(tar), lines=lines)
        assert ([c.text for c in image.captions], image.name) == (texts, "k")
    tar = write_tar(tmp_path / "b.tar", {"k.png": b"1", "k.json": b'{"c": ["one", "two"]}'})
    (image,) = find_captioned(str(tar), field="c")
    assert [c.text for c in image.captions] == ["one", "two"]
    (image,) = find_captioned(str(tar), field="c", most=1)
    assert [c.text for c in image.captions] == ["one"]


CONTENTS = [
    ("[1]", "not a file of captions"),
    ('{"images": [{"filename": "1.jpg"}]}', "not a file of captions.*split"),
    ('{"images": [{"filename": "1.jpg", "split": "test", "sentences": [{}]}]}', "raw"),
    ('{"images": []}', "has no captions: give each image"),
    (json.dumps({"images": [entry("1.jpg", "val", "a")]}), "'test': it has val; name one"),
    ("[" * 100_000, "not a file of captions .RecursionError"),
    (json.dumps({"images": [entry("9" * 5000, "test", "a")]}), "1 of the images .*'999"),
    (json.dumps({"images": [entry("\ud800", "test", "a")]}), r"1 of the images .*'\\ud800"),
]


def test_halves_of_characters_are_none(tmp_path: Path, images: Path):
    data = write_splits(tmp_path / "a.json", entry("1.jpg", "test", "a \ud800 b"))
    (image,) = find_captioned(data, images=str(images))
    assert image.captions[0].text == "a ? b"


TABLE = "image,caption,split\n"
REFUSED = [
    *(("a.json", content, {}, says) for content, says in CONTENTS),
    (
        "a.csv",
        f"{TABLE}1.jpg,one,val\n2.jpg,two,train\n",
        {},
        "'test': it has train, val",
    ),
    ("a.csv", f"{TABLE}1.jpg,,\n", {}, "has no captions: give each image one at least"),
    ("a.csv", "image,caption\n1.jpg,one\n", {"split": "val"}, "no column split"),
    ("a.csv", f"{TABLE}1.jpg,one,\n", {"most": -1}, "--captions_per_image must be 0"),
    ("a.csv", None, {}, "there is no file"),
    ("a.tar", "", {"split": "val"}, "shards have no splits"),
    ("", None, {}, "--images goes with a file"),
]


@pytest.mark.parametrize(("name", "content", "flags", "says"), REFUSED)
def test_what_is_no_such_set_is_told_in_a_line(
    name: str, content: str | None, flags: dict, says: str, tmp_path: Path, images: Path
):
    if content is not None:
        (tmp_path / name).write_text(content)
    folder = {} if name == "a.tar" else {"images": str(images)}
    with pytest.raises(SettingsError, match=says) as error:
        find_captioned(str(tmp_path / name), **folder, **flags)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
