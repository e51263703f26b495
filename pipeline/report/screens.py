"""Lines that are drawn again in their place: on a terminal, or below a notebook's cell."""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

_BAR = 40  # characters, below a cell


class Screen(Protocol):
    """Some lines, the first with a bar, until it is closed."""

    def draw(self, done: int, lines: list[str]) -> None:
        """Draws all lines anew."""

    def close(self) -> None:
        """Takes the lines away."""


def open_screen(total: int, lines: list[str]) -> Screen | None:
    """A screen where this process has one, else None, as where standard error is a log.

    Args:
      total: how much the bar is of. lines: the first drawing; there are as many at any time.
    """
    if display := _notebook_display():
        return NotebookCell(display, total, lines)
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Terminal(total, lines)
    return None


class Terminal:
    """Lines at the lower end of a terminal. Where that is narrow they are cut."""

    def __init__(self, total: int, lines: list[str]) -> None:
        self._stack = ExitStack()
        shape = {"leave": False, "dynamic_ncols": True, "total": total}
        first, *others = lines
        self._bars = [tqdm(desc=first, bar_format="{desc} |{bar}|", position=0, **shape)]
        for place, line in enumerate(others, 1):
            self._bars.append(tqdm(desc=line, bar_format="{desc}", position=place, **shape))
        for bar in self._bars:
            self._stack.callback(bar.close)
        self._stack.enter_context(logging_redirect_tqdm())  # warnings stand above the lines

    def draw(self, done: int, lines: list[str]) -> None:
        for bar, line in zip(self._bars, lines, strict=True):
            bar.n = done
            bar.set_description_str(line)

    def close(self) -> None:
        self._stack.close()


class NotebookCell:
    """Lines below a notebook's cell, where a cursor cannot go up, and a thread may draw.

    Args:
      display: IPython's.
    """

    def __init__(self, display: Callable[..., Any], total: int, lines: list[str]) -> None:
        self._total = max(1, total)
        self._handle = display(self._drawn(0, lines), raw=True, display_id=True)

    def draw(self, done: int, lines: list[str]) -> None:
        self._handle.update(self._drawn(done, lines), raw=True)

    def close(self) -> None:
        self._handle.update({"text/plain": "", "text/html": ""}, raw=True)

    def _drawn(self, done: int, lines: list[str]) -> dict[str, str]:
        filled = _BAR * min(done, self._total) // self._total
        first, *others = lines
        bar = f"{first} |{'█' * filled}{' ' * (_BAR - filled)}|"
        text = "\n".join([bar, *others])
        return {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}


def _notebook_display() -> Callable[..., Any] | None:
    """IPython's `display` in the kernel of a notebook, else None."""
    ipython = sys.modules.get("IPython")  # a kernel has it; elsewhere it need not be installed
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel"):
        return None
    from IPython.display import display

    return display
