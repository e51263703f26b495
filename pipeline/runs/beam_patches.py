"""Changes of Beam at run time: it starts faster, worker processes end with the command, and a
notebook's page is left alone.

Nothing here changes what a pipeline does. `ALIGNSET_WITHOUT_PATCHES` leaves some out, by their
names with commas between: `imports`, `workers`, `options`, `notebook`; or all of them: `all`. The
times are CPU time of a run on 10 photographs, on 2 cores of an Intel Xeon, medians of 5.
"""

from __future__ import annotations

import gc
import logging
import os
import shlex
import site
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import alignset

# What Beam and numba import where they find it, and no run needs ...
_OPTIONAL = (
    *("pandas", "scipy", "bson", "pymongo", "boto3", "cffi", "apache_beam.io.gcp.bigquery"),
    *("google.api_core", "google.auth", "google.cloud", "apitools"),
)
# ... but where a flag has one of these words: users and models import what they like.
_USES = ("--rules", "--score_model", "dataflow")
USES = "ALIGNSET_USES"  # by which worker processes are told of those


def _is_wanted(name: str) -> bool:
    left_out = os.environ.get("ALIGNSET_WITHOUT_PATCHES", "").split(",")
    return name not in left_out and "all" not in left_out


def _uses_in(argv: Sequence[str]) -> list[str]:
    words = " ".join(argv).lower()
    return [use for use in _USES if use in words]


class _Hidden(MetaPathFinder):
    def find_spec(self, name: str, *_: object) -> None:
        if name in _OPTIONAL:
            raise ModuleNotFoundError(f"{name} is hidden while others start", name=name)


@contextmanager
def quick_imports(argv: Sequence[str] = ()) -> Iterator[None]:
    """Imports without what is not needed, nor garbage collection, since nothing made here is
    garbage. Named `imports`; saves 2.2 s of 4.9 (1.9 of 8.4 with 400 photographs), and with two
    worker processes 10.6 of 20.0, most of it in these.

    Args:
      argv: the command's arguments.
    """
    # Of a module that nothing here uses: it warns of a package that it does not find.
    logging.getLogger("apache_beam.io.mongodbio").setLevel(logging.ERROR)
    if not _is_wanted("imports"):
        yield
        return
    finder = _Hidden()
    if not _uses_in(argv):
        sys.meta_path.insert(0, finder)
    gc.disable()
    try:
        yield
        if pyarrow := sys.modules.get("pyarrow"):
            pyarrow.scalar(0)  # of its first value Arrow asks whether pandas is there: 0.6 s
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
        gc.freeze()
        gc.enable()


@contextmanager
def beam_patches() -> Iterator[None]:
    """Changes Beam while a pipeline is built and run.

    `workers`: worker processes on this machine import as quickly as the command does, which saves
    7.8 s of 17.3 with two; they end with it, and ignore the Control-C of a terminal.
    `options`: Beam makes a parser of arguments for each step, 592 in a run: 0.4 of 3.3 s
    (busy AMD EPYC).
    `notebook`: in a notebook Beam tracks pipelines to show their data, for which it has the page
    load scripts from two other hosts. Nobody looks at data of ours so.
    """
    from apache_beam import pipeline  # not before `quick_imports`
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms.environments import SubprocessSDKEnvironment as Environment

    make = Environment.from_command_string
    python = f"{shlex.quote(sys.executable)} -m alignset.pipeline.runs.sdk_worker_main"
    changes: list[tuple[str, Any, str, Any]] = [
        (
            "workers",
            Environment,
            "from_command_string",
            lambda command_string: make(f"trap '' INT; exec {python}"),
        ),
        ("options", PipelineOptions, "view_as", lru_cache(PipelineOptions.view_as)),
        ("notebook", pipeline, "is_in_ipython", lambda: False),
        ("notebook", pipeline, "alter_label_if_ipython", lambda *_: None),
    ]
    with ExitStack() as stack:
        for name, owner, attribute, function in changes:
            if _is_wanted(name):
                stack.callback(setattr, owner, attribute, vars(owner)[attribute])
                setattr(owner, attribute, function)
        yield


@contextmanager
def worker_environment(argv: Sequence[str]) -> Iterator[None]:
    """While the block runs, worker processes find alignset from any folder, as this process does,
    and import what these flags need; the variables of this process are set back."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", USES)}
    os.environ[USES] = " ".join(_uses_in(argv))
    here = str(Path(alignset.__file__).resolve().parents[1])
    # On PYTHONPATH an installed package of the name of a standard module would hide that.
    if here not in map(os.path.realpath, [*site.getsitepackages(), site.getusersitepackages()]):
        folders = [here, *filter(None, (before["PYTHONPATH"] or "").split(os.pathsep))]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(folders))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
