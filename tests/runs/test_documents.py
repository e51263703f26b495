"""Documents of real runs say what is so, and those of a dataset that a command has changed.

All sentences by feature are in tests/pipeline/documents/test_documents.py.
"""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.takedown.__main__ import main as takedown
from tests.support.command import funnel, rejected, succeed
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

FLAGS = (
    *("--allow_private_addresses", "--retries=0"),
    *("--max_unsafe_score=1", "--min_image_side=1", "--language="),
)
COUNT, TAGGED = 12, 2  # images, of which two have the bytes of others; and those that are opted out
CARD, REPORT = "README.md", "report.html"
Datasets = Callable[[str], Path]


@pytest.fixture(scope="module")
def web() -> SmallWeb:
    with small_web() as server:
        for n in range(COUNT + TAGGED):
            seed = n if n < COUNT - 2 or n >= COUNT else n - COUNT + 2
            server.files[f"/{n}"] = encoded(photograph(300 + seed, 160, 120), "JPEG")
            if n >= COUNT:
                server.headers[f"/{n}"] = {"X-Robots-Tag": "noai"}
        yield server


@pytest.fixture(scope="module")
def datasets(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    """The datasets by their names, each made when it is first wanted."""
    folder = tmp_path_factory.mktemp("documents")
    rows = range(COUNT + TAGGED)
    table = pa.table(
        {
            "url": [f"{web.url}/{n}" for n in rows],
            "caption": [f"a picture of thing {n} on a table" for n in rows],
            "similarity": [n / 100 for n in rows],
        }
    )
    pq.write_table(table, folder / "all.parquet")
    ranked = ("--columns=similarity", "--keep_most_similar=0.5")

    @cache
    def made(name: str) -> Path:
        flags = (*FLAGS, *(ranked if name == "most_similar" else ()))
        succeed(folder / "all.parquet", folder / name, *flags)
        return folder / name

    return made


def test_counts_of_opt_outs_agree_after_a_takedown(
    datasets: Datasets, web: SmallWeb, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    shutil.copytree(datasets("opt_outs"), out)
    lists = tmp_path / "list.txt"
    lists.write_text(f"url:{web.url}/{COUNT}\nurl:{web.url}/0\n")
    takedown([str(out), f"--blocklist=mine={lists}"])
    (stated,) = (fate for fate in rejected(out) if fate.url == f"{web.url}/{COUNT}")
    assert (stated.reason, stated.detail) == ("taken_down", "mine:url; opted_out: x_robots_tag")
    counts = {step["step"]: step["dropped"] for step in funnel(out)["steps"]}
    assert counts["opt_outs"] == {"opted_out": 1}
    assert funnel(out)["opted_out"]["details"] == {"x_robots_tag": 1}
    card = (out / CARD).read_text()
    assert "| `x_robots_tag` | 1 |\n| `taken_down` | 2 |" in card


def test_reported_opt_outs_are_those_of_pairs_that_stay(
    datasets: Datasets, web: SmallWeb, tmp_path: Path
) -> None:
    source, out = datasets("opt_outs").parent / "all.parquet", tmp_path / "set"
    succeed(source, out, *FLAGS, "--opt_outs=report")
    assert funnel(out)["opted_out"]["details"] == {"x_robots_tag": 2}
    (tmp_path / "list.txt").write_text(f"url:{web.url}/{COUNT}\n")
    takedown([str(out), f"--blocklist=mine={tmp_path}/list.txt"])
    assert funnel(out)["opted_out"]["details"] == {"x_robots_tag": 1}
    (gone,) = rejected(out)
    assert gone.detail == "mine:url"


def test_the_command_for_another_threshold_keeps_no_part_of_a_part(datasets: Datasets) -> None:
    page = (datasets("most_similar") / REPORT).read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert not [word for word in data["command"] if "keep_most_similar" in word]
    assert "It leaves --keep_most_similar out" in page
