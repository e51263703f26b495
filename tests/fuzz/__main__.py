"""Feeds hostile bytes to what walks over them, with numba's bounds checks on.

  python -m tests.fuzz [TARGET ...] [--cases=1000] [--seconds=0] [--seed=N] [--first=0]

Each case is made from the seed, the target's name and the case's number, so that one which fails
is made again by `--seed=… --first=… --cases=1`, as printed. With `--seconds` each target goes on
for so long, however many cases that are: `--seconds=3600` is a long run.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import time
import traceback
from random import Random

from alignset.transforms.columns.kernels import kernels_digest
from tests.support.root import ROOT

TARGETS = (
    *("jpeg", "pictures", "html", "wat", "archives", "texts", "urls", "counts", "shards"),
    *("records", "planes", "lists"),
)


def with_bounds_checks() -> None:
    """Starts this process anew with checked kernels, which are compiled once for these sources."""
    if os.environ.get("NUMBA_BOUNDSCHECK") == "1":
        return
    cache = ROOT / ".pytest_cache" / f"checked-kernels-{kernels_digest()[:16]}"
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]]
    os.execve(sys.executable, command, environment)


def fuzz(target: str, seed: int, first: int, cases: int, seconds: float) -> bool:
    """Checks one case after another; whether all are well."""
    check = importlib.import_module(f"tests.fuzz.{target}").check
    begun, number = time.monotonic(), first
    while number - first < cases or time.monotonic() - begun < seconds:
        try:
            check(Random(f"{seed} {target} {number}"))
        except Exception:
            traceback.print_exc()
            again = f"python -m tests.fuzz {target} --seed={seed} --first={number} --cases=1"
            print(f"{target}: case {number} fails; again by: {again}", flush=True)
            return False
        number += 1
    print(f"{target}: {number - first} cases are well, seed {seed}", flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=Random().randrange(2**32))
    parser.add_argument("--first", type=int, default=0)
    flags = parser.parse_args()
    if unknown := set(flags.targets) - set(TARGETS):
        parser.error(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}"
        )
    logging.getLogger("alignset").setLevel("ERROR")  # which counts what it warns of
    rest = flags.seed, flags.first, flags.cases, flags.seconds
    well = [fuzz(target, *rest) for target in flags.targets or TARGETS]
    return 0 if all(well) else 1


if __name__ == "__main__":
    with_bounds_checks()
    sys.exit(main())
