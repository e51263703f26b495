"""Copies what may be published of a finished dataset to a folder, or lists it.

Dropped pairs, and pages that show them, are never among the files. If it is
interrupted, the same command resumes; a whole folder has a manifest.json.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from alignset.pipeline.command_line import CommandParser, log_plainly, print_end, print_failure
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.beam_patches import quick_imports
from alignset.pipeline.shown_texts import counted, printable
from alignset.signals import run_main

NAME = "python -m alignset.pipeline.publish"


def parser(name: str = NAME) -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    usage = "%(prog)s OUT --output=FOLDER | --dry_run"
    flags = CommandParser(prog=name, usage=usage, description=__doc__)
    flags.add_argument("set", metavar="OUT", help="the --output of a run; may be s3:// or gs://")
    flags.add_argument(
        "--output", default="", metavar="FOLDER", help="a local folder, to upload as it is"
    )
    flags.add_argument(
        "--dry_run", action="store_true", help="list path and bytes, and copy nothing"
    )
    return flags


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the command; returns 0 done, 1 failed, 2 wrong flags."""
    flags = parser(name).parse_args(list(argv))
    log_plainly(logging.WARNING)
    with quick_imports(argv):
        from alignset.pipeline.public_files import public_files, publish
        from alignset.transforms.storage.files import match
    out, target = flags.set.rstrip("/") or flags.set, flags.output.rstrip("/") or flags.output
    try:
        if flags.dry_run == bool(target):
            raise UsageError("pass either --dry_run, which lists, or --output=FOLDER, which copies")
        files = public_files(out) if flags.dry_run else publish(out, target)
    except UsageError as error:
        return print_end(name, error, 2)
    except Exception as error:
        return print_failure(name, error, "; the same command resumes")
    if flags.dry_run:
        for file in files:
            print(f"{file.path}\t{file.size}")
    size = sum(file.size for file in files)
    left_out = {
        path.removeprefix(f"{out}/").partition("/")[0] for path, _ in match(out, links=True)
    }
    left_out -= {file.path.partition("/")[0] for file in files}
    print(
        f"{counted(len(files), 'file')}, {size:,} bytes{'' if flags.dry_run else f' in {target}'}; "
        f"not among them: {', '.join(map(printable, sorted(left_out))) or 'nothing'}",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
