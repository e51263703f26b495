"""The shape of the project: which room may import which, what its modules may be called."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

from pipeline.options import GROUPS
from tests.support.root import ROOT

# Of our own rooms, what each may import.
MAY_IMPORT = {
    "beam_runner": {"pipeline", "stoppable"},
    "stoppable": set(),
    "pipeline": {"pipeline", "transforms"},
    "transforms": {"transforms"},
    "train": {"train", "stoppable"},
    "flink": {"flink"},
    "demo": {"demo"},  # its truth is independent of what it is compared with
}
ROOMS = {*MAY_IMPORT, "tests", "benchmarks"}
SHAPELESS = {"utils", "util", "common", "helpers", "misc", "manager", "handler", "processor"}


IGNORED = {"out", "build", "dist"}  # of .gitignore; what begins with a dot is no room either


def tracked(pattern: str = "*") -> list[Path]:
    """The project's files; the tests also run where there is no git."""
    found = [path.relative_to(ROOT) for path in ROOT.rglob(pattern) if path.is_file()]
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") for part in path.parts)
        and path.parts[0] not in IGNORED
        and not any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    )


SOURCES = tracked("*.py")
PRODUCT = [path for path in SOURCES if path.parts[0].removesuffix(".py") in MAY_IMPORT]


def imported_rooms(path: Path) -> set[str]:
    """Those of our rooms that a file imports anywhere, within functions too."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(path.parts[0] if node.level else node.module or "")
    return {name.partition(".")[0] for name in names} & ROOMS


def test_there_is_something_to_look_at() -> None:
    assert {path.parts[0].removesuffix(".py") for path in PRODUCT} == set(MAY_IMPORT)
    assert imported_rooms(Path("pipeline/curate.py")) == {"pipeline", "transforms"}


@pytest.mark.parametrize("path", PRODUCT, ids=str)
def test_imports_run_one_way(path: Path) -> None:
    room = path.parts[0].removesuffix(".py")
    assert imported_rooms(path) <= MAY_IMPORT[room]


def test_no_module_is_named_after_nothing() -> None:
    shapeless = [p for p in SOURCES if SHAPELESS & {p.stem, *p.stem.split("_"), *p.parts[:-1]}]
    assert shapeless == []


def test_tests_are_in_tests_alone() -> None:
    assert [path for path in SOURCES if path.match("test_*.py") and path.parts[0] != "tests"] == []


def test_each_module_of_the_product_has_its_test_or_is_part_of_another() -> None:
    tested = {path.stem.removeprefix("test_") for path in SOURCES if path.match("tests/test_*.py")}
    untested = {p.stem for p in PRODUCT if p.parts[0] == "transforms"} - tested - {"__init__"}
    # These are tested through the modules that use them.
    assert untested <= {
        *(
            "archive_files",
            "archive_members",
            "fetch_settings",
            "host_queue",
            "transfer",
            "transfers",
            "shard_files",
        ),
        *("write_shards", "failed_fetches", "jpeg_dc", "jpeg_lanes", "jpeg_segments", "wat_links"),
        *("pillow_bounds", "unexpected"),
    }


@pytest.mark.parametrize("settings", GROUPS.values(), ids=lambda kind: kind.__name__)
def test_the_types_of_flags_can_be_read(settings: type) -> None:
    fields = dataclasses.fields(settings)
    assert fields
    assert [field.name for field in fields if not isinstance(field.type, type)] == []
    source = inspect.getsource(inspect.getmodule(settings))
    assert "from __future__ import annotations\n" not in source


def layout() -> set[str]:
    """The names in the README's picture of the tree."""
    _, _, after = (ROOT / "README.md").read_text().partition("## Layout\n```\n")
    picture, fence, _ = after.partition("```")
    assert fence, "README.md has no '## Layout' with a picture of the tree right below it"
    return {line.split()[0] for line in picture.splitlines() if line and line[0] != " "}


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="2026-11: README.md is to come")
def test_the_tree_in_the_readme_is_the_tree() -> None:
    folders = {f"{path.parts[0]}/" for path in tracked() if len(path.parts) > 1}
    scripts = {path.name for path in SOURCES if len(path.parts) == 1}
    assert layout() == {name for name in folders if not name.startswith(".")} | scripts
