"""The files that a folder holds, or that a glob or a path names."""

from __future__ import annotations

import glob
import os
import stat
from pathlib import Path

from alignset.transforms.storage.files import is_local
from alignset.transforms.storage.object_stores import match_objects


def _size(path: str) -> int | None:
    """Bytes of a file; None where there is none, or none any more: a run may be resumed here."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def match(pattern: str) -> list[tuple[str, int]]:
    """The files under a folder, or that a glob or a path names: (path, bytes), sorted."""
    if is_local(pattern):
        folder = Path(pattern).is_dir()
        names = glob.glob(f"{glob.escape(pattern)}/**" if folder else pattern, recursive=True)
        files = [(name, size) for name in names if (size := _size(name)) is not None]
    else:
        listed = [] if pattern.endswith("/") else match_objects(pattern)
        folder = not listed and "*" not in pattern
        if folder:
            listed = match_objects(f"{pattern.rstrip('/')}/**")
        files = [(item.path, item.size_in_bytes) for item in listed]
    if folder:
        files = [item for item in files if not Path(item[0]).name.startswith((".", "_"))]
    return sorted(files)
