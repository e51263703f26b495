"""How every benchmark shows what it found: a small table, then one line of JSON."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any


def print_results(
    rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Any], packages: Sequence[str]
) -> None:
    """Prints the rows as a table, and all the figures with the machine as one JSON line.

    Args:
      rows: the table's rows, all with the same columns.
      figures: what the JSON line says.
      packages: whose versions it names.
    """
    print_table(rows)
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
    print(json.dumps({**figures, **machine}))


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows, all with the same columns."""
    columns = list(rows[0])
    shown = [columns] + [[_shown(row[name]) for name in columns] for row in rows]
    widths = [max(len(line[at]) for line in shown) for at in range(len(columns))]
    for line in shown:
        first, *rest = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *rest]))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
