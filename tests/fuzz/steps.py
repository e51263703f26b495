"""How many elements of arrays the kernels touch, for n bytes and for 2n of the same kind.

  python -m tests.fuzz.steps [TARGET ...] [--third]

Kernels run as plain Python here, over arrays that count. A target has `STEPS`: by name a function
of bytes, and the tokens of which patterns are made. A pattern is two tokens, the second repeated,
or one token, two by turns, and a third at the end. Twice the bytes may take little more than twice
the steps. With `--third` every third pattern is tried, and each token alone. Prints what does not
hold and ends with 1 then.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

SIZE, SIZE_OF_COUNTS = 512, 1024  # bytes, and twice as many; few counts are added up otherwise
MOST = 2.4  # times the steps
PATTERNS = 300
TARGETS = ("html", "wat", "texts", "urls", "counts", "planes")

if __name__ == "__main__":
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # before numba is imported

import numpy as np  # noqa: E402

_counted = [0]  # of all arrays
_get, _set = np.ndarray.__getitem__, np.ndarray.__setitem__


class Counting(np.ndarray):
    """An array that counts how many of its elements are read or written, by item or slice.

    Most of the time goes into its two methods, so that they do no more than they must.
    """

    def __getitem__(self, key: Any) -> Any:
        _counted[0] += len(range(*key.indices(len(self)))) if type(key) is slice else 1
        return _get(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _counted[0] += len(range(*key.indices(len(self)))) if type(key) is slice else 1
        _set(self, key, value)


def _counting(make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: make(*args, **options).view(Counting)


def patterns(tokens: Sequence[bytes], size: int, seed: int) -> Iterator[Callable[[int], bytes]]:
    """Makers of about so many bytes: each token alone, then some of all the pairs and triples."""

    def maker(head: bytes, body: bytes, tail: bytes) -> Callable[[int], bytes]:
        return lambda size: head + body * max(1, size // max(1, len(body))) + tail

    random = Random(seed)
    alone = [maker(b"", token, b"") for token in tokens]
    pairs = [maker(head, body, b"") for head, body in itertools.product(tokens, tokens)]
    mixed = [
        maker(random.choice(tokens), random.choice(tokens) + random.choice(tokens), tail)
        for tail in random.choices([b"", *tokens], k=size)
    ]
    others = random.sample(pairs, min(len(pairs), size // 2)) + mixed
    return iter(alone + others[: max(0, size - len(alone))])


def steps_of(walk: Callable[[bytes], object], body: bytes) -> int:
    before = _counted[0]
    walk(body)
    return _counted[0] - before


def main() -> int:
    warnings.simplefilter("ignore", RuntimeWarning)  # unsigned sums go round, as they should
    for name in ("frombuffer", "empty", "zeros", "full"):
        setattr(np, name, _counting(getattr(np, name)))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=TARGETS)
    parser.add_argument("--third", action="store_true")
    flags = parser.parse_args()
    faults = 0
    for target in flags.targets:
        size = SIZE_OF_COUNTS if target == "counts" else SIZE
        walks = importlib.import_module(f"tests.fuzz.{target}").STEPS
        for name, (walk, tokens) in walks.items():
            walk(tokens[0] * 9)  # what is made once
            worst = 0.0
            made = [*patterns(tokens, PATTERNS, seed=1)]
            alone, others = made[: len(tokens)], made[len(tokens) :]
            for make in alone + others[:: 3 if flags.third else 1]:
                once, twice = steps_of(walk, make(size)), steps_of(walk, make(2 * size))
                worst = max(worst, twice / max(once, size))
                if twice > MOST * max(once, size):
                    faults += 1
                    shown = make(size)[:60], make(size)[-30:]
                    print(f"{target} {name}: {once} steps, then {twice}: {shown}")
            print(f"{target} {name}: twice the bytes take {worst:.2f} times the steps at most")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
