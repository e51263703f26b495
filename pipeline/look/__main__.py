"""Writes a page (HTML) of some pairs of a dataset, and lists them.

With --reason they are dropped pairs, else kept ones, and the same each time. A
copy is beside the evaluation, the kept or the listed image.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from alignset.pipeline.command_line import (
    CommandParser,
    add_distances,
    end_of,
    given_distances,
    html_path,
    log_plainly,
)
from alignset.pipeline.runs.beam_patches import quick_imports
from alignset.signals import run_main

NAME = "python -m alignset.pipeline.look"
MOST_PAIRS = 200
_FLAGS = {
    "reason": ("REASON", "dropped pairs: for fetch_failed:http_404 or too_small; dropped: for any"),
    "blocklist": ("FILE,...", "kept pairs on these lists, as takedown takes them"),
    "eval_images": ("SETS", "NAME=PATH,...: images to show beside their copies"),
    "language": ("CODE", "of the pairs, where the dataset has languages"),
}


def parser(name: str = NAME) -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    flags = CommandParser(prog=name, usage="%(prog)s OUT [flags]", description=__doc__)
    flags.add_argument("set", metavar="OUT", help="the --output of a run, or a folder of shards")
    for flag, (metavar, meaning) in _FLAGS.items():
        flags.add_argument(f"--{flag}", default="", metavar=metavar, help=meaning)
    flags.add_argument(
        "--n", default="20", metavar="N", help=f"pairs, 1 to {MOST_PAIRS} (default: 20)"
    )
    flags.add_argument(
        "--output",
        type=html_path,
        default="look.html",
        metavar="FILE",
        help="where the page goes (default: look.html)",
    )
    add_distances(flags)
    return flags


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the command; returns 0 done, 1 failed or nothing to show, 2 wrong flags."""
    own_parser = parser(name)
    flags = own_parser.parse_args(list(argv))
    if not flags.n.isdecimal() or not 1 <= int(flags.n) <= MOST_PAIRS:
        own_parser.error(f"--n must be from 1 to {MOST_PAIRS}; got {flags.n!r}")
    if flags.blocklist and (flags.reason or flags.language):
        own_parser.error("--blocklist takes neither --reason nor --language")
    if given_distances(flags) and not flags.blocklist:
        own_parser.error(f"{given_distances(flags)[0]} takes --blocklist")
    if flags.eval_images and flags.reason.partition(":")[0] != "evaluation_overlap":
        own_parser.error("--eval_images is for --reason=evaluation_overlap")
    log_plainly(logging.WARNING)
    with quick_imports(argv):
        from alignset.pipeline.look.shown_pairs import write_page
    return end_of(name, lambda: write_page(flags))


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
