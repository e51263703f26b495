"""A takedown: what is on the lists is found, written down, taken out file by file, and told of.

It holds the output as a run does. Killed anywhere after it wrote down what leaves, the same command
resumes from there. The manifest is written last.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from msgspec import UNSET, UnsetType

from alignset.pipeline.datasets.find_listed import Listed, find_listed
from alignset.pipeline.datasets.steps_set import read_any_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.removal_reasons import OPT_OUT
from alignset.pipeline.rewrite import held_set
from alignset.pipeline.runs.documents import Takedown
from alignset.pipeline.runs.run_folder import named_lists
from alignset.pipeline.runs.work_folder import Change
from alignset.pipeline.shown_texts import counted
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.shards.leaving_pairs import write_leaving


def take_down(
    out: str, lists: Blocklists, *, forget: bool, reason: str = OPT_OUT, sure: bool = False
) -> Listed:
    """Takes what is on the lists out of a finished dataset; returns what that was. A command that
    resumes no longer knows by which entries, or of how many shards.

    Args:
      out: its folder. forget: whether rows of `rejected/` then hold neither URL nor text of it.
      reason: one of REMOVAL_REASONS. sure: whether more than half of the pairs may go.

    Raises:
      UsageError: there is no such dataset, something else is under way in it, or nearly all would
        go.
    """
    read_any_set(out)
    named = named_lists(lists)
    assert not isinstance(named, UnsetType)
    words = [f"--blocklist={','.join(of.name for of in named)}"]
    words += ["--forget_blocked"] if forget else []
    words += [f"--reason={reason}"] if reason != OPT_OUT else []
    with held_set(out, "takedown", words) as held:
        if change := held.change:
            done = (change.manifest.takedowns or [])[-1]
            if done.lists != named:
                raise UsageError(
                    f"a takedown of {out} by other entries of {words[0].partition('=')[2]} was "
                    "stopped; resume it with the lists as they were, and then run this"
                )
            listed = Listed({}, done.pairs, 0, done.dropped, done.dropped, {}, 0, most=False)
        else:
            manifest = read_any_set(out)
            listed = find_listed(out, manifest, lists, forget=forget)
            if not listed.leaving:
                return listed
            if listed.most and not sure:
                raise UsageError(
                    f"{listed.pairs:,} of {counted(manifest.pairs, 'pair')} are on the list, "
                    "more than half: --dry_run counts them by entry, and --yes takes them out; "
                    "nothing was changed"
                )
            for name, rows in listed.leaving.items():
                write_leaving(held.work.leaving, name, rows)
            day = datetime.now(UTC).date().isoformat()
            why = UNSET if reason == OPT_OUT else reason
            done = Takedown(day, named, listed.pairs, listed.newly_taken, forget, why)
            manifest = replace(manifest, takedowns=[*(manifest.takedowns or []), done])
            change = Change("takedown", words, manifest)
        held.finish(change, forget=forget)
    return listed
