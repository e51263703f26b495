"""What goes wrong in a run: Python imports this at its start where PYTHONPATH has this folder, and
there alone. So worker processes and children have it as the command does.

A decoder crashes at an image that holds `MARK`. A process is killed or paused at a moment, where
ALIGNSET_DISTURBANCES names a folder (tests/support/disturbances.py). A lease ends after
ALIGNSET_LEASE_S without a heartbeat.
"""

import importlib.machinery
import os
import re
import sys
import threading

LOCKED = threading.Lock()
MARK = b"calls os.abort"
LOCK = "alignset.pipeline.runs.run_lock"
FILES, EXAMINE = "alignset.transforms.storage.files", "alignset.transforms.images.examine"
# A moment: the function that is called then, with paths that match, and whether it is over.
MOMENTS = {
    "texts": (FILES, "write_atomically", r"/text\.json$", False),
    "fetching": (EXAMINE, "decoded", r"", False),
    "finished": (FILES, "create", r"/winners/", False),
    "won": (FILES, "create", r"/winners/", True),
    "publishing": (FILES, "move", r"/attempts/.*\.tar$", False),
    "published": (FILES, "move", r"/attempts/.*_stats\.json$", False),
    "rewriting": (FILES, "publish", r" \S*/shards/\d{5}\.tar$", False),
    "renumbering": (FILES, "move", r"^(?!.*/attempts/).*\d{5}\.tar$", False),
}


def disturb(moment):
    """Ends or pauses this process, once, where that is the next of the folder's disturbances."""
    folder = os.environ["ALIGNSET_DISTURBANCES"]
    planned = min((name for name in os.listdir(folder) if name[0] != "."), default="")
    with LOCKED:  # other threads still run for a moment
        if planned.partition(" ")[2].rpartition(" ")[0] != moment or disturb.__dict__:
            return
        try:
            os.rename(f"{folder}/{planned}", f"{folder}/.{planned} {os.getpid()}")
        except FileNotFoundError:
            return  # another process has it
        disturb.done = True
        os.kill(os.getpid(), int(planned.rpartition(" ")[2]))


def watched(function, moments):
    def call(*args, **options):
        paths = " ".join(str(a) for a in args if isinstance(a, (str, os.PathLike)))
        now = [m for m, (_, _, pattern, _) in moments.items() if re.search(pattern, paths)]
        for moment in now:
            if not moments[moment][3]:
                disturb(moment)
        given = function(*args, **options)
        for moment in now:
            if moments[moment][3]:
                disturb(moment)
        return given

    return call


def crashing(inner):
    def crash(look, *rest):
        if MARK in look.body:
            os.abort()
        return inner(look, *rest)

    return crash


class _Finder:
    """Has functions of a module be watched from the start."""

    def find_spec(self, name, path=None, target=None):
        if name not in (FILES, EXAMINE, LOCK):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            if name == EXAMINE:
                module.decoded = crashing(module.decoded)
            if name == LOCK and "ALIGNSET_LEASE_S" in os.environ:
                module.LEASE_S = float(os.environ["ALIGNSET_LEASE_S"])
            by_function = {}
            # A child that dies says that an image is to blame, which none is.
            is_child = any(name.endswith("_process") for name in sys.orig_argv)
            if "ALIGNSET_DISTURBANCES" in os.environ and not is_child:
                for moment, what in MOMENTS.items():
                    if what[0] == name:
                        by_function.setdefault(what[1], {})[moment] = what
            for function, moments in by_function.items():
                setattr(module, function, watched(getattr(module, function), moments))

        spec.loader.exec_module = exec_module
        return spec


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Finder())
