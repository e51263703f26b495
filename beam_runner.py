"""Image URLs with alt-texts in, ALIGN's filtered WebDataset shards out: see --help."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns 0 done, 1 failed, 2 wrong flags."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    from pipeline.options import UsageError, parse  # Beam takes 2 s to import, and warns
    from pipeline.run import run

    level = os.environ.get("ALIGNSET_LOG_LEVEL", "")
    logging.getLogger().setLevel(level or "WARNING")
    logging.getLogger("alignset").setLevel(level or "INFO")  # our own progress
    for name in ("common", "worker"):  # they log a traceback of what is raised here all the same
        logging.getLogger(f"apache_beam.runners.{name}").setLevel(level or "CRITICAL")
    try:
        run(parse(argv))
    except UsageError as error:
        print(f"beam_runner.py: {_printable(str(error))}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Exception) as error:
        print(f"beam_runner.py: {_last_line(error)}", file=sys.stderr)
        return 1
    return 0


def _last_line(error: BaseException | None) -> str:
    if os.environ.get("ALIGNSET_LOG_LEVEL") == "DEBUG":
        traceback.print_exception(error)
    lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
    while error is not None:  # within a bundle Beam makes a RuntimeError of it
        if isinstance(error, KeyboardInterrupt):
            return "stopped; the same command goes on from here"
        error = error.__cause__ or error.__context__
    hint = "the same command tries again from here; ALIGNSET_LOG_LEVEL=DEBUG tells more"
    return f"failed: {_printable(lines[-1].strip())} ({hint})"


def _printable(text: str) -> str:
    """On one line: a column's or a file's name may hold line breaks and a terminal's commands."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
