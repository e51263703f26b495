"""What Beam finds out anew in each pipeline, kept for all of them: 0.6 s of CPU for each of the 300
runs that tests make in their own process. A command of its own gains next to nothing."""

import bz2
import sys
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

from apache_beam.internal import cloudpickle_pickler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.worker import statecache
from apache_beam.transforms import userstate
from apache_beam.typehints import trivial_inference
from apache_beam.typehints.decorators import IOTypeHints


def keep_beam() -> None:
    _keep_options()
    _keep_types()
    _keep_signatures()
    _keep_states()
    # Its size is asked of a table that a step reads: Beam looks through all modules for it.
    statecache.get_deep_size = sys.getsizeof
    # A function of 2 kB is written, with the memory of level 9, 100 times in a run.
    cloudpickle_pickler.bz2 = SimpleNamespace(
        compress=lambda body, compresslevel: bz2.compress(body, 1), decompress=bz2.decompress
    )


def _keep_options() -> None:
    """Beam parses a command's flags each of the 300 times that it looks at an option."""
    make, parsed = PipelineOptions.__init__, {}

    def init(self: Any, flags: Sequence[str] | None = None, **overrides: Any) -> None:
        kind = type(self), tuple(flags or ())
        if flags is None or overrides or type(self) is PipelineOptions:
            return make(self, flags, **overrides)
        if kind not in parsed:
            make(self, flags)
            parsed[kind] = deepcopy(self._visible_options)
        visible = copy(parsed[kind])
        for name, value in vars(visible).items():
            if isinstance(value, list | dict):  # Beam appends to the lists of some options
                setattr(visible, name, copy(value))
        vars(self).update(_flags=flags, _visible_options=visible, _all_options={**vars(visible)})

    PipelineOptions.__init__ = init


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


def _keep_signatures() -> None:
    """Beam reads the annotations of each method of each DoFn many times."""
    read, found = IOTypeHints.from_callable, {}

    def kept(function: Callable) -> IOTypeHints | None:
        if not isinstance(function, MethodType):
            return read(function)
        if function.__func__ not in found:
            found[function.__func__] = read(function)
        return found[function.__func__]

    IOTypeHints.from_callable = kept


def _keep_states() -> None:
    """Beam looks through a DoFn's attributes for states and timers eight times in a pipeline."""
    find, specs = userstate.get_dofn_specs, {}

    def kept(dofn: Any) -> Any:
        if type(dofn) not in specs:
            specs[type(dofn)] = find(dofn)
        return specs[type(dofn)]

    userstate.get_dofn_specs = kept
