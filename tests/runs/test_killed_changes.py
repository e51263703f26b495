"""A command that changes a dataset and is killed anywhere: readers never meet half a shard, and the
same command ends it with the bytes of one that nothing disturbed.

A kill, as by kill -9, comes before the n-th change of a file in the dataset. The command is started
as a fork (tests/support/forks.py). A change is a file that is put in place or removed; what is
written aside is none. All changes are listed, and where the command is not killed, a reader looks
at every shard after each.
"""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.agreement import check_dataset, samples
from tests.support.command import digests
from tests.support.described_sets import SETS, DescribedSets
from tests.support.described_sets import main as command
from tests.support.forks import start

TEN = 10
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


def moments(changes: list[str], count: int) -> list[int]:
    """How many changes there were when a command is killed: between two files of a shard, between
    two documents, while it forgets the change and once it has written it down; and others."""

    def after(name: str) -> int:
        return next((n for n, path in enumerate(changes, 1) if path.startswith(name)), 1)

    telling = [after("shards/") - 1, after("croissant.json"), len(changes) - 1]
    telling += [after("_temporary/change.json"), after("funnel.json"), after("manifest.json"), 0]
    chosen = {*telling[:count]}
    rest, more = [n for n in range(len(changes)) if n not in chosen], count - len(chosen)
    return sorted(chosen | {rest[len(rest) * n // more] for n in range(more)})


@pytest.mark.timeout(1800)  # ten kills, each with two starts of the command, on a busy machine
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("all taken", 2),  # the others are slow
        *(
            pytest.param(name, TEN, marks=pytest.mark.slow)
            for name in ("all taken", "texts forgotten", "all near", "near")
        ),
    ],
)
def test_killed_anywhere_the_same_command_ends_it(
    described: DescribedSets, tmp_path: Path, name: str, count: int
) -> None:
    start, whole = tmp_path / "start", tmp_path / "whole"
    described.begin(name, start)
    described.set_web(name)
    if not SETS[name].of:  # a run: from where it has looked for what leaves
        _, _, changes = run_killed(whole, UNSEEN, *described.words(name, whole))
        found = next(n for n, path in enumerate(changes) if path.startswith("_temporary/leaving/"))
        assert run_killed(start, found, *described.words(name, start))[0] < 0
        shutil.rmtree(whole)
    shutil.copytree(start, whole)
    status, said, changes = run_killed(whole, NEVER, *described.words(name, whole))
    assert status == 0, said
    check_dataset(whole)
    assert digests(whole) == digests(described.find(name))
    assert len(changes) > TEN + 5
    chosen = moments(changes, count)

    def kill(when: int) -> None:
        out = Path(shutil.copytree(start, tmp_path / f"{when}"))
        status, said, _ = run_killed(out, when, *described.words(name, out))
        assert status < 0, said
        check_readers(out)
        if when in chosen[2::3]:
            seen = run_killed(out, UNSEEN, "look", str(out), f"--output={out}.html", "--n=40")
            assert seen[0] == 0, seen[1]
        status, said, _ = run_killed(out, UNSEEN, *described.words(name, out))
        assert status == 0, said
        assert digests(out) == digests(whole), when
        shutil.rmtree(out)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill, chosen))
