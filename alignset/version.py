"""The version of this project, and the commit that it runs from."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@lru_cache
def version() -> str:
    """Finds the version of the installed project; in a clone that is not installed, its own."""
    from importlib import metadata  # which takes longer than all else here, as tomllib does

    try:
        return metadata.version("alignset")
    except metadata.PackageNotFoundError:
        import tomllib

        project = (ROOT / "pyproject.toml").read_text()
        return str(tomllib.loads(project)["project"]["version"])


@lru_cache
def commit() -> str:
    """Finds the commit of the clone that this runs from, with "-dirty" where files differ from it;
    "" where there is no clone or no git."""
    if not (ROOT / ".git").exists():
        return ""
    words = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
