"""The examples in docstrings (`>>>`) are what the functions return."""

import doctest
import importlib

import pytest

from tests.support.root import ROOT, tracked

WITH_EXAMPLES = [
    path
    for path in tracked("*.py")
    if path.parts[0] in ("alignset", "pipeline", "train", "transforms")
    and ">>> " in (ROOT / path).read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_the_examples_of_a_module_are_true(path) -> None:
    name = ".".join(path.with_suffix("").parts)
    module = importlib.import_module(name if path.parts[0] == "alignset" else f"alignset.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
