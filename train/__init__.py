"""Shards in, an ALIGN model out. Imports nothing of the pipeline.

Opens no connection but to where a model is that is named, and not a folder.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import Any

# Before torch is imported: its threads wait for each other by spinning, and where another program
# has the core, that takes the time which the thread waited for needs. On 2 cores, a step of `tiny`
# took 0.16 s alone and 6 s beside busy neighbours; with few spins, 0.8 s beside the same.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
# Texts have another length in each micro-batch: blocks of fixed sizes would be cut into pieces that
# the next do not fit. torch before 2.9 does not read it.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


class _Command(ModuleType):
    """`alignset.train(...)` is the command, although this package has its name."""

    def __call__(self, **flags: object) -> Any:
        """Trains a model: see `alignset.commands.train`."""
        return importlib.import_module("alignset.commands").train(**flags)


sys.modules[__name__].__class__ = _Command
