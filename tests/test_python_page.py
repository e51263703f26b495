"""The examples of docs/python.md run in their order, on a small web."""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alignset
from tests.support.golden import TEXTS, evaluation_copy, evaluation_image
from tests.support.picture_files import encoded, photograph
from tests.support.root import ROOT
from tests.support.small_web import SmallWeb, small_web

# What the examples need here, and nobody on the web: the server is on loopback.
HERE = {
    'output="OUT", min_image_side=300': 'output="OUT", allow_private_addresses=True',
    'alignset.FetchImages("OUT3", ': 'alignset.FetchImages("OUT3", allow_private_addresses=True, ',
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    for name in ("val", "pages", "images"):
        (tmp_path / name).mkdir()
    (tmp_path / "val" / "1.png").write_bytes(evaluation_image())
    (tmp_path / "images" / "copy.jpg").write_bytes(evaluation_copy())
    (tmp_path / "images" / "other.jpg").write_bytes(encoded(photograph(1), "JPEG"))
    with small_web() as web:
        rows = [(_put(web, n), text) for n, text in enumerate(TEXTS[:12])]
        urls, texts = zip(*rows, ("http://a.example/1.jpg", "too short"), strict=True)
        pq.write_table(pa.table({"url": urls, "caption": texts}), "pairs.parquet")
        for page in range(2):
            tags = [f'<img src="{url}" alt="{text}">' for url, text in rows[page::2]]
            copy = f'<img src="{web.url}/copy" alt="{TEXTS[13]}">'
            (tmp_path / "pages" / f"{page}.html").write_text("".join([*tags, copy]))
        web.files["/copy"] = (tmp_path / "val" / "1.png").read_bytes()
        yield tmp_path


def _put(web: SmallWeb, number: int) -> str:
    web.files[f"/{number}"] = encoded(photograph(number, 400, 320), "JPEG")
    return f"{web.url}/{number}"


@pytest.mark.slow
def test_the_examples_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    for shown, here in HERE.items():
        assert page.count(shown) == 1
        page = page.replace(shown, here)
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) > 6
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "unknown flag 'min_image_sid'; did you mean --min_image_side?" in printed
    assert "12 {'too_few_words': 1}" in printed
    assert "('copy.jpg', NearestImage(is_copy=True, evaluation_set='imagenet'" in printed
    assert "'other.jpg'" not in printed
    of_pages = alignset.Dataset("OUT3")
    assert sorted(of_pages.kept()["caption"].to_pylist()) == sorted(TEXTS[:12])
    reasons = of_pages.rejected()["reason"].to_pylist()
    assert sorted(reasons) == ["duplicate_pair", "evaluation_overlap"]
    assert not (folder / "OUT3" / "_temporary").exists()
