"""Tests and benchmarks import what is there, also within functions: no type checker reads them."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.root import parsed, tracked

CALLERS = [path for path in tracked("*.py") if path.parts[0] in ("tests", "benchmarks")]


def missing_names(tree: ast.AST) -> Iterator[str]:
    """What a file imports from alignset, also within functions, and what is not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("alignset."):
            for name in (alias.name for alias in node.names):
                is_word = re.search(rf"\b{name}\b", _source(node.module) or "")
                if not is_word and _source(f"{node.module}.{name}") is None:
                    yield f"{node.module}.{name}"


@cache
def _source(module: str) -> str | None:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # nor is its package
        return None
    return Path(found.origin).read_text() if found and found.origin else None


def test_what_tests_and_benchmarks_import_is_there() -> None:
    missing = {str(path): [*missing_names(parsed(path))] for path in CALLERS}
    assert {path: names for path, names in missing.items() if names} == {}
    code = (
        "def f():\n    from alignset.train.data.none import a\n    from alignset.train import none"
    )
    assert [*missing_names(ast.parse(code))] == [
        "alignset.train.data.none.a",
        "alignset.train.none",
    ]
