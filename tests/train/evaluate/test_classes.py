"""What classes are called, the subsets of ImageNet, and prompts: CLIP's own, a sentence, a file."""

import importlib.resources
import json
from pathlib import Path

import open_clip
import pytest

from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import (
    PLAIN,
    find_classes,
    find_prompts,
    imagenet_names,
    published_prompts,
)

OTHER_NAMES = {
    "imagenet": "imagenet1k",
    "cifar": "cifar100",
    "aircraft": "fgvc_aircraft",
    "sst2": "renderedsst2",
}
# Of the datasets that clip_benchmark does not have, or has other prompts for: how many, and the
# last.
NOT_THEIRS = {
    "birdsnap": (1, "a photo of a {}, a type of bird."),
    "ucf101": (48, "a demonstration of the person practicing {}."),
    "kinetics": (28, "a demonstration of a person practicing {}."),
    "clevr": (1, "a photo of {} objects."),
    "hateful-memes": (1, "a {}."),
}


def test_folders_name_themselves():
    classes = find_classes("", ["great_white shark", "tench"])
    assert classes.names == ["great white shark", "tench"]
    assert [classes.number(label) for label in ("tench", "great_white shark")] == [1, 0]


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
    (tmp_path / "a").write_text('"[{}" it says\n[{}]\n')
    assert find_prompts(str(tmp_path / "a")) == ('"[{}" it says', "[{}]")


def test_what_is_no_class_or_prompt_is_told_in_a_line(tmp_path: Path):
    files = {"names": "cat\ndog\n", "twice": "cat\nCat\n", "one": "cat\n", "empty": "\n"}
    files |= {"none": "a {}.\na photo.\n", "nested": '[["a {}."]]'}
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
        *((lambda w=w: find_prompts(w), "one of imagenet, ") for w in ("nett", "\0", "a" * 5000)),
    ):
        with pytest.raises(SettingsError, match=says) as error:
            find()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 800
