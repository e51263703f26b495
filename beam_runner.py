"""Image URLs with alt-texts in, ALIGN's filtered WebDataset shards out: see --help."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack

from alignset.extras import explain_missing_package
from alignset.pipeline.command_line import log_plainly, plain_reason, print_end, was_interrupted
from alignset.pipeline.errors import TooLittleKeptError, UsageError
from alignset.pipeline.runs.beam_patches import plain_logs, quick_imports, worker_environment
from alignset.pipeline.shown_texts import escape_controls
from alignset.signals import run_main

NAME = "beam_runner.py"
STOPPED = "stopped; the same command resumes from the last finished shard"

# By a part of an error: what the same command does not mend.
_NO_HOST = "no address is known for the host: check its name, and the network"
_ADVICE = {
    "Name or service not known": _NO_HOST,
    "No address associated with hostname": _NO_HOST,
    "Temporary failure in name resolution": _NO_HOST,
}

# What stays until the process ends: threads of Beam may still fail when a run is over.
_LASTING = ExitStack()
atexit.register(_LASTING.close)
# glibc's numbers of what `mallopt` sets (malloc.h), and how its environment variables name it.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": (-8, 1),
    "MALLOC_MMAP_THRESHOLD_": (-3, 1 << 30),
    "MALLOC_TRIM_THRESHOLD_": (-1, 1 << 29),
}


def _keep_memory() -> None:
    """Has the allocator keep what is freed, for the next batch: otherwise large arrays are given
    back and faulted in again, page by page, which is a sixth of the text stage's time."""
    # Arrow's own allocator gives memory back at once.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Linux with glibc has it
    for name, (option, value) in _ALLOCATOR.items():
        if mallopt and name not in os.environ:
            mallopt(option, value)
            os.environ[name] = str(value)  # for worker processes


def main(argv: Sequence[str], name: str = NAME, *, grows: bool = False) -> int:
    """Runs the command; returns 0 done, 1 failed, 2 wrong flags.

    Args:
      name: how the command was called, for what it says. grows: whether it is `alignset grow`.
    """
    log_plainly(logging.ERROR)
    _keep_memory()
    _LASTING.enter_context(worker_environment(argv))
    try:
        with quick_imports(argv):
            from alignset.pipeline.options import make_settings, read_flags

            growth = None
            if grows:
                from alignset.pipeline.grow import read_growth

                flags, growth = read_growth(argv, name)
            else:
                flags = read_flags(argv, name)  # --help ends here, before what takes a second
            from alignset.pipeline.run import run
    except ModuleNotFoundError as error:
        return print_end(name, explain_missing_package(error), 2)
    except (UsageError, KeyboardInterrupt) as error:
        return _print_end(name, error)
    level = os.environ.get("ALIGNSET_LOG_LEVEL", "")
    logging.getLogger().setLevel(level or "WARNING")
    logging.getLogger("alignset").setLevel(level or "INFO")  # our own progress
    logging.getLogger("alignset.shards").setLevel(level or "WARNING")  # one line tells of all
    _LASTING.enter_context(plain_logs())
    try:
        run(make_settings(flags), print, growth)
    except (KeyboardInterrupt, Exception) as error:
        return _print_end(name, error)
    return 0


def grow(argv: Sequence[str], name: str = "alignset grow") -> int:
    """Runs `alignset grow`; returns as `main` does."""
    return main(argv, name, grows=True)


def _print_end(name: str, error: BaseException) -> int:
    """Says in one line why the command ends; returns its status."""
    is_said = isinstance(error, UsageError | TooLittleKeptError)
    print(
        f"{name}: {escape_controls(str(error)) if is_said else last_line(error)}", file=sys.stderr
    )
    return 2 if isinstance(error, UsageError) else 1


def last_line(error: BaseException) -> str:
    """Says why a run failed, and what to do, in one line."""
    if os.environ.get("ALIGNSET_LOG_LEVEL") == "DEBUG":
        traceback.print_exception(error)
    if was_interrupted(error):
        return STOPPED
    line = plain_reason(error)
    if "--output" in line or ": create it" in line:  # it says itself what to do
        return f"failed: {line}"
    again = "the same command tries again from here; ALIGNSET_LOG_LEVEL=DEBUG tells more"
    hint = next((advice for part, advice in _ADVICE.items() if part in line), again)
    return f"failed: {line} ({hint})"


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
