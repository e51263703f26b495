"""The shape of the project: which part may import which, what its modules may be called."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from alignset.pipeline.options import GROUPS
from tests.support.root import ROOT, parsed, tracked

# The packages, and what of ours each may import. docs/architecture.md has both tables as an image.
PACKAGES = {
    # By name, where a command or a part of the Python API is asked for.
    "alignset": "ablate curation dataset steps beam_runner pipeline train transforms version",
    "ablate": "pipeline stoppable train transforms",
    "curation": "dataset pipeline transforms",
    "steps": "curation pipeline transforms",
    "dataset": "pipeline transforms",
    "beam_runner": "pipeline stoppable",
    "pipeline": "transforms command_help stoppable version train",  # train: to score pairs
    "transforms": "",
    "train": "transforms command_help stoppable version",  # of transforms: files, copies
    "command_help": "",
    "stoppable": "",
    "version": "",
    "flink": "",
    "demo": "",  # its truth is independent of what it is compared with
}
# Their packages, and which of these each may import. `settings` stands for the modules of
# BASE; a package's name for what else is at its root.
PARTS = {
    "transforms": {
        "columns": "",
        "storage": "columns",
        "workers": "columns storage",
        "rules": "columns",
        # Each of those below may import the four above.
        "images": "",
        "opt_outs": "images",
        "pages": "opt_outs",
        "pairs": "",
        "corpus": "pairs",
        "fetching": "opt_outs",
        "decontamination": "images",
        "blocklists": "pairs corpus fetching decontamination images",
        "safety": "images",
        "shards": "blocklists decontamination fetching images opt_outs pairs safety",
        "duplicates": "decontamination images pairs shards",
    },
    "pipeline": {
        "settings": "",
        "inputs": "settings",
        "runs": "settings inputs",
        "datasets": "settings inputs runs",
        "look": "settings inputs runs datasets",
        "report": "settings runs datasets",
        "documents": "settings inputs runs datasets report",
        "takedown": "settings inputs runs datasets report documents",
        "pipeline": "settings inputs runs datasets documents",
        "deduplicate": "settings runs datasets documents pipeline",
    },
    "train": {
        "settings": "",
        "data": "settings",
        "model": "settings data",
        "optim": "settings",
        "runs": "settings data model optim",
        "evaluate": "settings data model runs",
        "search": "settings data model runs",
        "train": "settings data model optim runs evaluate",
        "classify": "settings data model runs",
    },
}
GROUND = {"columns", "storage", "workers", "rules"}
BASE = {
    "pipeline": {
        "rules",
        "job",
        "options",
        "command_line",
        "errors",
        "shown_texts",
        "command",
        "other_flags",
        "rule_files",
        "removal_reasons",
    },
    "train": {"settings", "errors", "presets", "towers", "peer_flags"},
}
COMMAND = "alignset.__main__"
SHAPELESS = {"utils", "util", "common", "helpers", "misc", "manager", "handler", "processor"}


SOURCES = tracked("*.py")


def module_of(path: Path) -> str:
    """The name of a module below the namespace `alignset`, which is also the command's own."""
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    return (
        module.removesuffix(".__main__") if module == COMMAND else module.removeprefix("alignset.")
    )


def package_of(path: Path) -> str:
    return module_of(path).partition(".")[0]


PRODUCT = [path for path in SOURCES if package_of(path) in PACKAGES]


MODULES = {module_of(path) for path in PRODUCT}


def imported_modules(path: Path) -> set[str]:
    """Those of our modules that a file imports anywhere, within functions too."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("alignset.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            here = {name.removeprefix("alignset.") for name in whole} & MODULES
            names |= here or {(node.module or "").removeprefix("alignset.")}
    ours = {*PACKAGES, "tests", "benchmarks"}
    return {name for name in names if name.partition(".")[0] in ours}


def part_of(module: str) -> str:
    """The package that a module of a divided package is in."""
    package, *rest = module.split(".")
    if rest and rest[0] in PARTS[package]:
        return rest[0]
    return "settings" if rest and rest[0] in BASE.get(package, set()) else package


def arrows() -> set[tuple[str, str]]:
    """Which package imports which, as the sources have it: (package.part, package.part)."""
    between = set()
    for path in PRODUCT:
        package = path.parts[0]
        if package not in PARTS:
            continue
        here = part_of(module_of(path))
        for module in imported_modules(path):
            if module.partition(".")[0] == package and part_of(module) != here:
                between.add((f"{package}.{here}", f"{package}.{part_of(module)}"))
    return between


def allowed() -> set[tuple[str, str]]:
    return {
        (f"{package}.{part}", f"{package}.{other}")
        for package, parts in PARTS.items()
        for part, others in parts.items()
        for other in others.split()
    }


def on_the_ground(arrow: tuple[str, str]) -> bool:
    """Whether it leads from an upper package of `transforms` to one that all may import."""
    here, there = (name.removeprefix("transforms.") for name in arrow)
    return there in GROUND and here not in GROUND


def test_there_is_something_to_look_at() -> None:
    assert {package_of(path) for path in PRODUCT} == set(PACKAGES)
    imported = imported_modules(Path("pipeline/curate.py"))
    assert {"pipeline.command", "transforms.corpus.judge_pairs"} <= imported
    for package, parts in PARTS.items():
        folders = {
            path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()
        }
        assert folders == parts.keys() - {"settings", package}


def test_packages_import_one_way() -> None:
    for path in PRODUCT:
        package = package_of(path)
        imported = {module.partition(".")[0] for module in imported_modules(path)}
        assert imported <= {package, *PACKAGES[package].split()}, path


def test_the_trainer_imports_what_reads_hostile_files_and_what_finds_copies_alone() -> None:
    trainer = [path for path in PRODUCT if package_of(path) == "train"]
    imported = set().union(*map(imported_modules, trainer))
    of_curation = {module for module in imported if module.startswith("transforms")}
    of_copies = ("copy_index", "copy_index_files", "copy_planes")
    of_images = ("decode", "file_formats", "file_look", "open_picture")
    assert of_curation == {
        "transforms.storage.tar_members",
        "transforms.workers.limited_process",
        *(f"transforms.images.{name}" for name in ("examine", *of_images)),
        "transforms.rules.rule",  # what a score of ours is to a run
        *("transforms.fetching.fetch", "transforms.fetching.fetch_settings"),  # a query's image
        *(f"transforms.decontamination.{name}" for name in of_copies),
    }


def test_packages_import_those_that_the_table_names_and_each_of_these() -> None:
    assert {arrow for arrow in arrows() if not on_the_ground(arrow)} == allowed()


def test_no_package_is_imported_by_one_below_it() -> None:
    for package, parts in PARTS.items():
        order = [*parts]
        for part, others in parts.items():
            for other in others.split():
                assert order.index(other) < order.index(part), (package, part, other)


def test_the_diagram_of_the_packages_is_the_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    picture = re.search(r"```mermaid\n(.*?)```", page, re.DOTALL)
    assert picture
    drawn = set(re.findall(r"^ *(\w+) --> (\w+)$", picture[1], re.MULTILINE))
    packages = {(name, other) for name, others in PACKAGES.items() for other in others.split()}
    parts = {tuple(name.replace(".", "_") for name in arrow) for arrow in allowed()}
    assert drawn == packages | parts


@pytest.mark.parametrize("package", PARTS)
def test_each_package_says_what_belongs_in_it_and_nothing_else(package: str) -> None:
    for path in (ROOT / package).glob("*/__init__.py"):
        (only,) = parsed(path).body
        assert isinstance(only, ast.Expr), path
        assert isinstance(only.value, ast.Constant), path


@pytest.mark.parametrize("package", PARTS)
def test_the_table_of_packages_has_their_docstrings(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for path in (ROOT / package).glob("*/__init__.py"):
        said = " ".join((ast.get_docstring(parsed(path)) or "").split())
        assert f"| `{package}` | `{path.parent.name}/` | {said} |" in page


def test_no_module_is_named_after_nothing() -> None:
    shapeless = [p for p in SOURCES if SHAPELESS & {p.stem, *p.stem.split("_"), *p.parts[:-1]}]
    assert shapeless == []


def test_tests_are_in_tests_alone() -> None:
    assert [path for path in SOURCES if path.match("test_*.py") and path.parts[0] != "tests"] == []


# Modules that are tested through those that use them.
WITHOUT_A_TEST = """
    transforms/columns/pair_columns transforms/storage/blocks transforms/workers/unexpected
    transforms/pages/archive_files transforms/pages/archive_members transforms/pages/wat_links
    transforms/corpus/remembered transforms/blocklists/kinds
    transforms/blocklists/listed_images transforms/shards/build_shard
    transforms/fetching/fetch_settings
    transforms/fetching/curl_multi
    transforms/images/open_picture
    transforms/shards/rewrite_shards
    transforms/shards/changed_pairs transforms/shards/joined_pairs transforms/shards/descriptors
    transforms/duplicates/find_copies transforms/duplicates/contents
    transforms/shards/failed_fetches transforms/shards/shard_stats transforms/shards/shard_places
    transforms/shards/shard_settings transforms/shards/shard_images
    transforms/corpus/corpus_documents transforms/corpus/write_hash_sets
    transforms/pairs/language_kernels transforms/pairs/language_tables
    transforms/decontamination/overlap_settings transforms/images/onnx_networks
    transforms/images/network_files
    transforms/images/resize_settings transforms/pages/page_files
    transforms/workers/counts transforms/workers/threaded_dofn
"""


def test_each_module_of_transforms_has_its_test_or_is_part_of_another() -> None:
    without = {
        str(path.with_suffix(""))
        for path in PRODUCT
        if path.parts[0] == "transforms" and path.name != "__init__.py"
        if not (ROOT / "tests" / path.parent / f"test_{path.name}").exists()
        if path.parent.name != "rules"  # each rule: test_catalogue.py
    }
    assert without == set(WITHOUT_A_TEST.split())


# Tests of `__main__.py`, and of a page in a browser.
OF_COMMANDS = {
    *("test_run.py", "test_classify.py", "test_validated_run.py", "test_resumed_run.py"),
    "test_page.py",
}


@pytest.mark.parametrize("package", PARTS)
def test_tests_stand_where_their_modules_do(package: str) -> None:
    for path in (ROOT / "tests" / package).rglob("test_*.py"):
        folder = path.parent.relative_to(ROOT / "tests")
        module = ROOT / folder / f"{path.stem.removeprefix('test_')}.py"
        assert module.exists() or path.name in OF_COMMANDS, path


def test_tests_import_helpers_by_one_name() -> None:
    helpers = {helper.stem for helper in (ROOT / "tests" / "support").glob("*.py")} - {"__init__"}
    for path in tracked("tests/**/*.py"):
        names = set()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        assert not {name.partition(".")[0] for name in names} & helpers, path


@pytest.mark.parametrize("settings", GROUPS.values(), ids=lambda kind: kind.__name__)
def test_the_types_of_flags_can_be_read(settings: type) -> None:
    fields = dataclasses.fields(settings)
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
