"""The task as a user runs it: tables and Karpathy's splits of coloured images."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.evaluate.retrieval import both_ranks, make_captioned
from alignset.train.evaluate.tasks.retrieval import scores
from tests.support.evaluations import colour_folders, evaluated, refused
from tests.support.train_shards import COLOURS, encoded, write_tar


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return colour_folders(tmp_path_factory.mktemp("retrieval") / "colours", each=2)


def test_karpathys_splits(folders: Path, tmp_path: Path, capsys):
    images = [
        {
            "filename": "0.png",
            "filepath": name,
            "split": "test",
            "sentences": [{"raw": f"a {name} thing"}, {"raw": f"{name} {i}"}],
        }
        for i, name in enumerate(COLOURS)
    ]
    (tmp_path / "splits.json").write_text(json.dumps({"images": images}))
    page = tmp_path / "page.html"
    flags = (f"--data={tmp_path / 'splits.json'}", f"--images={folders}", f"--page={page}")
    result = evaluated(capsys, "retrieval", *flags)
    assert (result["n"], result["captions"], result["skipped"]) == (8, 16, 0)
    assert result["mean_recall"] == 100
    assert result["median_rank"] == {"image_to_text": 1, "text_to_image": 1}
    assert result["intervals"]["mean_recall"] == [100, 100]
    html = page.read_text()
    assert html.count("<img ") == 16
    assert "its own: a red thing" in html
    one = evaluated(capsys, "retrieval", *flags, "--captions_per_image=1")
    assert "captions" not in one


def test_languages_are_each_by_themselves(folders: Path, tmp_path: Path, capsys):
    rows = [f"{name}/0.png,a {name} thing,en\n" for name in COLOURS]
    rows += [f"{name}/1.png,ein {name} Ding,de\n" for name in list(COLOURS)[:4]]
    rows += ["red/1.png,green,en\n"]
    (tmp_path / "t.csv").write_text("image,caption,language\n" + "".join(rows))
    page = tmp_path / "page.html"
    flags = (f"--data={tmp_path / 't.csv'}", f"--images={folders}", f"--page={page}")
    result = evaluated(capsys, "retrieval", *flags)
    assert {name: of["n"] for name, of in result["languages"].items()} == {"en": 9, "de": 4}
    low, high = result["intervals"]["mean_recall"]
    assert low < result["mean_recall"] < high <= 100
    assert result["intervals"]["languages"]["de"]["mean_recall"] == [100, 100]
    html = page.read_text()
    assert "Found last: en" in html
    assert "its own: ein red Ding" in html
    assert html.count("<img ") == 2 * (9 + 4)
    means = {name: of["mean_recall"] for name, of in result["languages"].items()}
    assert means["de"] == 100 > means["en"]
    assert result["mean_recall"] == pytest.approx((means["de"] + means["en"]) / 2, abs=1e-3)


def test_sets_of_several_languages_as_they_are_distributed(folders: Path, tmp_path: Path, capsys):
    """Multi30K's and XTD10's lines, XM3600's JSON lines, against the same captions in a table."""
    names = [f"{name}/0.png" for name in COLOURS]
    words = {"en": ("a {} thing", "{}"), "de": ("ein {} Ding", "rot {}")}
    spoken = {
        code: [[text.format(name) for name in COLOURS] for text in own]
        for code, own in words.items()
    }
    spoken["de"][0][2] = "green"  # which is wrong
    rows = [
        f"{name},{text},{code}\n"
        for code, files in spoken.items()
        for texts in files
        for name, text in zip(names, texts, strict=True)
    ]
    (tmp_path / "t.csv").write_text("image,caption,language\n" + "".join(rows))
    images = f"--images={folders}"
    expected = evaluated(capsys, "retrieval", f"--data={tmp_path / 't.csv'}", images)
    assert expected["languages"]["de"]["mean_recall"] < 100

    (tmp_path / "test.txt").write_text("".join(f"{name}#0\n" for name in names))
    for code, files in spoken.items():
        for number, texts in enumerate(files, 1):
            packed = gzip.compress("".join(f"{text}\n" for text in texts).encode())
            (tmp_path / f"test.{number}.{code}.gz").write_bytes(packed)
    lines = f"--data=en={tmp_path}/test.*.en.gz,de={tmp_path}/test.*.de.gz"
    listed = f"--image_list={tmp_path / 'test.txt'}"
    found = evaluated(capsys, "retrieval", lines, listed, images)
    one = evaluated(capsys, "retrieval", lines, listed, images, "--captions_per_image=1")
    assert one["languages"]["en"]["n"] == 8
    assert "captions" not in one["languages"]["en"]

    xm, keys = tmp_path / "captions.jsonl", [f"{i:02}" for i in range(8)]
    for key, name in zip(keys, names, strict=True):
        (tmp_path / f"{key}.jpg").write_bytes((folders / name).read_bytes())
    records = [
        {"image/key": key, "image/locale": "en"}
        | {code: {"caption": [texts[i] for texts in own]} for code, own in spoken.items()}
        for i, key in enumerate(keys)
    ]
    xm.write_text("".join(json.dumps(record) + "\n" for record in records))
    of_xm = evaluated(capsys, "retrieval", f"--data={xm}")
    for code in words:
        for other in (found, of_xm):
            for way in ("image_to_text", "text_to_image"):
                assert other["languages"][code][way] == expected["languages"][code][way]
    assert found["mean_recall"] == of_xm["mean_recall"] == expected["mean_recall"]

    short = tmp_path / "short.txt"
    short.write_text("red/0.png\n")
    xm.write_text('{"image/key": "00", "en": {"caption": "a"}, "de": {"captions": []}}')
    for flags, says in (
        ((lines, f"--image_list={short}", images), "have not as many lines"),
        ((lines, listed, f"--images={tmp_path}"), "8 of the images that"),
        ((f"--data=en={tmp_path}/none.en", listed, images), "can't be read as lines"),
        ((f"--data={tmp_path}/00.jpg", listed, images), "can't be read as lines in UTF-8"),
        ((f"--data={xm}",), "line 1 of"),
    ):
        assert says in refused(capsys, "retrieval", *flags)


def test_languages_of_shards_and_of_a_file_each(folders: Path, tmp_path: Path, capsys):
    """The same images in a file for each language are counted once."""
    shard, texts = {}, {"en": "a {} thing", "de": "ein {} Ding"}
    for language, text in texts.items():
        rows = [f"{name}/0.png,{text.format(name)}\n" for name in COLOURS]
        (tmp_path / f"{language}.csv").write_text("image,caption\n" + "".join(rows))
        for name in COLOURS:
            shard[f"{name}{language}.png"] = (folders / name / "0.png").read_bytes()
            shard[f"{name}{language}.txt"] = text.format(name).encode()
            shard[f"{name}{language}.json"] = json.dumps({"language": language}).encode()
    write_tar(tmp_path / "0.tar", shard)
    files = ",".join(f"{language}={tmp_path / language}.csv" for language in texts)
    page = tmp_path / "page.html"
    for flags in ([f"--data={files}", f"--images={folders}"], [f"--data={tmp_path / '0.tar'}"]):
        result = evaluated(capsys, "retrieval", *flags, f"--page={page}")
        assert result["n"] == 8
        assert {name: of["n"] for name, of in result["languages"].items()} == {"de": 8, "en": 8}
        assert result["mean_recall"] == 100
        assert page.read_text().count("<img ") == 4 * 8
    only = evaluated(capsys, "retrieval", f"--data=de={tmp_path / '0.tar'}")
    assert (only["language"], only["captions"]) == ("de", 16)
    twice = refused(capsys, "retrieval", f"--data=de={tmp_path}/de.csv,de={tmp_path}/en.csv")
    assert "names a language twice" in twice
    missing = f"--data=de={tmp_path}/de.csv,fr=x.csv"
    assert "no file x.csv" in refused(capsys, "retrieval", missing, f"--images={folders}")


def test_equal_images_are_one_and_bad_ones_are_skipped(tmp_path: Path, capsys):
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        (tmp_path / f"{name}.png").write_bytes(encoded(Image.new("RGB", (9, 9), COLOURS[colour])))
    (tmp_path / "d.png").write_bytes(b"no image")
    (tmp_path / "t.csv").write_text(
        "image,caption\na.png,red one\nb.png,red two\nc.png,blue\nd.png,green\n"
    )
    result = evaluated(capsys, "retrieval", f"--data={tmp_path / 't.csv'}")
    assert (result["n"], result["captions"], result["skipped"]) == (2, 3, 1)
    assert result["image_to_text"]["R@1"] == 100


def test_a_second_time_nothing_goes_through_the_model(folders: Path, tmp_path: Path, capsys):
    rows = [f"{name}/0.png,a {name} thing\n" for name in COLOURS]
    (tmp_path / "t.csv").write_text("image,caption\n" + "".join(rows))
    flags = (f"--data={tmp_path / 't.csv'}", f"--images={folders}")
    first = evaluated(capsys, "retrieval", *flags, cache=tmp_path / "cache")
    sizes = {path: path.stat().st_size for path in tmp_path.glob("cache/*/*/*")}
    assert sum(sizes.values()) == 16 * (32 + 32)  # 8 images, 8 texts: a key and 8 floats each
    assert evaluated(capsys, "retrieval", *flags, cache=tmp_path / "cache") == first
    assert {path: path.stat().st_size for path in tmp_path.glob("cache/*/*/*")} == sizes


def test_bad_input_is_one_line(folders: Path, tmp_path: Path, capsys):
    (tmp_path / "t.csv").write_text("image,caption\nred/9.png,a\n")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no image")
    (tmp_path / "bad" / "t.csv").write_text("image,caption\na.png,a\n")
    for flags, says in (
        ((f"--data={tmp_path / 't.csv'}", f"--images={folders}"), "1 of the images"),
        ((f"--data={tmp_path / 'bad' / 't.csv'}",), "no pair with a readable image"),
        ((f"--data={tmp_path / 'x.json'}",), "there is no file"),
    ):
        assert says in refused(capsys, "retrieval", *flags)


def test_intervals_are_of_images_with_all_their_captions():
    rng = np.random.default_rng(2)
    images, noise = rng.normal(size=(60, 8)), rng.normal(size=(180, 8))
    texts = images.repeat(3, axis=0) + noise
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts)]
    names = [[f"{i} {j}" for j in range(3)] for i in range(60)]
    pairs = make_captioned(unit[0], unit[1], names)
    result = scores(pairs, both_ranks(pairs))
    low, high = result["intervals"]["text_to_image"]["R@5"]
    assert low < result["text_to_image"]["R@5"] < high
    width = 100 * 1.96 * 2 * (0.25 / 180) ** 0.5
    assert width / 3 < high - low < 2 * width
    for way in ("image_to_text", "text_to_image"):
        low, high = result["intervals"]["median_rank"][way]
        assert low <= result["median_rank"][way] <= high
