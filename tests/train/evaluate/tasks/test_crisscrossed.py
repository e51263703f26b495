"""Crisscrossed Captions, from files of its form, over coloured images."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.support.evaluations import evaluated, refused
from tests.support.train_shards import COLOURS, encoded

NAMES = list(COLOURS)


def image(i: int) -> str:
    return f"COCO_val2014_{i:012d}.jpg"


def caption(i: int) -> str:
    return f"COCO_val2014:sentid:{i}"


def write(folder: Path, kind: str, columns: str, rows: list[tuple]) -> None:
    lines = [f"{columns},agg_score,sampling_method", *(",".join(map(str, r)) for r in rows)]
    (folder / f"{kind}_test.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """Eight images, twice each (16), with two captions each, and judgements: of the same colour
    5, of the colour before 1."""
    (tmp_path / "images" / "val2014").mkdir(parents=True)
    entries, sits, sts, sis = [], [], [], []
    for i in range(16):
        colour = tuple(max(0, value - i // 8) for value in COLOURS[NAMES[i % 8]])
        picture = Image.new("RGB", (20, 20), colour)
        (tmp_path / "images" / "val2014" / image(i)).write_bytes(encoded(picture))
        sentences = [
            {"raw": f"a {NAMES[i % 8]} picture {i}", "sentid": 2 * i},
            {"raw": f"all {NAMES[i % 8]} {i}", "sentid": 2 * i + 1},
        ]
        entries.append({"filename": image(i), "filepath": "val2014", "split": "test"})
        entries[-1]["sentences"] = sentences
        other, before = (i + 8) % 16, (i + 7) % 16
        for judged, score in ((other, 5 - i / 99), (before, 1 + i / 99)):
            sits.append((caption(2 * i), image(judged), score, "c2i_intrasim"))
            sts.append((caption(2 * i), caption(2 * judged), score, "c2c_isim"))
            sis.append((image(i), image(judged), score, "i2i_csim"))
    (tmp_path / "coco.json").write_text(json.dumps({"images": entries}))
    write(tmp_path, "sits", "caption,image", sits)
    write(tmp_path, "sts", "caption1,caption2", sts)
    write(tmp_path, "sis", "image1,image2", sis)
    return [
        f"--data={tmp_path}",
        f"--captions={tmp_path / 'coco.json'}",
        f"--images={tmp_path / 'images'}",
    ]


def test_all_four_ways_and_three_correlations(flags, capsys):
    result = evaluated(capsys, "crisscrossed", *flags)
    assert (result["n"], result["captions"]) == (16, 32)
    ways = result["retrieval"]
    assert {way: of["n"] for way, of in ways.items()} == {
        "image_to_text": 16,
        "text_to_image": 32,
        "text_to_text": 32,
        "image_to_image": 16,
    }
    for way in ("image_to_text", "text_to_image", "text_to_text", "image_to_image"):
        assert ways[way]["R@5"] == 100, way
    # The other image of its colour is the nearest, and an image isn't its own candidate.
    assert ways["image_to_image"]["R@1"] == 100
    assert ways["image_to_image"]["chance"]["R@1"] == pytest.approx(100 / 15, abs=1e-3)
    for kind, of in result["correlation"].items():
        assert of["n"] == 32
        assert of["spearman"] > 60, kind
        low, high = result["intervals"]["correlation"][kind]["spearman"]
        assert low <= of["spearman"] <= high
    assert result["intervals"]["retrieval"]["text_to_text"]["R@5"] == [100, 100]


def test_bad_input_is_one_line(flags, tmp_path: Path, capsys):
    sis = tmp_path / "sis_test.csv"
    text = sis.read_text()
    for content, says in (
        (text.replace(image(3), image(77)), f"names '{image(77)}', which is not in the split"),
        (text.replace(",1.0,", ",low,"), "'low' is not a number"),
        (text.partition("\n")[0] + "\n", "0 pairs"),
        ("a,b\n", "no column 'image1'"),
    ):
        sis.write_text(content)
        assert says in refused(capsys, "crisscrossed", *flags)
    sis.unlink()
    assert "there is no file" in refused(capsys, "crisscrossed", *flags)
    sis.write_text(text)
    (tmp_path / "images" / "val2014" / image(2)).write_bytes(b"no image")
    assert "1 image of" in refused(capsys, "crisscrossed", *flags)
