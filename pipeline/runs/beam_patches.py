"""Changes of Beam at run time, mostly for a faster start.

Nothing here changes what a pipeline does. `ALIGNSET_WITHOUT_PATCHES` leaves some out, by the names
of PATCHES with commas between, or all of them: `all`. The times are of one pipeline, `--text_only`
on 1,000 pairs, on 2 cores of an Intel Xeon or AMD EPYC; a run has two or three.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import shlex
import site
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import alignset

# Beam is imported within the functions: `quick_imports` must come before it.


WORDS = "ALIGNSET_WORDS"  # by which worker processes are told of the command's arguments
_FOREIGN = ("--rules", "--score_model")  # what users and models import is not known
# What Beam and numba import where they find it, and the flags' words that ask for it.
_OPTIONAL = {
    "pandas": _FOREIGN,
    "scipy": _FOREIGN,
    "bson": _FOREIGN,
    "pymongo": _FOREIGN,
    "apache_beam.io.gcp.bigquery": (),
    "google.api_core": ("gs://", "dataflow"),
    "google.auth": ("gs://", "dataflow"),
    "google.cloud": ("gs://", "dataflow"),
    "apitools": ("gs://", "dataflow"),
    "boto3": ("s3://",),
    "cffi": _FOREIGN,
}


def _is_wanted(name: str) -> bool:
    left_out = os.environ.get("ALIGNSET_WITHOUT_PATCHES", "").split(",")
    return name not in left_out and "all" not in left_out


def uses_in(argv: Sequence[str]) -> set[str]:
    """The words of a command's arguments that ask for optional packages."""
    words = " ".join(argv).lower()
    return {use for uses in _OPTIONAL.values() for use in uses if use in words}


class _Hidden(MetaPathFinder):
    """Packages that are not needed here, though others import them where they find them."""

    def __init__(self, words: set[str]) -> None:
        self._names = {name for name, uses in _OPTIONAL.items() if words.isdisjoint(uses)}

    def find_spec(self, name: str, *_: object) -> None:
        if name in self._names:
            raise ModuleNotFoundError(f"{name} is hidden while others start", name=name)


def words_of_command() -> list[str]:
    """In a worker process, the command's arguments that `quick_imports` reads."""
    return os.environ.get(WORDS, "").split()


@contextmanager
def quick_imports(argv: Sequence[str] = ()) -> Iterator[None]:
    """Imports without what is not needed, nor garbage collection, since nothing made here is
    garbage. Named `imports`; saves 1.7 s a run."""
    # Of a module that nothing here uses: it warns of a package that it does not find.
    logging.getLogger("apache_beam.io.mongodbio").setLevel(logging.ERROR)
    if not _is_wanted("imports"):
        yield
        return
    words = uses_in(argv)
    os.environ[WORDS] = " ".join(sorted(words))
    finder = _Hidden(words)
    sys.meta_path.insert(0, finder)
    gc.disable()
    try:
        if any("://" in word for word in argv):  # Beam reads stores, and is imported by its first
            importlib.import_module("apache_beam.io.filesystems")
        yield
        if pyarrow := sys.modules.get("pyarrow"):
            pyarrow.scalar(0)  # of its first value Arrow asks whether pandas is there: 0.6 s
    finally:
        sys.meta_path.remove(finder)
        gc.freeze()
        gc.enable()


_SPECS: dict[type, Any] = {}  # what `get_dofn_specs` found, by the kind of DoFn


@contextmanager
def remembered_specs() -> Iterator[None]:
    """Beam looks 700 times for the state and timers of a few dozen kinds of DoFn, at the signature
    of each of their methods. Saves 0.2 s."""
    from apache_beam.transforms import userstate

    find = userstate.get_dofn_specs

    def remember(dofn: Any) -> Any:
        kind = type(dofn)
        if kind not in _SPECS:
            _SPECS[kind] = find(dofn)
        return _SPECS[kind]

    userstate.get_dofn_specs = remember
    try:
        yield
    finally:
        userstate.get_dofn_specs = find


@contextmanager
def remembered_views() -> Iterator[None]:
    """Beam parses the options for each step, and builds a parser each time. Saves 0.2 s."""
    from apache_beam.options.pipeline_options import PipelineOptions

    parse = PipelineOptions.view_as
    views: dict[tuple[int, type], Any] = {}

    def remember(options: PipelineOptions, kind: type) -> Any:
        key = id(options._all_options), kind  # its values, which all its views share
        if key not in views:
            views[key] = parse(options, kind)
        return views[key]

    PipelineOptions.view_as = remember
    try:
        yield
    finally:
        PipelineOptions.view_as = parse


@contextmanager
def quick_workers() -> Iterator[None]:
    """Worker processes on this machine import as quickly as the command does. Saves 1.2 s of CPU
    for each."""
    from apache_beam.transforms.environments import SubprocessSDKEnvironment as Environment

    make = Environment.from_command_string
    python = f"{shlex.quote(sys.executable)} -m alignset.pipeline.runs.sdk_worker_main"
    command = f"trap '' INT; exec {python}"  # a terminal sends Control-C to workers too
    Environment.from_command_string = lambda command_string: make(command)
    try:
        yield
    finally:
        Environment.from_command_string = make


@contextmanager
def no_notebook() -> Iterator[None]:
    """In a notebook Beam tracks pipelines to show their data, for which it imports further packages
    and has the page load scripts from other hosts. Nobody looks at data of ours so."""
    from apache_beam import pipeline

    names = ("is_in_ipython", "alter_label_if_ipython")
    before = {name: getattr(pipeline, name) for name in names}
    for name in names:
        setattr(pipeline, name, lambda *_: None)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(pipeline, name, function)


# Those that last as long as a pipeline is built and run.
PATCHES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "specs": remembered_specs,
    "views": remembered_views,
    "workers": quick_workers,
    "notebook": no_notebook,
}


@contextmanager
def beam_patches() -> Iterator[None]:
    """All of PATCHES but those that ALIGNSET_WITHOUT_PATCHES names."""
    with ExitStack() as stack:
        for name, patch in PATCHES.items():
            if _is_wanted(name):
                stack.enter_context(patch())
        yield


def find_sources() -> None:
    """Lets worker processes import alignset from any folder, as this process does."""
    here = str(Path(alignset.__file__).resolve().parents[1])
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
