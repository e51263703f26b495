"""Takes listed pairs out of a finished dataset, by hosts, URLs, words or hashes.

They are taken_down in rejected/, for good. Killed, the same command resumes.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
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
    from alignset.pipeline.datasets.find_listed import Listed

NAME = "python -m alignset.pipeline.takedown"


def parser(name: str = NAME) -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    usage = "%(prog)s OUT --blocklist=FILE,... [flags]"
    flags = CommandParser(prog=name, usage=usage, description=__doc__)
    flags.add_argument("set", metavar="OUT", help="the --output of a run; may be s3:// or gs://")
    flags.add_argument(
        "--blocklist",
        required=True,
        metavar="FILE,...",
        help="NAME=FILE or FILE of what goes, or image:PATH",
    )
    flags.add_argument("--dry_run", action="store_true", help="only tell what would go")
    flags.add_argument("--yes", action="store_true", help="where more than half of it goes")
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
        from alignset.pipeline.datasets.find_listed import find_listed
        from alignset.pipeline.datasets.set_files import no_set
        from alignset.pipeline.datasets.steps_set import manifest_of_steps, read_any_set
        from alignset.pipeline.inputs.find_blocklists import find_blocklists
        from alignset.transforms.rules.rule_settings import RuleSettings
        from alignset.transforms.storage.files import exists

        if not flags.dry_run:
            # Which writes all that a run writes.
            from alignset.pipeline.takedown.take_down import take_down
    distances = flags.min_blocked_phash_distance, flags.min_blocked_pdq_distance
    fields = ("min_blocked_phash_distance", "min_blocked_pdq_distance")
    try:
        RuleSettings(**dict(zip(fields, distances, strict=True)))  # checks them
        lists = find_blocklists(flags.blocklist, *distances)
        if not lists.lists:
            raise UsageError("--blocklist is empty; pass files with what is to go")
        out, forget = flags.set.rstrip("/") or flags.set, flags.forget_blocked
        if not exists(f"{out}/manifest.json"):
            if manifest_of_steps(out) is None:
                raise no_set(out)
            if flags.reason != OPT_OUT:
                raise UsageError(f"{out} has no card that could give a reason: leave --reason out")
        if flags.dry_run:
            listed = find_listed(out, read_any_set(out), lists, forget=forget)
        else:
            listed = take_down(out, lists, forget=forget, reason=flags.reason, sure=flags.yes)
    except (UsageError, ValueError) as error:
        return print_end(name, error, 2)
    except FAILURES as error:
        return print_failure(name, error, "; the same command resumes")
    print(render(listed, dry=flags.dry_run))
    if flags.dry_run and listed.pairs:
        look = name.replace("takedown", "look")
        words = [*look.split(), out, f"--blocklist={flags.blocklist}", *given_distances(flags)]
        print(f"to see them: {shlex.join(words)}")
    if listed.pairs and not flags.dry_run:
        is_short = name.startswith("alignset")
        search = "alignset search" if is_short else "python -m alignset.train.search"
        print(
            "a search index of this dataset leaves them out of its results if it can read it where "
            "it lay, but its files keep URL, caption and vector until you make it again: "
            f"{search} index --model=MODEL --data={out}/shards --index=INDEX; "
            "docs/how_to/takedown.md lists other places"
        )
    return 0


def render(listed: Listed, *, dry: bool) -> str:
    """As "taken down: 3 pairs (list-1f0a2b3c:host 3) of 1 of 100 shards; 2 dropped pairs …"."""
    if not listed.pairs and not listed.rejected_rows:
        return "nothing in the dataset is on the list; nothing was changed"
    kinds = ", ".join(f"{detail} {count:,}" for detail, count in listed.details.items())
    text = f"{counted(listed.pairs, 'pair')}{f' ({kinds})' if kinds else ''}"
    if listed.of:
        text += f" in {listed.shards:,} of {counted(listed.of, 'shard')}"
    text += f"; {counted(listed.rejected_rows, 'pair')} dropped before may not be read again"
    text += "; more than half of the dataset, which needs --yes" if dry and listed.most else ""
    return f"{'would be taken down' if dry else 'taken down'}: {text}"


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
