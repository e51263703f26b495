"""The task as a user runs it: folders, shards and tables of colours, told by their names."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from alignset.train.evaluate.classes import find_classes, imagenet_names
from alignset.train.evaluate.tasks.zero_shot import warn_of_names
from tests.support.evaluations import colour_folders, evaluated, refused
from tests.support.train_shards import COLOURS, write_tar


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return colour_folders(tmp_path_factory.mktemp("zero_shot") / "colours")


def test_folders(folders: Path, tmp_path: Path, capsys):
    page = tmp_path / "page.html"
    result = evaluated(capsys, "zero_shot", f"--data={folders}", f"--page={page}")
    assert (result["n"], result["classes"], result["top1"], result["skipped"]) == (24, 8, 100, 0)
    assert result["mean_per_class"] == result["top5"] == 100
    assert result["intervals"]["top1"] == [100, 100]
    assert result["chance"] == {"top1": 12.5, "top5": 62.5}
    assert result["confused"] == []
    assert result["model"]["kind"] == "test"
    assert {"torch", "python"} <= result["versions"].keys()
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 24
    assert "Furthest off" in html


def test_classes_that_are_called_by_numbers_are_warned_of(capsys):
    for names, warned in (
        (["0001", "0002", "red"], "2 of 3 classes have a number for a name, as '0001'"),
        (["3f2a", "00c1", "7"], "3 of 3 classes"),
        (["n99999991", "n99999992"], "2 of 2 classes"),
        (["face", "bee", "7"], ""),
        (["747", "a320"], "2 of 2"),
        (["747 jet", "a320 jet"], ""),
        (["красный", "红"], ""),
    ):
        warn_of_names(find_classes("", names))
        printed = capsys.readouterr().err
        assert warned in printed
        assert ("for a name" in printed) == bool(warned)


def test_wrong_names_make_wrong_answers(folders: Path, tmp_path: Path, capsys):
    names = dict(zip(COLOURS, COLOURS, strict=True)) | {"red": "green", "green": "red"}
    file = tmp_path / "names"
    file.write_text("".join(f"{label}\tthe {name} one\n" for label, name in names.items()))
    page = tmp_path / "page.html"
    flags = (f"--data={folders}", f"--classes={file}", "--prompts={} here", f"--page={page}")
    result = evaluated(capsys, "zero_shot", *flags)
    assert result["top1"] == 75
    taken = {each["class"]: (each["taken_for"], each["images"]) for each in result["confused"]}
    swapped = ("red", "green"), ("green", "red")
    assert taken == {f"the {own} one": (f"the {other} one", 3) for own, other in swapped}
    assert "the green one, taken for the red one (3)" in page.read_text()


def test_names_in_many_languages_as_babel_imagenet_has_them(tmp_path: Path, capsys):
    """A language is judged on the images of the classes that it has a name for."""
    folders = colour_folders(tmp_path / "colours", each=2)
    synsets = [*imagenet_names()][: len(COLOURS)]
    for name, synset in zip(COLOURS, synsets, strict=True):
        (folders / name).rename(folders / synset)
    colours = [*COLOURS]
    wrong = [colours[3], colours[2]]
    names = {"DE": [[0, 1, 4], [colours[0], colours[1], colours[4]]], "XX": [[2, 3], wrong]}
    file, page = tmp_path / "babel.json", tmp_path / "page.html"
    file.write_text(json.dumps(names))
    flags = (f"--data={folders}", f"--classes={file}", f"--page={page}")
    result = evaluated(capsys, "zero_shot", *flags)
    of_each = result["languages"]
    assert {code: (of["n"], of["classes"], of["top1"]) for code, of in of_each.items()} == {
        "de": (6, 3, 100),
        "xx": (4, 2, 0),
    }
    assert (result["n"], result["top1"]) == (10, 50)
    assert of_each["de"]["prompts"] == 1  # the name alone
    pictures = re.findall(r'alt="(\w+)" src="[^"]*base64,([^"]*)"', page.read_text())
    seen = {name: picture_colour(picture) for name, picture in pictures}
    assert seen[colours[4]] == pytest.approx(COLOURS[colours[4]], abs=8)
    one = evaluated(capsys, "zero_shot", f"--data={folders}", f"--classes=de={file}")
    assert (one["n"], one["language"]) == (6, "de")
    says = refused(capsys, "zero_shot", f"--data={folders}", f"--classes=fr={file}")
    assert "has no names in 'fr': it has de, xx" in says
    for hostile in ("[]", '{"DE": [[0, 1], ["a"]]}', '{"DE": [[0, 1000], ["a", "b"]]}', "{"):
        file.write_text(hostile)
        assert "as Babel-ImageNet's" in refused(capsys, "zero_shot", *flags)


def picture_colour(picture: str) -> tuple[int, ...]:
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    pixel = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    return pixel


def test_languages_by_a_column_and_by_files(folders: Path, tmp_path: Path, capsys):
    """Each by its own labels, among its own classes."""
    rows = [f"{name}/{i}.png,{name},en" for name in COLOURS for i in range(2)]
    rows += [f"{name}/0.png,{name},de" for name in ("red", "green")]
    rows += ["blue/0.png,white,de", "white/0.png,blue,de"]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,language", *rows]))
    page, images = tmp_path / "page.html", f"--images={folders}"
    result = evaluated(
        capsys, "zero_shot", f"--data={tmp_path / 't.csv'}", images, f"--page={page}"
    )
    assert result["n"] == 16
    of_each = result["languages"]
    assert [(of["n"], of["classes"], of["top1"]) for of in of_each.values()] == [
        *((4, 4, 50), (16, 8, 100))
    ]
    assert result["top1"] == 75
    assert result["intervals"]["languages"]["en"]["top1"] == [100, 100]
    html = page.read_text()
    assert "Surest: de" in html
    pictures = re.findall(r'alt="(red|green|yellow)" src="[^"]*base64,([^"]*)"', html)
    assert len(pictures) >= 8
    for name, picture in pictures:
        assert picture_colour(picture) == pytest.approx(COLOURS[name], abs=8), name
    names = dict(zip(COLOURS, COLOURS, strict=True)) | {"red": "green", "green": "red"}
    (tmp_path / "de.txt").write_text("".join(f"{of}\t{name}\n" for of, name in names.items()))
    (tmp_path / "en.txt").write_text("".join(f"{name}\n" for name in COLOURS))
    classes = f"--classes=de={tmp_path}/de.txt,en={tmp_path}/en.txt"
    prompts = "--prompts=de=ein {}, Ding,en=a {}"
    result = evaluated(capsys, "zero_shot", f"--data={folders}", classes, prompts)
    tops = {code: of["top1"] for code, of in result["languages"].items()}
    assert (tops, result["n"]) == ({"de": 75, "en": 100}, 24)
    error = refused(capsys, "zero_shot", f"--data={folders}", classes, "--prompts=de={}")
    assert "--prompts has nothing for en: add en=FILE" in error


def test_shards_and_tables(folders: Path, tmp_path: Path, capsys):
    files = {}
    for number, name in enumerate(COLOURS):
        files |= {f"{name}.png": (folders / name / "0.png").read_bytes()}
        files |= {f"{name}.cls": str(number).encode()}
    files |= {"bad.png": b"no image", "bad.cls": b"1"}
    write_tar(tmp_path / "0.tar", files)
    (tmp_path / "names").write_text("\n".join(COLOURS))
    flags = (f"--data={tmp_path}", f"--classes={tmp_path / 'names'}", "--prompts=a {}")
    result = evaluated(capsys, "zero_shot", *flags)
    assert (result["n"], result["top1"], result["skipped"]) == (8, 100, 1)
    rows = "".join(f"{name}/1.png,{name}\n" for name in COLOURS)
    (tmp_path / "t.csv").write_text(f"image,label\n{rows}")
    flags = (f"--data={tmp_path / 't.csv'}", f"--images={folders}", "--prompts=a {}")
    assert evaluated(capsys, "zero_shot", *flags)["top1"] == 100


def test_bad_input_is_one_line(folders: Path, tmp_path: Path, capsys):
    (tmp_path / "two").write_text("red\ngreen\n")
    (tmp_path / "empty" / "a").mkdir(parents=True)
    data = f"--data={folders}"
    for flags, says in (
        ((data, f"--classes={tmp_path / 'two'}"), "'black' of --data is not a class of"),
        ((f"--data={tmp_path / 'empty'}",), "has no image"),
        ((data, "--prompts=nothing"), "no prompts at 'nothing'"),
        ((data, "--classes=imagenet-a"), "not a class of imagenet-a"),
        ((data, f"--page={tmp_path / 'no' / 'page.html'}"), "--page="),
        ((data, "--batch_size=0"), "batch_size must be at least 1"),
        ((data, "--cache=/proc/nothing"), "--cache"),
        ((data, "--colour=red"), "--colour"),
        ((), "--data"),
    ):
        assert says in refused(capsys, "zero_shot", *flags)
