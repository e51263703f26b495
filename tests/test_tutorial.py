"""The tutorial's notebook runs as a whole, in an empty folder, and its repository copy is clean."""

import os
import re
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.support.root import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
QUICK = {"steps=300": "steps=4", "warmup_steps=30": "warmup_steps=1", "=64": "=16"}


def read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_repository_has_no_outputs_of_the_notebook() -> None:
    cells = [cell for cell in read().cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def test_the_page_and_the_notebook_train_alike() -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8").replace(" \\\n ", "")
    commands = [line for line in page.splitlines() if line.startswith("alignset train ")]
    assert len(commands) == 1
    (cell,) = [cell.source for cell in read().cells if "alignset.train(" in cell.source]
    given = dict(re.findall(r'^    (\w+)="?([^"]+?)"?,$', cell, re.MULTILINE))
    assert given == dict(re.findall(r"--(\w+)[ =](\S+)", commands[0]))


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer steps: whether it learns is not the question here."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read()
    for cell in notebook.cells:
        if "alignset.train(" in cell.source:
            for shown, here in QUICK.items():
                cell.source = cell.source.replace(shown, here)
        if "!alignset" in cell.source:
            cell.source += "\nassert _exit_code == 0"
    client = nbclient.NotebookClient(
        notebook, timeout=1500, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    printed = "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    assert "387 pairs" in printed
    assert "TqdmWarning" not in printed
    for reason in ("wrong_language': 18", "fetch_failed': 8", "too_small': 45", "overlap': 1"):
        assert reason in printed  # how many near-duplicates are held out depends on the port
    assert "'detail': 'de'" in printed
    assert "step 4 loss " in printed
    assert "images {'R@1':" in printed
    assert (tmp_path / "OUT" / "report.html").exists()
    shown = [o.data for cell in notebook.cells for o in cell.get("outputs", ()) if "data" in o]
    assert sum("image/png" in data for data in shown) == 2
    assert sum("<iframe" in data.get("text/html", "") for data in shown) == 2
