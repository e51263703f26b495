"""Keeps each image of a finished dataset once: by the bytes of its file; with
--near also one of photographs that look alike.

Only shards that change are rewritten. In rejected/ a pair whose image another
URL has too is duplicate_image then. If it is interrupted, the same command
resumes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence

from alignset.pipeline.command_line import CommandParser, log_plainly, print_end, print_failure
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.beam_patches import quick_imports
from alignset.pipeline.shown_texts import counted
from alignset.signals import run_main

NAME = "python -m alignset.pipeline.deduplicate"


def parser(name: str = NAME) -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    flags = CommandParser(prog=name, usage="%(prog)s OUT [flags]", description=__doc__)
    flags.add_argument("set", metavar="OUT", help="the --output of a run; may be s3:// or gs://")
    flags.add_argument(
        "--near", action="store_true", help="also keep one of photographs that look alike"
    )
    flags.add_argument("--dry_run", action="store_true", help="only tell what would go")
    return flags


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the command; returns 0 done, 1 failed, 2 wrong flags."""
    flags = parser(name).parse_args(list(argv))
    log_plainly(logging.WARNING)
    with quick_imports(argv):
        from alignset.pipeline.deduplicate.deduplicate import deduplicate
    try:
        dropped, shards = deduplicate(
            flags.set.rstrip("/") or flags.set, near=flags.near, dry=flags.dry_run
        )
    except UsageError as error:
        return print_end(name, error, 2)
    except Exception as error:
        return print_failure(name, error, "; the same command resumes")
    print(render(dropped, shards, dry=flags.dry_run))
    return 0


def render(dropped: Mapping[str, int], shards: int, *, dry: bool) -> str:
    """As "left: 30 pairs (duplicate_image 30); 3 shards changed"."""
    if not shards:
        return "no image is in the dataset twice; nothing was changed"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
    pairs = counted(sum(dropped.values()), "pair")
    return (
        f"{'would leave' if dry else 'left'}: {pairs} ({reasons}); "
        f"{counted(shards, 'shard')} {'would change' if dry else 'changed'}"
    )


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
