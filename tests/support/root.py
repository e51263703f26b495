"""Where the project is, and what is in it."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
IGNORED = {"out", "site", "build", "dist"}  # of .gitignore; a name with a dot is not a room either


def tracked(pattern: str = "*") -> list[Path]:
    """The project's files; the tests also run where there is no git."""
    files = [
        path.relative_to(ROOT)
        for path in ROOT.rglob(pattern)
        if path.is_file() and not path.is_symlink()
    ]
    return sorted(
        path
        for path in files
        if not any(part.startswith(".") for part in path.parts)
        and path.parts[0] not in IGNORED
        and not any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    )


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax of a file below the project's folder, read once. Do not change it."""
    return ast.parse((ROOT / path).read_text())
