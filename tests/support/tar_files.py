"""Tars of what a test says."""

import io
import tarfile
from pathlib import Path


def tar_of(path: Path, members: dict[str, bytes]) -> str:
    """Writes a tar of files by name; returns its path."""
    with tarfile.open(path, "w") as tar:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return str(path)
