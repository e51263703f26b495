"""How the time of whole functions grows, those that also call other people's parsers.

Generous, so that a busy machine changes nothing: for 16 times the bytes a linear function takes 16
times as long, and one whose time is quadratic 256 times.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from random import Random

LARGE = 1 << 17  # bytes, and a sixteenth of them
TOO_QUICK_S = 0.0125  # of CPU: what takes less for the large one can't be told from noise
MOST = 80.0


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


def cpu_seconds(function: Callable[[bytes], object], body: bytes) -> float:
    gc.disable()  # else a collection of all that the tests hold, 0.1 s, falls into one or the other
    try:
        begun = time.thread_time()
        function(body)
        return time.thread_time() - begun
    finally:
        gc.enable()


def superlinear(
    function: Callable[[bytes], object], tokens: Sequence[bytes], count: int = 60, size: int = LARGE
) -> list[str]:
    """The patterns for which the time grows faster than their size, each with its times.

    Args:
      tokens: of which patterns are made: one, the second of two, or two by turns, repeated.
      count: how many patterns. size: bytes of the large ones.
    """
    faults = []
    for make in patterns(tokens, count, seed=1):
        small, large = make(size // 16), make(size)
        ratios = []
        for _ in range(3):  # once may be the machine's fault
            slow = cpu_seconds(function, large)
            if slow < TOO_QUICK_S:
                break
            ratios.append(slow / max(cpu_seconds(function, small), TOO_QUICK_S / 128))
            if ratios[-1] < MOST:
                break
        else:
            faults.append(f"{min(ratios):.0f} times as long, {slow:.1f} s: {small[:60]!r}")
    return faults
