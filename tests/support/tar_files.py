"""Tars of what a test says."""

from pathlib import Path

from tests.support import hostile_tars


def tar_of(path: Path, members: dict[str, bytes]) -> str:
    """Writes a tar of files by name; returns its path."""
    path.write_bytes(hostile_tars.tar_of(members))
    return str(path)
