"""Images with captions or classes, in each form; languages as clip_benchmark reads them."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from alignset.train.errors import SettingsError
from alignset.train.evaluate.image_sets import (
    Caption,
    FolderImages,
    ImageSet,
    class_labels,
    find_captioned,
    find_labelled,
)
from alignset.train.evaluate.task_table import RetrievalSettings
from tests.support.train_shards import write_tar

NAMES = ["b.jpg", "a.jpg", "c.jpg"]
LINES = {
    "de": ["ein Hund", "zwei Katzen, müde", "drei"],
    "ja": ["犬", "二匹の猫", "三"],
    "en": ["a dog", "two cats ", "three"],
}


def captioned(data: Path | str, **flags: Any) -> ImageSet:
    return find_captioned(RetrievalSettings(model="m", data=str(data), **flags))


def put(root: Path, *names: str) -> Path:
    """Files whose bytes are their names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return put(tmp_path / "images", "1.jpg", "2.jpg", "val2014/3.jpg")


def entry(name: str, split: str, *texts: object, **more: object) -> dict:
    sentences = [{"raw": text, "sentid": i} for i, text in enumerate(texts)]
    return {"filename": name, "split": split, "sentences": sentences, **more}


def splits(*entries: dict) -> str:
    return json.dumps({"dataset": "any", "images": entries})


def test_karpathys_splits(tmp_path: Path, images: Path):
    data = tmp_path / "a.json"
    test = entry("1.jpg", "test", "one ", "", "a \ud800 b"), entry("2.jpg", "train", "four")
    data.write_text(splits(*test, entry("3.jpg", "test", "five", filepath="val2014")))
    found = captioned(data, images=str(images))
    for _ in range(2):  # as often as it is gone through
        assert [(item.data, [c.text for c in item.about]) for item in found] == [
            (b"1.jpg", ["one", "a ? b"]),
            (b"val2014/3.jpg", ["five"]),
        ]
    assert next(iter(found)).about[1] == Caption("a ? b", name="2")
    for flags, names in (
        ({"captions_per_image": 1}, {"1.jpg": 1, "val2014/3.jpg": 1}),
        ({"split": ""}, {"1.jpg": 2, "2.jpg": 1, "val2014/3.jpg": 1}),
        ({"split": "train"}, {"2.jpg": 1}),
    ):
        again = captioned(data, images=str(images), **flags)
        assert {item.name: len(item.about) for item in again} == names


def test_tables_and_shards(tmp_path: Path, images: Path):
    (images / "a.csv").write_text(
        "image,caption,lang\n1.jpg,one,en\n2.jpg,zwei,de\n1.jpg,eins,de\n"
    )
    assert [item.about for item in captioned(images / "a.csv")] == [
        [Caption("one", "en"), Caption("eins", "de")],
        [Caption("zwei", "de")],
    ]
    lines = write_tar(tmp_path / "a.tar", {"k.png": b"1", "k.txt": b"one\ntwo"})
    field = write_tar(tmp_path / "b.tar", {"k.png": b"1", "k.json": b'{"c": ["one", "two"]}'})
    for data, flags, texts in (
        (lines, {}, ["one\ntwo"]),
        (lines, {"caption_lines": True}, ["one", "two"]),
        (field, {"caption_field": "c"}, ["one", "two"]),
        (field, {"caption_field": "c", "captions_per_image": 1}, ["one"]),
    ):
        (item,) = captioned(data, **flags)
        assert ([c.text for c in item.about], item.name) == (texts, "k")


def test_classes_of_folders_tables_and_shards(tmp_path: Path):
    folders = ["cat/2.png", "cat/1.JPG", "a dog/x/1.webp", "cat/notes.txt", ".git/1.png"]
    found = find_labelled(str(put(tmp_path / "f", *folders)))
    assert class_labels(found) == ["a dog", "cat"]
    for _ in range(2):
        assert [(item.data, item.about) for item in found] == [
            (b"a dog/x/1.webp", "a dog"),
            (b"cat/1.JPG", "cat"),
            (b"cat/2.png", "cat"),
        ]
    put(tmp_path, "i/1.png", "i/2.png", "i/3.png")
    table = tmp_path / "t.tsv"
    table.write_text("path\tclass\tsplit\n1.png\tcat\ttest\n2.png\tdog\ttrain\n3.png\tcat\ttest\n")
    found = find_labelled(str(table), images=str(tmp_path / "i"), split="test")
    assert [(item.name, item.about) for item in found] == [("1.png", "cat"), ("3.png", "cat")]
    assert len(list(find_labelled(str(table), images=str(tmp_path / "i")))) == 3
    files = {"a.png": b"1", "a.cls": b"7\n", "b.cls": b"1", "c.jpg": b"2", "c.txt": b"5"}
    found = find_labelled(str(write_tar(tmp_path / "0.tar", files)))
    assert class_labels(found) is None
    assert [item[:3] for item in found] == [(b"1", "7", "a")]


TABLE = "image,caption,split\n"
WRONG_CAPTIONS = [
    ("a.json", "[1]", {}, "not a file of captions"),
    ("a.json", '{"images": [{"filename": "1.jpg"}]}', {}, "not a file of captions.*split"),
    ("a.json", splits({"filename": "1.jpg", "split": "test", "sentences": [{}]}), {}, "raw"),
    ("a.json", splits(entry("1.jpg", "test", 0)), {}, "a caption is 0"),
    ("a.json", '{"images": []}', {}, "has no captions: give each image"),
    ("a.json", splits(entry("1.jpg", "val", "a")), {}, "'test': it has val; name one"),
    ("a.json", "[" * 100_000, {}, "not a file of captions .RecursionError"),
    ("a.json", splits(entry("9" * 5000, "test", "a")), {}, "1 of the images .*'999"),
    ("a.json", splits(entry("\ud800", "test", "a")), {}, r"1 of the images .*'\\ud800"),
    ("a.csv", f"{TABLE}1.jpg,one,val\n2.jpg,two,train\n", {}, "'test': it has train, val"),
    ("a.csv", f"{TABLE}1.jpg,,\n", {}, "has no captions: give each image one at least"),
    ("a.csv", "image,caption\n1.jpg,one\n", {"split": "val"}, "no column split"),
    ("a.csv", f"{TABLE}1.jpg,one,\n", {"captions_per_image": -1}, "image must be 0 .all. or more"),
    ("a.csv", None, {}, "there is no file"),
    ("a.tar", "", {"split": "val", "images": ""}, "shards have no splits"),
    ("", None, {}, "--images goes with a file"),
]
WRONG_LABELS = [
    ("empty", None, {}, "a folder with a subfolder of images for each class"),
    ("full", None, {}, "the class folder .*dog' has no image"),
    ("a.csv", "image,label\n", {}, "no image with a class"),
    ("b.csv", None, {}, "there is no file"),
    ("nothing", None, {}, "no images with classes at .*a folder with a subfolder of images for"),
    ("full", None, {"images": "x"}, "--images goes with a table"),
    ("set", None, {"split": "test"}, "--split goes with a table"),
    ("set/t.csv", "image,label\n1.png,cat\n", {"split": "test"}, "no column split"),
]


@pytest.mark.parametrize(("name", "content", "flags", "says"), WRONG_CAPTIONS + WRONG_LABELS)
def test_what_is_no_such_set_is_one_line(name, content, flags, says, tmp_path: Path, images: Path):
    put(tmp_path, "full/cat/1.png", "full/dog/notes.txt", "set/cat/1.png", "set/1.png")
    (tmp_path / "empty").mkdir()
    if content is not None:
        (tmp_path / name).write_text(content)
    if (name, content, flags, says) in WRONG_LABELS:
        find, flags = find_labelled, {"data": str(tmp_path / name)} | flags
    else:
        find, flags = captioned, {"data": tmp_path / name, "images": str(images)} | flags
    with pytest.raises(SettingsError, match=says) as error:
        find(**flags)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def their_pairs(theirs, root: Path, code: str) -> list[tuple[str, str]]:
    theirs.create_annotation_file(str(root), code)
    read = json.loads((root / theirs.OUTPUT_FILENAME_TEMPLATE.format(code)).read_text())
    pairs = zip(read["image_paths"], read["annotations"], strict=True)
    return [(Path(image).name, text.strip()) for image, text in pairs]


def our_pairs(data: Path, language: str, **flags: Any) -> list[tuple[str, str]]:
    found = captioned(data, **flags)
    assert isinstance(found, FolderImages)
    each = [(name, caption) for name, own in found.about.items() for caption in own]
    return [(name, c.text) for name, c in each if c.language in (language, "")]


@pytest.mark.parametrize(
    ("module", "folder", "language", "code"),
    [("xtd200", "xtd200", "de", "deu_Latn"), ("flickr30k_200", "flickr30k-200", "ja", "jpn_Jpan")],
)
def test_lines_beside_a_list_of_images(
    module: str, folder: str, language: str, code: str, tmp_path: Path, monkeypatch
) -> None:
    images = put(tmp_path / folder / "images", *NAMES)
    names, texts = tmp_path / "names.txt", tmp_path / "captions.txt"
    names.write_text("\n".join(NAMES) + "\n")
    texts.write_text("\n".join(LINES[language]) + "\n", encoding="utf-8")
    theirs = importlib.import_module(f"clip_benchmark.datasets.{module}")

    def lines_of(url: str) -> list[str]:  # in place of a download
        return (texts if code in url else names).read_text(encoding="utf-8").splitlines()

    monkeypatch.setattr(theirs, "_get_lines", lines_of)
    expected = their_pairs(theirs, tmp_path, code)
    assert len(expected) == 3
    assert our_pairs(texts, language, images=str(images), image_list=str(names)) == expected


def test_xm3600_of_which_they_read_the_first_caption(tmp_path: Path) -> None:
    from clip_benchmark.datasets import crossmodal3600 as theirs

    file = tmp_path / "xm3600/captions.jsonl"
    images = str(put(tmp_path / "xm3600/images", *NAMES))
    rows = [
        {"image/key": Path(name).stem, "image/locale": "en"}
        | {code: {"caption": [texts[n], f"{texts[n]} 2"]} for code, texts in LINES.items()}
        for n, name in enumerate(NAMES)
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    for code in LINES:
        expected = their_pairs(theirs, tmp_path, code)
        assert our_pairs(file, code, images=images, captions_per_image=1) == expected
        assert len(our_pairs(file, code, images=images)) == 6  # ours reads all
