"""The page: one file that needs nothing beside itself, whatever the captions say."""

import hashlib
from pathlib import Path

from PIL import Image

from alignset.train.evaluate.page import Card, Section, TaskResult, numbers, write_page
from alignset.train.evaluate.task_table import WordsSettings
from tests.support.train_shards import encoded

RESULT = {
    "task": "retrieval",
    "n": 3,
    "image_to_text": {"R@1": 50.0},
    "intervals": {"image_to_text": {"R@1": [40.0, 60.0]}},
    "bootstrap": {"seed": 0},
    "model": {"name": "<i>m", "kind": "AlignModel", "sha256": "a" * 64},
    "data": {"data": "x"},
}


def test_hostile_captions_are_text(tmp_path: Path):
    image = encoded(Image.new("RGB", (900, 300), "red"))
    lines = ("<script>alert(1)</script>", "x" * 5000, "\ud800")
    outcome = TaskResult(
        {},
        [Section("<b>", [Card(hashlib.sha256(image).digest(), lines, False), Card(b"", ("a",))])],
        lambda: [
            b"no image, and nobody asks for it",
            image,
        ],
    )
    page = tmp_path / "page.html"
    write_page(WordsSettings(model="m", data="d", page=str(page)), RESULT, outcome)
    html = page.read_text()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "x" * 301 not in html
    assert html.count("<img ") == 1
    assert "http" not in html.replace("http-equiv", "")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_numbers_stand_beside_their_intervals():
    values = {name: RESULT[name] for name in ("n", "image_to_text", "intervals")}
    expected = [("n", "3", ""), ("image_to_text R@1", "50", " 40 to 60 ")]
    assert [*numbers(values, RESULT["intervals"])] == expected
