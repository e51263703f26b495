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
    result = evaluated(capsys, "retrieval", *flags, cache=tmp_path / "cache")
    sizes = {path: path.stat().st_size for path in tmp_path.glob("cache/*/*/*")}
    assert sum(sizes.values()) == (8 + 16) * (32 + 32)  # images, texts: a key and 8 floats each
    assert evaluated(capsys, "retrieval", *flags, cache=tmp_path / "cache") == result
    assert {path: path.stat().st_size for path in tmp_path.glob("cache/*/*/*")} == sizes
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


def test_several_languages_in_each_form(folders: Path, tmp_path: Path, capsys):
    """The same captions in a table, in one for each language, in shards, in lines as Multi30K's
    and XTD10's, and in XM3600's JSON lines. The same images are counted once."""
    names = [f"{name}/0.png" for name in COLOURS]
    words = {"en": ("a {} thing", "{}"), "de": ("ein {} Ding", "rot {}")}
    spoken = {c: [[text.format(n) for n in COLOURS] for text in own] for c, own in words.items()}
    spoken["de"][0][2] = "green"  # which is wrong
    shard, rows = {}, {"en": [], "de": []}
    for code, files in spoken.items():
        for number, texts in enumerate(files):
            packed = gzip.compress("".join(f"{text}\n" for text in texts).encode())
            (tmp_path / f"test.{number}.{code}.gz").write_bytes(packed)
            for name, text in zip(names, texts, strict=True):
                rows[code].append(f"{name},{text},{code}\n")
                key = f"{len(shard):03}"
                shard[f"{key}.png"] = (folders / name).read_bytes()
                shard[f"{key}.txt"] = text.encode()
                shard[f"{key}.json"] = json.dumps({"language": code}).encode()
        (tmp_path / f"{code}.csv").write_text("image,caption,\n" + "".join(rows[code]))
    (tmp_path / "t.csv").write_text("image,caption,language\n" + "".join(rows["en"] + rows["de"]))
    write_tar(tmp_path / "0.tar", shard)
    (tmp_path / "test.txt").write_text("".join(f"{name}#0\n" for name in names))
    xm, records = tmp_path / "captions.jsonl", []
    for i, name in enumerate(names):
        (tmp_path / f"0{i}.jpg").write_bytes((folders / name).read_bytes())
        captions = {code: {"caption": [own[i] for own in files]} for code, files in spoken.items()}
        records.append(json.dumps({"image/key": f"0{i}", "image/locale": "en", **captions}))
    xm.write_text("\n".join(records))

    images, page = f"--images={folders}", tmp_path / "page.html"
    lines = f"--data=en={tmp_path}/test.*.en.gz,de={tmp_path}/test.*.de.gz"
    listed = f"--image_list={tmp_path / 'test.txt'}"
    forms: list[tuple[object, ...]] = [
        (f"--data={tmp_path}/t.csv", images),
        (lines, listed, images),
    ]
    forms += [(f"--data=en={tmp_path}/en.csv,de={tmp_path}/de.csv", images)]
    forms += [(f"--data={tmp_path}/0.tar",), (f"--data={xm}",)]
    expected, *others = (evaluated(capsys, "retrieval", *f, f"--page={page}") for f in forms)
    assert page.read_text().count("<img ") == 4 * 8
    assert (
        expected["languages"]["de"]["mean_recall"]
        < 100
        == expected["languages"]["en"]["mean_recall"]
    )
    for other in others:
        assert (other["n"], other["mean_recall"]) == (8, expected["mean_recall"])
        for code in words:
            for way in ("image_to_text", "text_to_image"):
                assert other["languages"][code][way] == expected["languages"][code][way]
    one = evaluated(capsys, "retrieval", lines, listed, images, "--captions_per_image=1")
    assert one["languages"]["en"]["n"] == 8
    assert "captions" not in one["languages"]["en"]
    only = evaluated(capsys, "retrieval", f"--data=de={tmp_path / '0.tar'}")
    assert (only["language"], only["captions"]) == ("de", 32)

    short = tmp_path / "short.txt"
    short.write_text("red/0.png\n")
    xm.write_text('{"image/key": "00", "en": {"caption": "a"}, "de": {"captions": []}}')
    for flags, says in (
        ((lines, f"--image_list={short}", images), "have not as many lines"),
        ((lines, listed, f"--images={tmp_path}"), "8 of the images that"),
        ((f"--data=en={tmp_path}/none.en", listed, images), "can't be read as lines"),
        ((f"--data={tmp_path}/00.jpg", listed, images), "can't be read as lines in UTF-8"),
        ((f"--data={xm}",), "line 1 of"),
        ((f"--data=de={tmp_path}/de.csv,de={tmp_path}/en.csv",), "names a language twice"),
        ((f"--data=de={tmp_path}/de.csv,fr=x.csv", images), "no file x.csv"),
    ):
        assert says in refused(capsys, "retrieval", *flags)


def test_equal_images_are_one_and_bad_ones_are_skipped(folders: Path, tmp_path: Path, capsys):
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        (tmp_path / f"{name}.png").write_bytes(encoded(Image.new("RGB", (9, 9), COLOURS[colour])))
    (tmp_path / "d.png").write_bytes(b"no image")
    table = tmp_path / "t.csv"
    table.write_text("image,caption\na.png,red one\nb.png,red two\nc.png,blue\nd.png,green\n")
    result = evaluated(capsys, "retrieval", f"--data={table}")
    assert (result["n"], result["captions"], result["skipped"]) == (2, 3, 1)
    assert result["image_to_text"]["R@1"] == 100
    (tmp_path / "u.csv").write_text("image,caption\nd.png,a\n")
    for flags, says in (
        ((f"--data={table}", f"--images={folders}"), "4 of the images"),
        ((f"--data={tmp_path / 'u.csv'}",), "no pair with a readable image"),
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
