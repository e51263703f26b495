"""A command that is killed before the n-th change of a file in its dataset, as by kill -9.

Started as a fork (tests/support/forks.py). A change is a file that is put in place or removed; what
is written aside is none. All changes are listed, and where the command is not killed, a reader
looks at every shard after each.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.support.agreement import samples
from tests.support.described_sets import main as command
from tests.support.forks import start

NEVER, UNSEEN = 1 << 30, 1 << 31  # before any change; and no reader looks either


def check_readers(out: Path) -> None:
    """No reader meets half of a shard: a tar is whole, and has each key of its sidecar."""
    for tar in (*out.glob("shards/*.tar"), *out.glob("holdout/*.tar")):
        keys = [sample["__key__"] for sample in samples(tar)]
        assert keys == sorted(keys), tar
        if (sidecar := tar.with_suffix(".parquet")).exists():
            assert {*pq.read_table(sidecar)["key"].to_pylist()} <= {*keys}, sidecar


def run_killed(out: Path, when: int, *words: str) -> tuple[int, str, list[str]]:
    """Gives a command that changes dataset `out`, and is killed before that many changes.

    Returns:
      its exit status, what it printed, and the files that it changed, in their order.
    """
    changes = out.with_name(f"{out.name}.changes")
    changes.unlink(missing_ok=True)
    forked = start(f"{__name__}:main", out, when, changes, *words)
    said = "".join(forked.communicate())
    return forked.wait(), said, changes.read_text().splitlines() if changes.exists() else []


def main(args: list[str]) -> int:
    """The command in a fork; args are the dataset, the number of changes, the list of changes that
    is to be written, and the words of the command.

    Its readers look only where it is not killed and was not before.
    """
    out, when, changes = Path(args[0]), int(args[1]), args[2]
    lock, seen = threading.RLock(), 0

    def counted(change: Callable[..., Any], at: int, *paths: Any, **how: Any) -> Any:
        nonlocal seen
        path = os.fspath(paths[at])
        if (descriptor := how.get("dir_fd")) is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), path)
        is_aside = os.path.basename(path).startswith(".")
        if is_aside or not str(path).startswith(f"{out}/") or not (at or os.path.lexists(path)):
            return change(*paths, **how)
        with lock:
            if seen == when:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
            done = change(*paths, **how)
            with open(changes, "a") as file:
                file.write(f"{os.path.relpath(path, out)}\n")
            if when == NEVER:
                try:
                    check_readers(out)
                except BaseException as error:
                    print(f"a reader met half a shard after {path}: {error!r}", file=sys.stderr)
                    os._exit(3)
        return done

    for name, at in (("replace", 1), ("rename", 1), ("unlink", 0), ("remove", 0)):
        setattr(os, name, partial(counted, getattr(os, name), at))
    return command(*args[3:])
