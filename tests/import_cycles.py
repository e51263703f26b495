"""Refuses cycles of imports between files: `python -m tests.import_cycles`, run by `make lint`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.support.root import ROOT, tracked

INSTALLED = {"beam_runner", "pipeline", "transforms", "train"}


def module_of(path: Path) -> str:
    """The name by which a file is imported: what is installed is below `alignset`."""
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    return f"alignset.{name}" if name.partition(".")[0] in INSTALLED else name


def _statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a file, within functions too, but for those that only a type checker runs."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
        return
    is_for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in node.orelse if is_for_types else ast.iter_child_nodes(node):
        yield from _statements(child)


def imported(source: str, modules: Iterable[str]) -> set[str]:
    """Which of these modules a source imports by an absolute name."""
    known, names = set(modules), set()
    for node in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else str(node.module) for name in members}
    return names & known


def import_cycle(sources: Mapping[str, str]) -> list[str]:
    """The modules of a cycle, the first of them again at its end; empty where there is none.

    Args:
      sources: the text of each module, by its name.
    """
    graph = {name: imported(source, sources) - {name} for name, source in sources.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # it names each module before its importer
    return []


def main() -> int:
    """Looks at all files of the repository; returns 0, or 1 where some import one another."""
    paths = tracked("*.py")
    cycle = import_cycle({module_of(path): (ROOT / path).read_text() for path in paths})
    if cycle:
        print(f"files import one another: {' -> '.join(cycle)}", file=sys.stderr)
    return bool(cycle)


if __name__ == "__main__":
    sys.exit(main())
