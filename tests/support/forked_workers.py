"""Workers of pytest that are forks of the process that their commands are forks of too.

That process imports the product once: 18 s of CPU for each worker.
"""

import os
import runpy
import sys

from execnet import gateway_io
from execnet.gateway_base import ExecModel, Popen2IO

from tests.support.forks import SHARED, connect, start
from tests.support.root import tracked

# What the tests import beside the product, and what the product imports late.
TESTS = (
    *("hypothesis", "pandas", "sklearn.metrics", "clip_benchmark.metrics.zeroshot_classification"),
    *("alignset.beam_runner", "open_clip", "playwright.sync_api", "tensorboardX"),
    "torch.distributed.run",
)
PRODUCT = ("pipeline", "transforms", "train")


class _Worker(gateway_io.Popen2IOMaster):
    """A worker of pytest-xdist that is a fork, in place of a new Python."""

    def __init__(self, args: list[str], execmodel: ExecModel) -> None:
        theirs, to_it = os.pipe()
        from_it, ours = os.pipe()
        self.popen = start("tests.support.forked_workers:work", stdin=theirs, stdout=ours, stderr=2)
        os.close(theirs)
        os.close(ours)
        files = os.fdopen(to_it, "wb"), os.fdopen(from_it, "rb")
        Popen2IO.__init__(self, *files, execmodel=execmodel)


def work(_: object) -> None:
    """What `execnet` has a new Python do: the first line tells it how to go on."""
    exec(eval(sys.stdin.readline()))


def as_python(words: list[str]) -> None:
    """What Python does with its arguments: a module after -m, or a file."""
    module = words[0] == "-m"
    sys.argv = words[1:] if module else words
    if not module:
        runpy.run_path(words[0], run_name="__main__")
        return
    for name in (words[1], f"{words[1]}.__main__"):  # it runs as if it were not imported
        sys.modules.pop(name, None)
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)


def fork_workers() -> None:
    """Before they are started: makes the workers of this run of pytest forks of one process, which
    has imported all of the product, and which starts their commands too."""
    os.environ[SHARED] = f"alignset-{os.getpid()}"
    paths = (path.with_suffix("").parts for path in tracked("*.py") if path.parts[0] in PRODUCT)
    product = (".".join(("alignset", *parts)).removesuffix(".__init__") for parts in paths)
    connect((*TESTS, *product)).close()
    gateway_io.Popen2IOMaster = _Worker
