"""Feeds hostile bytes to all code that reads files of others, within limits of time and memory.

  python -m tests.fuzz [TARGET ...] [--seconds=0] [--cases=1] [--seed=N] [--first=0]

A target is a format, whose real files are changed and go through its entrances (`entrances.py`), or
a module that makes its own cases. numba's bounds checks are on. The kept cases come first. Then
each target gets the same share of the time, and at least so many cases. Each case is made from the
seed, the target's name and the case's number. A case that fails is kept in out/fuzz. Ends with 1 if
one fails.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from alignset.transforms.columns.kernels import kernels_digest
from tests.fuzz.limited import MORE_CPU, MORE_MEMORY, NO_END, Piece, faults_of
from tests.support.root import ROOT

FILES = ("avif", "webp", "png", "gif", "jpeg", "tiff", "bmp", "tar", "parquet", "csv", "jsonl")
FILES += ("warc", "wat", "html", "txt")
MADE = ("soup", "archives", "texts", "urls", "counts")
TARGETS = (*FILES, *MADE)
CASES, FOUND = ROOT / "tests/fuzz/cases", ROOT / "out/fuzz"
CPU_S_A_MB = 2.0  # beside what an entrance may take
AT_ONCE, AT_ONCE_MADE = 10, 100  # cases of one child
MOST_OF_A_KIND = 2  # that are kept


class Case(NamedTuple):
    """Fields:
    ending: of the file, which begins with its format.
    number: of its target; slow entrances take one of some numbers.
    """

    ending: str
    body: bytes
    origin: str
    number: int = 0

    @property
    def kind(self) -> str:
        return self.ending.partition(".")[0]

    @property
    def target(self) -> str:
        return self.origin.split()[1] if self.ending == "made" else self.kind


class Find(NamedTuple):
    """A case, the entrance where it fails, and how."""

    case: Case
    entrance: str
    kind: str
    said: str


def with_bounds_checks() -> None:
    """Starts this process anew with checked kernels, which are compiled once for these sources."""
    if os.environ.get("NUMBA_BOUNDSCHECK") == "1":
        return
    cache = ROOT / ".pytest_cache" / f"checked-kernels-{kernels_digest()[:16]}"
    more = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    environment = os.environ | more | {"MALLOC_ARENA_MAX": "2"}  # each takes 64 MiB of addresses
    command = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]]
    os.execve(sys.executable, command, environment)


def compile_kernels() -> None:
    """Lets real files through all entrances, whose kernels are compiled then, if they are not."""
    from tests.fuzz.real_files import real_files

    done = Path(os.environ["NUMBA_CACHE_DIR"], "compiled")
    if not done.exists():
        print("the checked kernels are compiled, which takes 3 minutes", flush=True)
        cases = [Case(*files[0], f"0 {name} 0") for name, files in real_files().items()]
        finds_of([*cases, *(made_case(name, 0, 0) for name in MADE)], more_s=2000)
        done.touch()


def made_case(target: str, seed: int, number: int) -> Case:
    from tests.fuzz import jpeg, mutations, shards

    origin = f"{seed} {target} {number}"
    random = Random(origin)
    if target in MADE:
        return Case("made", origin.encode(), origin, number)
    if target in ("jpeg", "tar") and random.random() < 0.5:
        body = jpeg.hostile_jpeg(random) if target == "jpeg" else shards.made_tar(random)
        return Case(target, body, origin, number)
    return Case(*mutations.mutated(random, target), origin, number)


def finds_of(cases: Sequence[Case], entrances: Iterable[str] = (), more_s: float = 0) -> list[Find]:
    """What fails of cases at these entrances, or at all of those that are for their numbers.

    Args:
      more_s: of CPU, beside what each has.
    """
    from tests.fuzz.entrances import ENTRANCES, Entrance

    def enter(case: Case, entrance: Entrance) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"case.{case.ending}")
            path.write_bytes(case.body)
            entrance.enter(case.body, path)

    tries = [
        (case, entrance)
        for case in cases
        for entrance in ENTRANCES[case.kind]
        if (entrance.name in entrances if entrances else case.number % entrance.every == 0)
    ]
    limits_s = (at[1].cpu_s + CPU_S_A_MB * len(at[0].body) / 1e6 + more_s for at in tries)
    pieces = [
        Piece(lambda at=at: enter(*at), cpu_s) for at, cpu_s in zip(tries, limits_s, strict=True)
    ]
    faults = zip(tries, faults_of(pieces), strict=True)
    return [Find(case, door.name, *fault) for (case, door), fault in faults if fault]


def kept_file(find: Find, folder: Path) -> Path | None:
    """Writes a case to a folder, and beside it what is known of it.

    Returns:
      Its path; None of a case that met a limit only by chance, since the machine was busy.
    """
    case, fails_alone = find.case, bool(finds_of([find.case], [find.entrance]))
    if find.kind in (MORE_CPU, MORE_MEMORY, NO_END) and not fails_alone:
        return None
    name = re.sub(r"\W+", "_", f"{case.target} {find.entrance}")
    path = folder / f"{name}-{hashlib.sha256(case.body).hexdigest()[:8]}.{case.ending}"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(case.body)
    lines = [f"entrance: {case.target}, {find.entrance}", f"fault: {find.kind}"]
    lines.append(f"origin (seed, target, number): {case.origin}")
    lines.append(f"alone: {'fails too' if fails_alone else 'is well, it failed behind others'}")
    path.with_name(f"{path.name}.txt").write_text("\n".join([*lines, "", find.said, ""]))
    return path


def repeat(folder: Path) -> int:
    """Runs the kept cases of a folder, named ENTRANCE-DIGEST.ENDING, at all entrances of their
    formats; prints and counts those that fail."""
    failing = 0
    for path in sorted(folder.glob("*-*.*")):
        if path.suffix == ".txt" and path.with_suffix("").exists():
            continue  # what is known of a case
        case = Case(path.name.partition(".")[2], path.read_bytes(), f"kept {path.name}")
        finds = finds_of([case])
        failing += bool(finds)
        for find in finds:
            print(f"{_shown(path)} fails at {find.entrance}: {find.kind}", flush=True)
        if not finds and folder != CASES:
            print(f"{_shown(path)} is well now: {KEEP}, or remove it", flush=True)
    return failing


KEEP = "to keep it as a test, move it to tests/fuzz/cases"


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


class Run:
    """Cases of all targets by turns, and their finds."""

    def __init__(self, targets: Sequence[str], seed: int, first: int, found: Path) -> None:
        self.seed, self.first, self.found = seed, first, found
        self.next = dict.fromkeys(targets, first)
        self.spent_s = dict.fromkeys(targets, 0.0)
        self.kinds: Counter[tuple[str, str, str]] = Counter()

    def go(self, least: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        while behind := [
            target
            for target, number in self.next.items()
            if number - self.first < least or time.monotonic() < end
        ]:
            target = min(behind, key=lambda name: self.spent_s[name])
            number = self.next[target]
            most = AT_ONCE_MADE if target in MADE else AT_ONCE
            size = min(most, least) if number == self.first else most
            if seconds == 0:
                size = min(size, self.first + least - number)
            begun = time.monotonic()
            finds = finds_of([made_case(target, self.seed, number + n) for n in range(size)])
            self.next[target] += size
            self.spent_s[target] += time.monotonic() - begun  # without what a find takes
            for find in finds:
                kind = target, find.entrance, find.kind
                path = None if self.kinds[kind] >= MOST_OF_A_KIND else kept_file(find, self.found)
                if path:
                    print(f"{': '.join(kind)}: {_shown(path)} ({KEEP})", flush=True)
                self.kinds[kind] += bool(path or self.kinds[kind] >= MOST_OF_A_KIND)

    def report(self) -> None:
        for target, number in self.next.items():
            finds = sum(n for (of, _, _), n in self.kinds.items() if of == target)
            spent = f"{number - self.first} cases in {self.spent_s[target]:.0f} s"
            print(f"{target}: {spent}, {finds} fail")
        for kind, times in sorted(self.kinds.items()):
            print(f"  {times} times: {': '.join(kind)}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--cases", type=int, default=1, help="of each target, at least")
    parser.add_argument("--seconds", type=float, default=0.0, help="of all targets together")
    parser.add_argument("--seed", type=int, default=Random().randrange(2**32))
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--found", type=Path, default=FOUND, help="the folder of what fails")
    flags = parser.parse_args(argv)
    if unknown := set(flags.targets) - set(TARGETS):
        parser.error(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}"
        )
    print(f"seed {flags.seed}", flush=True)
    importlib.import_module("tests.fuzz.entrances")  # once, for all children
    if os.environ.get("NUMBA_BOUNDSCHECK") == "1":
        compile_kernels()
    failing = repeat(CASES) + repeat(flags.found)
    run = Run(flags.targets or TARGETS, flags.seed, flags.first, flags.found)
    run.go(flags.cases, flags.seconds)
    run.report()
    return 1 if failing or run.kinds else 0


if __name__ == "__main__":
    with_bounds_checks()
    sys.exit(main())
