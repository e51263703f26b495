"""What worker processes on this machine are told by environment variables."""

from __future__ import annotations

import os
import site
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alignset import stoppable
from alignset.pipeline.runs.beam_patches import WORDS, uses_in


def find_sources() -> None:
    """Lets worker processes import alignset from any folder, as this process does."""
    here = str(Path(stoppable.__file__).resolve().parents[1])
    # On PYTHONPATH an installed package of the name of a standard module would hide that.
    if here in map(os.path.realpath, [*site.getsitepackages(), site.getusersitepackages()]):
        return
    there = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([here, *filter(None, there)]))


@contextmanager
def worker_environment(argv: Sequence[str]) -> Iterator[None]:
    """While the block runs, worker processes find alignset, and import what these flags need; the
    variables of this process are set back."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", WORDS)}
    find_sources()
    os.environ[WORDS] = " ".join(sorted(uses_in(argv)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
