"""The processes of this machine, as /proc tells of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def children(parent: int) -> Iterator[int]:
    """The processes that a process has started and that live."""
    for pid, fields in _processes():
        if int(fields[1]) == parent:
            yield pid


def in_group(group: int) -> bool:
    """Whether any process of a group lives."""
    return any(int(fields[2]) == group and fields[0] != "Z" for _, fields in _processes())


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Each process, and what /proc says of it: state, parent, group."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()[:3]
