"""Commands in which a function hangs where Python answers no signal, once it has said so."""

from __future__ import annotations

import ctypes
import importlib
import sys


def in_c_with_the_lock() -> None:
    _wait_for_ever(ctypes.PyDLL(None))


def in_a_kernel() -> None:
    """In compiled code that has let go of the interpreter's lock."""
    _wait_for_ever(ctypes.CDLL(None))


def _wait_for_ever(libc: ctypes.CDLL) -> None:
    """For a mutex that this thread holds itself, which no signal ends and which takes no CPU."""
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def _hang_at(place: str, how: str) -> None:
    """Has a function hang, or the import of a module.

    Args:
      place: "package.module:function", or "package.module".
      how: a function of this module.
    """

    forever = globals()[how]  # here: what Beam pickles of a function in a function has no globals

    def hang(*_: object, **__: object) -> None:
        sys.stdout.write("hangs\n")  # in one piece: another thread may hang at the same moment
        sys.stdout.flush()
        forever()

    class Finder:
        def find_spec(self, wanted: str, *_: object) -> None:
            if wanted == place:
                hang()

    module, _, function = place.partition(":")
    if function:
        setattr(importlib.import_module(module), function, hang)
    else:
        sys.meta_path.insert(0, Finder())


def curation(args: list[str]) -> int:
    """`beam_runner.py`, with what hangs and how before its arguments."""
    from alignset import beam_runner

    place, how, *rest = args
    command = beam_runner.main

    def main(argv: list[str], name: str) -> int:
        _hang_at(place, how)
        return command(argv, name)

    beam_runner.main = main
    return beam_runner.stoppable_main(rest)


def training(args: list[str]) -> int:
    """`python -m alignset.train`, likewise."""
    import alignset.train.__main__

    place, how, *rest = args
    _hang_at(place, how)
    return alignset.train.__main__.stoppable_main(rest)


if __name__ == "__main__":
    sys.exit(curation(sys.argv[1:]))
