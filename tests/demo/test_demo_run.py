"""The whole command on the demo's web, against the truth of every pair."""

import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import ImageColor

from alignset.demo.__main__ import curate_command
from alignset.demo.compare import compare, read_run
from alignset.demo.picture import DROPPED, KEPT, WIDTH, draw_picture
from alignset.demo.serve import serving
from alignset.demo.web import build
from tests.support.root import ROOT
from tests.support.stores import free_port

# The demo itself, which make demo runs too.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web_and_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("demo")
    web, output, port = folder / "web", folder / "set", free_port()
    flags = build(web, small=True, port=port)
    with serving(web, port):
        done = subprocess.run(
            curate_command(web, output, flags),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return web, output


def test_every_pair_meets_its_fate(web_and_run: tuple[Path, Path]):
    web, output = web_and_run
    comparison = compare(pq.read_table(web / "truth.parquet"), read_run(output))
    assert comparison.differences == []
    assert comparison.agreeing == comparison.total


def test_the_picture_shows_the_funnel_and_pairs(web_and_run: tuple[Path, Path]):
    web, output = web_and_run
    picture = draw_picture(output, web)
    colours = {colour for _, colour in picture.getcolors(picture.width * picture.height) or []}
    assert {ImageColor.getrgb(name) for name in (KEPT, DROPPED)} <= colours
    assert len(colours) > 1000  # photographs
    assert picture.width == WIDTH
