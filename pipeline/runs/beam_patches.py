"""Changes of Beam at run time: it starts faster, worker processes end with the command, a
notebook's page is left alone, and logs of workers have the form of this process.

Nothing here changes what a pipeline does. `ALIGNSET_WITHOUT_PATCHES` leaves some out, by their
names with commas between: `imports`, `workers`, `options`, `notebook`; or all of them: `all`. The
times are CPU time of a run on 10 photographs, on 2 cores of an Intel Xeon, medians of 5.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import shlex
import signal
import site
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
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
    # Nothing here uses this module, which warns of a missing package.
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


_PROXY = "grpc_proxy"  # without it gRPC asks http_proxy, for localhost too


@contextmanager
def worker_environment(argv: Sequence[str]) -> Iterator[None]:
    """While the block runs, worker processes find alignset from any folder, as this process does,
    and import what these flags need; the variables of this process are set back."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", USES, _PROXY)}
    os.environ[_PROXY] = ""
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


# ---- Logs of worker processes on this machine, in the form of this process -------------------

SOURCE = "apache_beam.runners.portability.local_job_service"  # it logs whatever workers log
_LOGS_OF_WORKERS = (logging.getLogger(SOURCE), logging.getLogger())
# These log what is raised in this process all the same.
RAISED = ("apache_beam.runners.common", "apache_beam.runners.worker")
# These warn of harmless things: a missing pip beside uv, a full pool of connections.
NOISY = ("apache_beam.runners.portability.stager", "urllib3.connectionpool")
HANDLERS = "apache_beam.runners.portability.fn_api_runner.worker_handlers"
LOG = logging.getLogger("alignset")


def is_ours(record: logging.LogRecord) -> bool:
    """Passes on what our own code logs in a worker, by its words alone, and nothing of Beam's: it
    logs each record as the text of a protocol buffer, with warnings of things that we do not use;
    and with all tracebacks why a job failed, which it raises too.
    """
    if record.name == "root":
        return record.levelno < logging.ERROR or "portable_runner" not in record.pathname
    # As Beam has by then.
    from apache_beam.portability.api import beam_fn_api_pb2 as api
    from google.protobuf import text_format

    if not isinstance(record.args, tuple) or len(record.args) != 1:
        return True
    try:
        entry = text_format.Parse(str(record.args[0]), api.LogEntry())
    except text_format.ParseError:
        return True
    record.msg, record.args = entry.message, ()
    return "apache_beam" not in entry.log_location


@contextmanager
def plain_logs() -> Iterator[None]:
    """While the block runs, workers' logs pass through `is_ours`, and Beam neither logs nor prints
    what its pipeline raises here too, nor why a job failed elsewhere. ALIGNSET_LOG_LEVEL has all of
    it said."""
    level, show = os.environ.get("ALIGNSET_LOG_LEVEL", ""), threading.excepthook
    passes = partial(is_ours)  # another for each block
    levels = dict.fromkeys((*RAISED, *NOISY), level or "CRITICAL") | (
        {} if level else {HANDLERS: "CRITICAL"}
    )
    before = {name: logging.getLogger(name).level for name in (*levels, LOG.name)}

    def show_ours(failure: threading.ExceptHookArgs) -> None:
        ended = re.search(r"subprocess exited with return code (-\d+|1[2-5]\d)", str(failure[1]))
        with suppress(ValueError):  # it is no signal; a shell adds 128 to one
            if ended:
                name = signal.Signals(abs(int(ended[1])) % 128).name
                LOG.warning("a worker process was ended by %s", name)
        frames = traceback.extract_tb(failure.exc_traceback)
        if not any("apache_beam" in frame.filename for frame in frames):
            show(failure)

    for name, new_level in levels.items():
        logging.getLogger(name).setLevel(new_level)
    if not level:
        for logger in _LOGS_OF_WORKERS:
            logger.addFilter(passes)
        threading.excepthook = show_ours
    try:
        yield
    finally:
        threading.excepthook = show
        for logger in _LOGS_OF_WORKERS:
            logger.removeFilter(passes)
        for name, earlier in before.items():
            logging.getLogger(name).setLevel(earlier)
