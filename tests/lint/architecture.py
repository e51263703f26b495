"""The shape of the project: what its modules may be called, and the pages that show it."""

import ast
import inspect
import tomllib
from pathlib import Path

import pytest

from alignset.pipeline.settings import GROUPS
from alignset.settings import declared_fields
from tests.support.root import ROOT, parsed, tracked

PACKAGES = ("pipeline", "transforms", "train")
SHAPELESS = {"utils", "util", "common", "helpers", "misc", "manager", "handler", "processor"}
SOURCES = tracked("*.py")


def test_the_page_shows_the_layers_of_the_import_lint() -> None:
    """`make lint` refuses the imports; the page shows in which order packages may import."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = settings["contracts"]
    layers = ["\n".join(contract["layers"]) for contract in contracts if "containers" in contract]
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert [part for part in layers if f"```\n{part}\n```" not in page] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_what_belongs_in_it_and_nothing_else(package: str) -> None:
    for path in (ROOT / package).glob("*/__init__.py"):
        (only,) = parsed(path).body
        assert isinstance(only, ast.Expr), path
        assert isinstance(only.value, ast.Constant), path


@pytest.mark.parametrize("name", ["demo", "pipeline", "train", "transforms", "beam_runner.py"])
def test_the_package_has_links_and_no_copies(name: str) -> None:
    assert (ROOT / "alignset" / name).readlink() == Path("..", name)


def test_no_module_is_named_after_nothing() -> None:
    shapeless = [p for p in SOURCES if SHAPELESS & {p.stem, *p.stem.split("_"), *p.parts[:-1]}]
    assert shapeless == []


@pytest.mark.parametrize("settings", GROUPS.values(), ids=lambda kind: kind.__name__)
def test_the_types_of_flags_can_be_read(settings: type) -> None:
    fields = declared_fields(settings)
    assert fields
    assert [field.name for field in fields if not isinstance(field.type, type)] == []
    source = inspect.getsource(inspect.getmodule(settings))
    assert "from __future__ import annotations\n" not in source


def layout() -> set[str]:
    """The names in the image of the tree."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    _, _, after = page.partition("## The tree\n```\n")
    picture, fence, _ = after.partition("```")
    assert fence, "docs/architecture.md has no '## The tree' with a picture right below it"
    return {line.split()[0] for line in picture.splitlines() if line and line[0] != " "}


def test_the_tree_in_the_docs_is_the_tree() -> None:
    folders = {f"{path.parts[0]}/" for path in tracked() if len(path.parts) > 1}
    scripts = {path.name for path in SOURCES if len(path.parts) == 1}
    assert layout() == {name for name in folders if not name.startswith(".")} | scripts
