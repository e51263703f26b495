"""Writes a contact sheet (PNG) of some pairs of a dataset, and lists them.

With --reason they are dropped pairs, else kept ones, and the same each time. A
copy is beside the evaluation, the kept or the listed image.
"""

from __future__ import annotations

import argparse
import io
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from alignset.pipeline.command_line import (
    FAILURES,
    CommandParser,
    add_distances,
    given_distances,
    log_plainly,
    print_end,
    print_failure,
)
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.beam_patches import quick_imports
from alignset.signals import run_main

if TYPE_CHECKING:
    from alignset.pipeline.look.shown_pairs import ShownPairs

NAME = "python -m alignset.pipeline.look"
MOST_PAIRS = 200


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MOST_PAIRS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MOST_PAIRS}; got {text!r}")
    return int(text)


def _png(text: str) -> str:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"must end in .png; got {text!r}")
    return text


def parser(name: str = NAME) -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    usage = "%(prog)s OUT [flags]"
    flags = CommandParser(prog=name, usage=usage, description=__doc__)
    flags.add_argument("set", metavar="OUT", help="the --output of a run, or a folder of shards")
    flags.add_argument(
        "--reason",
        default="",
        metavar="REASON",
        help="why the pairs were dropped, such as too_small or fetch_failed:http_404; dropped: any "
        "reason",
    )
    flags.add_argument(
        "--blocklist",
        default="",
        metavar="FILE,...",
        help="kept pairs on these lists, as takedown takes them",
    )
    flags.add_argument(
        "--eval_images",
        default="",
        metavar="SETS",
        help="NAME=PATH,...: images to show beside their copies",
    )
    flags.add_argument(
        "--language",
        default="",
        metavar="CODE",
        help="of the pairs, where the dataset has languages",
    )
    flags.add_argument(
        "--n", type=_count, default=20, help=f"pairs, 1 to {MOST_PAIRS} (default: 20)"
    )
    flags.add_argument(
        "--output",
        type=_png,
        default="look.png",
        metavar="FILE",
        help="where the image goes (default: look.png)",
    )
    add_distances(flags)
    return flags


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the command; returns 0 done, 1 failed or nothing to show, 2 wrong flags."""
    own_parser = parser(name)
    flags = own_parser.parse_args(list(argv))
    if flags.blocklist and (flags.reason or flags.language):
        own_parser.error("--blocklist takes neither --reason nor --language")
    if given_distances(flags) and not flags.blocklist:
        own_parser.error(f"{given_distances(flags)[0]} takes --blocklist")
    if flags.eval_images and flags.reason.partition(":")[0] != "evaluation_overlap":
        own_parser.error("--eval_images is for --reason=evaluation_overlap")
    log_plainly(logging.WARNING)
    with quick_imports(argv):
        from alignset.pipeline.look.shown_pairs import NothingToShow, find_pairs
        from alignset.pipeline.runs.work_folder import WorkFolder
    try:
        WorkFolder(f"{flags.set}/_temporary").tell_takedown(flags.set)
        if flags.blocklist:
            from alignset.pipeline.look.listed import find_listed_pairs

            distances = flags.min_blocked_phash_distance, flags.min_blocked_pdq_distance
            shown = find_listed_pairs(flags.set, flags.blocklist, flags.n, distances)
            _show(shown, flags.output)
        else:
            result = find_pairs(flags.set, flags.reason, flags.n, flags.language)
            if flags.eval_images:
                from alignset.pipeline.inputs.find_evaluation import find_evaluation_files

                evaluation = find_evaluation_files(flags.eval_images)
                result = replace(result, files=replace(result.files, evaluation=evaluation))
            _show(result, flags.output)
    except UsageError as error:
        return print_end(name, error, 2)
    except NothingToShow as error:
        return print_end(name, error, 1)
    except FAILURES as error:
        return print_failure(name, error)
    return 0


def _show(result: ShownPairs, output: str) -> None:
    from alignset.pipeline.look.sheet import boxes_note, draw_sheet
    from alignset.transforms.storage.files import write_atomically

    png = io.BytesIO()
    sheet = draw_sheet(result.title, result.subtitle, result.pairs, result.pictures())
    sheet.save(png, "PNG", compress_level=4)  # as small as by 9, in a quarter of the time
    write_atomically(output, lambda sink: sink.write(png.getvalue()))
    print(result.title, result.subtitle, "", sep="\n")
    print(result.table(shutil.get_terminal_size((100, 24)).columns))
    if note := boxes_note(pair.caption for pair in result.pairs):
        print(note, file=sys.stderr)
    print(f"the image is in {output}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
