"""Tests and benchmarks use what is public and there: no type checker reads them."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.root import parsed, tracked

CALLERS = [path for path in tracked("*.py") if path.parts[0] in ("tests", "benchmarks")]
# Private names of others that tests and benchmarks use for want of a public one.
OF_OTHERS = {
    "_replace": "of named tuples, and documented",
    "_fields": "of named tuples, and documented",
    "_exit": "of os, and documented",
    "_repr_html_": "of IPython, and documented: what a notebook shows of a value",
    "_shutdown": "of threading: waits for threads, as multiprocessing does at a process's end",
    "_run_exitfuncs": "of atexit, which os._exit passes by",
    "_dynamo": "of torch: how many graphs were compiled",
    "_safe_read": "of Pillow: how much it reads of a file",
    "_get_lines": "of clip_benchmark: the lines of a URL that it downloads",
}
BY_NAME = {"setattr", "getattr", "delattr", "hasattr", "patch", "object"}


def private_names(tree: ast.AST) -> Iterator[str]:
    """The private names that a file imports, or takes of anything but `self` and `cls`."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            names = [] if own else [node.attr]
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            values = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
            texts = [value for value in values if isinstance(value, str)]
            names = [t.split(".")[-1] for t in texts] if called in BY_NAME else []
        yield from (name for name in names if re.match("_[^_]", name))


def test_tests_and_benchmarks_use_nothing_private_and_no_name_is_listed_in_vain() -> None:
    used = {path: set(private_names(parsed(path))) for path in CALLERS}
    assert {str(path): names for path, names in used.items() if names - OF_OTHERS.keys()} == {}
    assert set().union(*used.values()) == OF_OTHERS.keys()


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


@pytest.mark.parametrize(
    "code",
    [
        "from a import _b",
        "import a._b",
        "from a._b import c",
        "a._b",
        "a()._b = 1",
        "self.a._b",
        "patch.setattr(a, '_b', 1)",
        "patch.setattr('a._b', 1)",
        "getattr(a, '_b')",
    ],
)
def test_a_private_name_is_seen_however_it_is_used(code: str) -> None:
    assert [*private_names(ast.parse(code))] == ["_b"]
    assert [*private_names(ast.parse("self._b, cls._b, a.__b__, '_b'"))] == []
