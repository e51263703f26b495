"""Images with captions or classes in each form, classes and prompts, and vectors found again."""

import importlib.resources
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
from PIL import Image

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.evaluate.classes import (
    PLAIN,
    class_prompts,
    class_weights,
    find_classes,
    find_prompts,
    imagenet_names,
    published_prompts,
)
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.image_sets import (
    Caption,
    FolderImages,
    ImageSet,
    Item,
    class_labels,
    find_captioned,
    find_labelled,
)
from alignset.train.evaluate.task_table import RetrievalSettings
from tests.support.evaluations import WordEmbedder
from tests.support.train_shards import COLOURS, encoded, write_tar

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
    for text in (  # columns by their names, whatever is around them
        "\ufeffCaption\tfileName\tx\n two \t1.jpg\t1\n\n",
        "lang,image,caption\r\n,1.jpg,two\r\n",
        ",image,caption\n0,1.jpg,two\n",  # an index without a name
        'image,caption\n1.jpg,"two"\n',
    ):
        (images / "a.csv").write_text(text, encoding="utf-8")
        assert [item[:2] for item in captioned(images / "a.csv")] == [(b"1.jpg", [Caption("two")])]
    with (images / "1.jpg").open("wb") as file:
        file.truncate(1 << 26)  # more bytes than any image has
    assert [item.data for item in captioned(images / "a.csv")] == [b""]
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
    ("a.csv", "", {}, "no column 'image'"),
    ("a.csv", "picture,caption\n", {}, "no column 'image'.*it has picture, caption"),
    ("a.csv", "image,caption\n1.jpg\n", {}, "row 2 of .* has 1 field where its header has 2"),
    ("a.csv", "image,caption\n1.jpg," + "x" * (1 << 21), {}, "can't be read as a table"),
    ("a.csv", "image,caption\n\0\0", {}, "row 2|can't be read"),
    ("a.csv", b"image,caption\n\xff\xfe,b\n", {}, "UTF-8"),
    (
        "a.csv",
        f"{TABLE}1.jpg,a,test\n8.jpg,,test\n9.jpg,b,test\n",
        {},
        "1 of the images .* '9.jpg'",
    ),
    ("a.csv", "image,caption\n../a.csv,one\n", {}, "which is not in"),
    ("a.csv", "image,caption\n/etc/passwd,one\n", {}, "which is not in"),
    ("a.csv", "image,caption\n1.jpg,one\n", {"images": "/nowhere"}, "there is no folder"),
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
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
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


def test_lines_beside_a_list_of_images(tmp_path: Path, monkeypatch) -> None:
    from clip_benchmark.datasets import xtd200 as theirs

    images = put(tmp_path / "xtd200/images", *NAMES)
    names, texts = tmp_path / "names.txt", tmp_path / "captions.txt"
    names.write_text("\n".join(NAMES) + "\n")
    texts.write_text("\n".join(LINES["ja"]) + "\n", encoding="utf-8")

    def lines_of(url: str) -> list[str]:  # in place of a download
        return (texts if "jpn_Jpan" in url else names).read_text(encoding="utf-8").splitlines()

    monkeypatch.setattr(theirs, "_get_lines", lines_of)
    expected = their_pairs(theirs, tmp_path, "jpn_Jpan")
    assert len(expected) == 3
    assert our_pairs(texts, "ja", images=str(images), image_list=str(names)) == expected


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


OTHER_NAMES = {
    "imagenet": "imagenet1k",
    "cifar": "cifar100",
    "aircraft": "fgvc_aircraft",
    "sst2": "renderedsst2",
}
# For datasets that clip_benchmark does not have, or has other prompts for: the number of prompts,
# and the last.
NOT_THEIRS = {
    "birdsnap": (1, "a photo of a {}, a type of bird."),
    "ucf101": (48, "a demonstration of the person practicing {}."),
    "kinetics": (28, "a demonstration of a person practicing {}."),
    "clevr": (1, "a photo of {} objects."),
    "hateful-memes": (1, "a {}."),
}


def test_folders_named_by_synsets_have_imagenets_names():
    classes = find_classes("", ["n01440764", "n01484850"])
    assert classes.names == ["tench", "great white shark"]
    assert find_classes("", ["n01440764", "n99999999"]).names == ["n01440764", "n99999999"]


def test_imagenets_names_are_clips():
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


def test_the_published_ones_are_clips():
    of_open_clip = [prompt("{}") for prompt in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert list(find_prompts("imagenet")) == of_open_clip
    assert len(of_open_clip) == 80
    file = "datasets/en_zeroshot_classification_templates.json"
    text = importlib.resources.files("clip_benchmark").joinpath(file).read_text()
    theirs = json.loads(text)
    for name, prompts in published_prompts().items():
        assert len(set(prompts)) == len(prompts)
        if name in NOT_THEIRS:
            assert (len(prompts), prompts[-1]) == NOT_THEIRS[name]
            continue
        expected = theirs[OTHER_NAMES.get(name, name)]
        assert list(prompts) == [prompt.replace("{c}", "{}") for prompt in expected]
    assert all(prompt.count("{}") == 1 for own in published_prompts().values() for prompt in own)


def test_ones_own(tmp_path: Path):
    assert find_prompts(PLAIN) == (PLAIN,)
    (tmp_path / "a").write_text("a {}.\n\nthe {} {x}.\n")
    assert find_prompts(str(tmp_path / "a")) == ("a {}.", "the {} {x}.")
    (tmp_path / "a.json").write_text('["a {}.",\n "the \\u00e9 {}."]')
    assert find_prompts(str(tmp_path / "a.json")) == ("a {}.", "the é {}.")
    (tmp_path / "a").write_text("{}\n")  # and an object of JSON
    assert find_prompts(str(tmp_path / "a")) == ("{}",)
    (tmp_path / "a").write_text('"[{}" it says\n[{}]\n')
    assert find_prompts(str(tmp_path / "a")) == ('"[{}" it says', "[{}]")


def test_each_class_may_have_its_own(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(
        '{"Red_car": ["a red {}.", "fast"], "cat": [" it purrs\\ud800 "], "unused": ["x"]}'
    )
    prompts = find_prompts(str(path))
    assert class_prompts(["cat", "red car"], prompts) == [["it purrs?"], ["a red red car.", "fast"]]
    with pytest.raises(SettingsError, match="none for the class 'dog'; it has red car, cat, un"):
        class_prompts(["cat", "dog"], prompts)
    assert class_prompts(["cat", "dog"], ("a {}.", "{}")) == [["a cat.", "cat"], ["a dog.", "dog"]]
    weights = class_weights(np.float32([[2, 0], [1, 0], [0, 3], [0, 4]]), [1, 3])
    np.testing.assert_allclose(weights.T, [[1, 0], np.array([1, 7]) / 50**0.5], atol=1e-6)


def test_what_is_no_class_or_prompt_is_told_in_a_line(tmp_path: Path):
    files = {"names": "cat\ndog\n", "twice": "cat\nCat\n", "one": "cat\n", "empty": "\n"}
    files |= {
        "none": "a {}.\na photo.\n",
        "nested": '[["a {}."]]',
        "text_of_class": '{"cat": "a cat."}',
        "no_text": '{"cat": ["a cat."], "dog": [" "]}',
        "deep": "[" * 99_999,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bytes").write_bytes(b"\xff")
    for find, says in (
        (lambda: find_classes(f"{tmp_path}/names", ["cat", "cow"]), "'cow' of --data is not"),
        (lambda: find_classes(f"{tmp_path}/names", ["2"]), "'2' of --data is not a class of"),
        (lambda: find_classes(f"{tmp_path}/twice", []), "'Cat' twice"),
        (lambda: find_classes(f"{tmp_path}/one", []), "has 1 class;"),
        (lambda: find_classes(f"{tmp_path}/bytes", []), "can't be read"),
        (lambda: find_classes(f"{tmp_path}/nothing", []), "can't be read"),
        (lambda: find_classes("", None), "--classes"),
        (lambda: find_prompts("a {} and a {}"), "has one {}"),
        (lambda: find_prompts(f"{tmp_path}/none"), "got 'a photo.'"),
        (lambda: find_prompts(f"{tmp_path}/empty"), "has 0 prompts"),
        (lambda: find_prompts(f"{tmp_path}/nested"), "nested is JSON, and not a list of prompts"),
        (lambda: find_prompts(f"{tmp_path}/text_of_class"), "JSON, and not a list of prompts, nor"),
        (lambda: find_prompts(f"{tmp_path}/no_text"), "0 prompts of 'dog'"),
        (lambda: find_prompts(f"{tmp_path}/deep"), "has one {}"),
        *((lambda w=w: find_prompts(w), "one of imagenet, ") for w in ("nett", "\0", "a" * 5000)),
    ):
        with pytest.raises(SettingsError, match=says) as error:
            find()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 800


FILES = [encoded(Image.new("RGB", (9, 7), colour)) for colour in COLOURS.values()]


@pytest.fixture
def embedding(tmp_path: Path) -> Embedding:
    return Embedding(WordEmbedder(), tmp_path, batch_size=3)


def items(files: list[bytes]) -> list[Item]:
    return [Item(data, i, f"{i}.png") for i, data in enumerate(files)]


def test_each_content_goes_through_once_and_is_found_by_the_next_task(embedding, tmp_path: Path):
    files = [*FILES, b"no image", FILES[2], FILES[0], FILES[2]]
    embedded = embedding.images(items(files), "a")
    expected = WordEmbedder().embed_images([Image.new("RGB", (1, 1), c) for c in COLOURS.values()])
    order = [*range(8), 2, 0, 2]
    np.testing.assert_allclose(embedded.vectors, expected[order], atol=1e-6)
    assert [item.about for item in embedded.items] == [*range(8), 9, 10, 11]
    assert (embedded.skipped, {item.data for item in embedded.items}) == (1, {b""})
    assert embedded.identities()[8:10] == [embedded.identities()[i] for i in (2, 0)]
    assert embedding.embedder.images_seen == 8
    other = encoded(Image.new("RGB", (3, 3), (1, 2, 3)))
    for more, seen in (([], 0), ([other], 1), ([other], 0)):
        again = Embedding(WordEmbedder(), tmp_path, batch_size=5)
        vectors = again.images(items([*files[1:], *more]), "a").vectors
        np.testing.assert_array_equal(vectors[:10], embedded.vectors[1:])
        assert again.embedder.images_seen == seen
    (kept,) = tmp_path.glob("*/images-*.npz")
    with np.load(kept) as file:
        assert file["vectors"].shape == (9, 8)
    kept.write_bytes(kept.read_bytes()[:100])  # what is broken is made anew
    np.testing.assert_array_equal(embedding.images(items(files), "a").vectors, embedded.vectors)


def test_an_interrupted_evaluation_leaves_nothing(embedding: Embedding, tmp_path: Path):
    def killed():
        yield from items(FILES[:6])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedding.images(killed(), "a")
    assert [*tmp_path.glob("*/*")] == []
    assert len(embedding.images(items(FILES), "a").vectors) == 8


def test_large_images_are_decoded_in_small_parts(embedding: Embedding, monkeypatch):
    monkeypatch.setattr("alignset.train.data.images.MOST_PIXELS", 100)
    seen = []
    embed = embedding.embedder.embed_images
    monkeypatch.setattr(
        embedding.embedder, "embed_images", lambda part: seen.append(len(part)) or embed(part)
    )
    embedding.images(items(FILES), "a")
    assert seen == [2, 2, 2, 2]  # of 63 px each


def test_no_image_and_what_cannot_be_kept(embedding: Embedding, tmp_path: Path, monkeypatch):
    embedded = embedding.images(items([b"no image"]), "a")
    assert (embedded.vectors.shape, embedded.skipped, embedded.items) == ((0, 8), 1, [])
    monkeypatch.setattr(WordEmbedder, "embed_images", lambda *_: np.full((1, 8), np.nan))
    with pytest.raises(TrainingError, match="not all finite"):
        embedding.images(items(FILES[:1]), "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="--cache"):
        Embedding(WordEmbedder(), tmp_path / "file").images(items(FILES), "a")
