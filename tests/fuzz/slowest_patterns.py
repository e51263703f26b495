"""Prints for each function the pattern that takes longest.

python -m tests.fuzz.slowest_patterns
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from tests.fuzz.growth import LARGE, cpu_seconds
from tests.fuzz.steps import patterns
from tests.fuzz.test_pages_growth import WALKS


def worst(
    function: Callable[[bytes], object], tokens: Sequence[bytes], count: int = 60
) -> tuple[float, bytes]:
    """Seconds of CPU for a MB of the pattern that takes longest, and how that begins."""
    bodies = [make(LARGE) for make in patterns(tokens, count, seed=1)]
    return max((cpu_seconds(function, body) / len(body) * 1e6, body[:40]) for body in bodies)


def main() -> int:
    """Prints the worst of each function, slowest last."""
    named = dict(WALKS)
    for target in ("jpeg", "pictures", "shards", "texts", "urls"):
        functions = getattr(importlib.import_module(f"tests.fuzz.{target}"), "GROWTH", {})
        named |= {f"{target}: {name}": walk for name, walk in functions.items()}
    rows = []
    for name, (function, tokens) in named.items():
        function(tokens[0] * 9)  # what is compiled or made once
        rows.append((*worst(function, tokens), name))
    for seconds, body, name in sorted(rows):
        print(f"{seconds:8.2f} s a MB  {name:28} {body!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
