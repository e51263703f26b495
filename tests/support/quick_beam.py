"""What Beam finds out anew in each pipeline, kept for the 250 runs that tests make in their own
process. A command of its own gains next to nothing."""

import bz2
import sys
from collections.abc import Sequence
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

from apache_beam.internal import cloudpickle_pickler
from apache_beam.runners.worker import statecache
from apache_beam.typehints import trivial_inference


def keep_beam() -> None:
    """Makes a run in this process cheaper; what it does stays as it is."""
    _keep_types()
    # Beam measures each table that a step reads, for which it walks through all modules.
    statecache.get_deep_size = sys.getsizeof
    # It writes 100 functions of 2 kB, and level 9 needs 8 MB of memory for each.
    cloudpickle_pickler.bz2 = SimpleNamespace(
        compress=lambda body, compresslevel: bz2.compress(body, 1), decompress=bz2.decompress
    )


def _keep_types() -> None:
    """Beam infers from the bytecode of each function what it returns."""
    infer, found = trivial_inference.infer_return_type, {}

    def mark(value: Any) -> Any:
        """What the answer depends on."""
        if isinstance(value, FunctionType):
            return value.__code__, *(mark(cell.cell_contents) for cell in value.__closure__ or ())
        if isinstance(value, MethodType):
            return mark(value.__func__), type(value.__self__)
        return value if isinstance(value, type) else type(value)

    def kept(function: Any, input_types: Sequence[Any], *depth: Any, **more: Any) -> Any:
        if not isinstance(function, FunctionType | MethodType):
            return infer(function, input_types, *depth, **more)
        key = mark(function), str(input_types), depth, *more.items()
        if key not in found:
            found[key] = infer(function, input_types, *depth, **more)
        return found[key]

    trivial_inference.infer_return_type = kept
