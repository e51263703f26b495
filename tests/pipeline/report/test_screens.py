"""Lines below a notebook's cell, as IPython is given them; terminals are tested by whole runs."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from alignset.pipeline.report.screens import NotebookCell, open_screen

LINES = ["images   1 of 2 <shards>", "speed    -"]


class Shown:
    """IPython's `display`, and the handle that it returns: what is shown, first to last."""

    def __init__(self) -> None:
        self.all: list[dict[str, str]] = []

    def __call__(self, data: dict[str, str], *, raw: bool, display_id: bool) -> "Shown":
        assert raw
        assert display_id
        self.all.append(data)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.all.append(data)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """IPython as the kernel of a notebook has it."""
    shown = Shown()
    of_display = ModuleType("IPython.display")
    of_display.display = shown  # type: ignore[attr-defined]
    put_ipython(monkeypatch, SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython.display", of_display)
    return shown


def put_ipython(monkeypatch: pytest.MonkeyPatch, shell: object) -> None:
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)


def test_a_cell_shows_the_last_lines_and_then_none(notebook: Shown) -> None:
    screen = open_screen(10, LINES)
    assert isinstance(screen, NotebookCell)
    screen.draw(5, ["images   2 of 2 <shards>", "speed    9"])
    screen.close()
    first, second, last = (shown["text/plain"] for shown in notebook.all)
    assert first == f"{LINES[0]} |{' ' * 40}|\n{LINES[1]}"
    assert second == f"images   2 of 2 <shards> |{'█' * 20}{' ' * 20}|\nspeed    9"
    assert last == ""
    assert notebook.all[1]["text/html"] == f"<pre>{second}</pre>".replace(
        "<shards>", "&lt;shards&gt;"
    )


@pytest.mark.parametrize(
    ("done", "total", "filled"), [(0, 0, 0), (3, 4, 30), (4, 4, 40), (9, 4, 40)]
)
def test_a_bar_is_never_too_long(notebook: Shown, done: int, total: int, filled: int) -> None:
    screen = open_screen(total, LINES)
    assert screen is not None
    screen.draw(done, LINES)
    assert notebook.all[-1]["text/plain"].count("█") == filled


@pytest.mark.parametrize("shell", [None, SimpleNamespace()])  # of IPython on a terminal
def test_elsewhere_there_is_no_cell(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put_ipython(monkeypatch, shell)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert open_screen(10, LINES) is None
