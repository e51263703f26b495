"""Takes listed pairs out of a finished dataset, by hosts, URLs, words or hashes.

They are taken_down in rejected/, for good. Killed, the same command resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
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
from alignset.pipeline.removal_reasons import OPT_OUT, REMOVAL_REASONS
from alignset.pipeline.runs.beam_patches import quick_imports
from alignset.pipeline.shown_texts import counted
from alignset.signals import run_main

if TYPE_CHECKING:
    from alignset.pipeline.datasets.find_listed import Outcome
    from alignset.pipeline.datasets.folders import Folder

NAME = "python -m alignset.pipeline.takedown"


def parser(name: str = NAME) -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    usage = "%(prog)s OUT --blocklist=FILE,... [flags]"
    flags = CommandParser(prog=name, usage=usage, description=__doc__)
    flags.add_argument("set", metavar="OUT", help="the --output of a run, or a folder of shards")
    flags.add_argument(
        "--blocklist",
        required=True,
        metavar="FILE,...",
        help="NAME=FILE or FILE of what goes, or image:PATH",
    )
    flags.add_argument("--dry_run", action="store_true", help="only tell what would go")
    flags.add_argument(
        "--output",
        default="",
        metavar="NEW",
        help="of another tool's shards: the folder of what stays",
    )
    flags.add_argument(
        "--in_place", action="store_true", help="of another tool's shards: changes them, with --yes"
    )
    flags.add_argument(
        "--yes", action="store_true", help="with --in_place, and where more than half of it goes"
    )
    flags.add_argument(
        "--reason",
        choices=REMOVAL_REASONS,
        default=OPT_OUT,
        help="why they go, which the card says (%(default)s)",
    )
    flags.add_argument(
        "--forget_blocked",
        action="store_true",
        help="leave neither URL nor text of what goes in rejected/",
    )
    add_distances(flags)
    return flags


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the command; returns 0 done, 1 failed, 2 wrong flags."""
    flags = parser(name).parse_args(list(argv))
    log_plainly(logging.WARNING)
    with quick_imports(argv):
        from alignset.pipeline.datasets.steps_set import manifest_of_steps
        from alignset.pipeline.inputs.find_blocklists import find_blocklists
        from alignset.pipeline.rules import Rules
        from alignset.transforms.storage.files import exists

        do = _dry_run_or_takedown(flags.dry_run, sure=flags.yes)
    distances = flags.min_blocked_phash_distance, flags.min_blocked_pdq_distance
    fields = ("min_blocked_phash_distance", "min_blocked_pdq_distance")
    try:
        dataclasses.replace(Rules(), **dict(zip(fields, distances, strict=True)))  # checks them
        lists = find_blocklists(flags.blocklist, *distances)
        if not lists.lists:
            raise UsageError("--blocklist is empty; pass files with what is to go")
        out, forget = flags.set.rstrip("/") or flags.set, flags.forget_blocked
        has_documents = exists(f"{out}/manifest.json")
        is_ours = has_documents or manifest_of_steps(out) is not None
        folder = None if is_ours else folder_of(out, flags)
        if folder is None:
            if not is_ours and any(path.is_symlink() for path in Path(out).glob("*")):
                raise UsageError(
                    f"the shards of {out} are links, which are left out: pass the folder that they "
                    "lead to"
                )
            if flags.output and is_ours:
                raise UsageError(
                    f"{out} is a dataset of alignset, which changes itself: leave --output out"
                )
            if is_ours and not has_documents and flags.reason != OPT_OUT:
                raise UsageError(f"{out} has no card that could give a reason: leave --reason out")
            outcome = do(out, lists, forget=forget, reason=flags.reason)
        else:
            from alignset.pipeline.takedown.folders import take_down_folder

            target = "" if flags.dry_run else flags.output or out
            outcome = take_down_folder(folder, lists, target)
    except (UsageError, ValueError) as error:
        return print_end(name, error, 2)
    except FAILURES as error:
        return print_failure(name, error, "; the same command resumes")
    print(render(outcome, dry=flags.dry_run))
    if flags.dry_run and outcome.pairs:
        look = name.replace("takedown", "look")
        words = [*look.split(), out, f"--blocklist={flags.blocklist}", *given_distances(flags)]
        print(f"to see them: {shlex.join(words)}")
    if outcome.pairs and not flags.dry_run and folder is None:
        print(told_of_indexes(flags.set.rstrip("/"), name))
    return 0


def folder_of(out: str, flags: argparse.Namespace) -> Folder | None:
    """Contents of a folder of another tool, or None.

    Raises:
      UsageError: its flags are missing.
    """
    from alignset.pipeline.datasets.folder_samples import folder_shards

    if not folder_shards(out):
        return None
    check_target(out, flags)
    from alignset.pipeline.datasets.folders import read_folder  # which decodes images

    return read_folder(out)


def check_target(out: str, flags: argparse.Namespace) -> None:
    """Raises UsageError where it is not said, or taken, where the shards of another tool go."""
    from alignset.transforms.storage.files import match

    if flags.reason != OPT_OUT or flags.forget_blocked:
        raise UsageError(
            f"{out} was made by another tool, and has neither a card nor rejected/: leave --reason "
            "and --forget_blocked out"
        )
    if flags.dry_run:
        return
    if flags.in_place != flags.yes or flags.in_place == bool(flags.output):
        raise UsageError(
            f"{out} was made by another tool: pass --output=NEW for a copy without what is listed, "
            "or --in_place --yes, which changes its shards for good"
        )
    if flags.output and match(flags.output, links=True):
        raise UsageError(f"--output={flags.output} holds files: name a new folder")


def _dry_run_or_takedown(dry: bool, *, sure: bool) -> Callable[..., Outcome]:
    if dry:
        from alignset.pipeline.datasets.find_listed import dry_run

        return dry_run
    from alignset.pipeline.takedown.take_down import take_down  # which writes all that a run writes

    return partial(take_down, sure=sure)


def render(outcome: Outcome, *, dry: bool) -> str:
    """As "taken down: 3 pairs (list-1f0a2b3c:host 3) of 1 of 100 shards; 2 dropped pairs …"."""
    if not outcome.pairs and not outcome.rejected_rows:
        return "nothing in the dataset is on the list; nothing was changed"
    kinds = ", ".join(f"{detail} {count:,}" for detail, count in outcome.details.items())
    text = f"{counted(outcome.pairs, 'pair')}{f' ({kinds})' if kinds else ''}"
    if outcome.of:
        text += f" in {outcome.shards:,} of {counted(outcome.of, 'shard')}"
    text += f"; {counted(outcome.rejected_rows, 'pair')} dropped before may not be read again"
    text += "; more than half of the dataset, which needs --yes" if dry and outcome.most else ""
    return f"{'would be taken down' if dry else 'taken down'}: {text}"


def told_of_indexes(out: str, name: str) -> str:
    """Advice on the search indexes that were made of a dataset."""
    search = "alignset search" if name.startswith("alignset") else "python -m alignset.train.search"
    return (
        "a search index of this dataset leaves them out of its results if it can read it where it "
        "lay, but its files keep URL, caption and vector until you make it again: "
        f"{search} index --model=MODEL --data={out}/shards --index=INDEX; "
        "docs/how_to/takedown.md lists other places"
    )


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
