"""The project weighs at most what tests/lint/weight.toml says."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.support.root import ROOT, tracked

PRODUCT = ("alignset", "pipeline", "transforms", "train", "beam_runner.py")


def weight() -> dict[str, int]:
    """The figures of weight.toml as they are now."""
    sources = tracked("*.py")  # no links: each file once
    pages = [path for path in tracked("*.md") if path.parts[0] == "docs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        "product_lines": _lines(path for path in sources if path.parts[0] in PRODUCT),
        "test_lines": _lines(path for path in sources if path.parts[0] == "tests"),
        "dependencies": len(project["dependencies"]),
        "doc_words": sum(
            len((ROOT / page).read_text(encoding="utf-8").split())
            for page in [*pages, "README.md", "CONTRIBUTING.md"]
        ),
    }


def _lines(paths: Iterable[Path]) -> int:
    return sum((ROOT / path).read_bytes().count(b"\n") for path in paths)


def excesses(found: Mapping[str, int], most: Mapping[str, int]) -> list[str]:
    """A line for each figure that is exceeded: what to do about it."""
    return [
        f"{name} is {found[name]:,}, and tests/lint/weight.toml has {most[name]:,}: make it "
        "lighter, or raise the figure together with a line in docs/decisions.md that says what the "
        "user gets for it"
        for name in found
        if found[name] > most[name]
    ]


def test_nothing_is_heavier_than_its_figure() -> None:
    most = tomllib.loads((ROOT / "tests/lint/weight.toml").read_text())
    found = weight()
    assert found.keys() == most.keys()
    assert min(found.values()) > 0
    if lines := excesses(found, most):
        pytest.fail("\n".join(lines), pytrace=False)


def test_a_figure_that_is_exceeded_is_named() -> None:
    assert excesses({"a": 1, "b": 2}, {"a": 1, "b": 2}) == []
    (line,) = excesses({"a": 1, "b": 1_234}, {"a": 1, "b": 1_233})
    assert line.startswith("b is 1,234, and tests/lint/weight.toml has 1,233: make it lighter")
