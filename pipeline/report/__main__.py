"""Writes report.html, one file that opens offline.

It shows what a run dropped and why, and what is in its set, while the run is
under way too; of img2dataset's folders and other WebDataset shards what is in
them. With --compare: two datasets side by side.

With thresholds, as --max_unsafe_score=0.3 --min_image_side=150, it writes no
page, and prints how many pairs these would keep.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from alignset.pipeline.command_line import (
    FAILURES,
    CommandParser,
    html_path,
    log_plainly,
    print_end,
    print_failure,
)
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.beam_patches import quick_imports
from alignset.signals import run_main

NAME = "python -m alignset.pipeline.report"


def parser(name: str = NAME) -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    flags = CommandParser(prog=name, description=__doc__)
    flags.add_argument(
        "sets", metavar="OUT", nargs="+", help="the --output of a run, or a folder of shards"
    )
    flags.add_argument("--compare", action="store_true", help="two datasets, side by side")
    flags.add_argument(
        "--output",
        type=html_path,
        metavar="FILE",
        help="where the report goes (default: OUT/report.html; report.html here for another tool's "
        "shards, and compare.html for two datasets)",
    )
    return flags


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the command; returns 0 done, 1 failed, 2 wrong flags."""
    own_parser = parser(name)
    flags, thresholds = own_parser.parse_known_args(list(argv))
    if len(flags.sets) != 1 + flags.compare:
        wanted = "--compare takes two datasets" if flags.compare else "pass one dataset"
        own_parser.error(f"{wanted}; got {len(flags.sets)}")
    if wrong := [flag for flag in thresholds if "=" not in flag]:
        own_parser.error(f"unrecognized arguments: {wrong[0]}; pass a threshold as --FLAG=NUMBER")
    if thresholds and (flags.compare or flags.output):
        own_parser.error(f"{thresholds[0]} prints counts: pass neither --compare nor --output")
    log_plainly(logging.WARNING)
    with quick_imports(argv):
        if thresholds:
            from alignset.pipeline.report.sliders import count_thresholds
        elif flags.compare:
            from alignset.pipeline.report.comparison import write_comparison
        else:
            from alignset.pipeline.report.page import write_report
        from alignset.pipeline.runs.work_folder import WorkFolder
    try:
        for out in flags.sets:
            WorkFolder(f"{out}/_temporary").tell_takedown(out)
        if thresholds:
            print(count_thresholds(flags.sets[0], thresholds))
            return 0
        if flags.compare:
            path = write_comparison(flags.sets[0], flags.sets[1], flags.output or "compare.html")
        else:
            path = write_report(flags.sets[0], flags.output or "")
    except UsageError as error:
        return print_end(name, error, 2)
    except FAILURES as error:
        return print_failure(name, error)
    print(f"the report is in {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
