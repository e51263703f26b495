"""The commands around a dataset: `look`, `report`, `takedown`, `recheck`, `deduplicate`, `audit`,
`card`, `verify` and `publish`; and `rules`.

Each takes its flags here, and only then imports what does the work, so that `--help` starts at
once. Each returns 0 done, 1 failed or nothing to show, 2 wrong flags.
"""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import getdoc
from typing import TYPE_CHECKING, Any

from alignset.called import give
from alignset.pipeline.command_line import (
    DISTANCES,
    OPT_OUT,
    REMOVAL_REASONS,
    CommandParser,
    end_of,
    log_plainly,
)
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.beam_patches import quick_imports
from alignset.pipeline.shown_texts import counted, printable

if TYPE_CHECKING:
    from alignset.pipeline.datasets.find_listed import Listed

MOST_PAIRS = 200
_RESUMES = "; the same command resumes"
_OF_A_RUN = "the --output of a run; may be s3:// or gs://"
_OF_ANY = "the --output of a run, or a folder of shards"


@contextmanager
def _imports(argv: Sequence[str]) -> Iterator[None]:
    log_plainly(logging.WARNING)
    with quick_imports(argv):
        yield


def _folder(path: str) -> str:
    return path.rstrip("/") or path


def _parser(name: str, command: object, dataset: str, usage: str | None = None) -> CommandParser:
    """The parser of a command on a dataset, which its docstring describes."""
    flags = CommandParser(prog=name, usage=usage, description=getdoc(command))
    flags.add_argument("set", metavar="OUT", help=dataset, type=_folder)
    return flags


def _html_path(text: str) -> str:
    if not text.lower().endswith(".html"):
        raise argparse.ArgumentTypeError(f"must end in .html, for a page is written; got {text!r}")
    return text


def _add_distances(flags: argparse.ArgumentParser) -> None:
    """Adds the flags of how near to a listed hash an image is on the list."""
    for name, default in DISTANCES.items():
        flags.add_argument(
            f"--{name}",
            type=int,
            default=default,
            metavar="BITS",
            help=f"least distance to a listed {name.split('_')[2]} that stays ({default})",
        )


def _given_distances(flags: argparse.Namespace) -> list[str]:
    """The distances that are not at their defaults, as words of a command."""
    values = {name: getattr(flags, name) for name in DISTANCES}
    return [f"--{name}={value}" for name, value in values.items() if value != DISTANCES[name]]


def rules(argv: Sequence[str], name: str = "alignset rules") -> int:
    """Lists each rule with a threshold, in the order in which they are judged: its flag
    with the default, its reason, and why a pair is dropped.

    docs/filters.md also has the reasons without a threshold.
    """
    parser = CommandParser(prog=name, usage="%(prog)s [--rules=FILE.py]", description=getdoc(rules))
    parser.add_argument(
        "--rules", default="", metavar="FILE,...", help="list rules of your own, too"
    )
    flags = parser.parse_args(list(argv))
    with _imports(argv):
        from alignset.pipeline.rule_files import rules_of_users
        from alignset.pipeline.settings import DECLARED
        from alignset.transforms.rules.catalogue import Catalogue
        from alignset.transforms.rules.columns import OF_ANY_COLUMN, column_rules
        from alignset.transforms.rules.personal_data import MAX_PERSONAL_DATA

    def show() -> None:
        custom = (*rules_of_users(flags.rules, "", DECLARED).limits, MAX_PERSONAL_DATA)
        columns = column_rules(OF_ANY_COLUMN)
        for rule in Catalogue(custom, is_balanced=True, columns=columns).rules:
            default = "off" if rule.is_off(rule.default) else rule.default
            flag = f"--{rule.name}{f'={default}' * (rule not in columns)}"
            means = re.sub(r"\[(.*?)\]\(.*?\)|`", r"\1", rule.means)
            print(f"{flag:<31} {rule.reason:<25} {means}")

    return end_of(name, show)


def look(argv: Sequence[str], name: str = "alignset look") -> int:
    """Writes a page (HTML) of some pairs of a dataset, and lists them.

    With --reason they are dropped pairs, else kept ones, and the same each time. A
    copy is beside the evaluation, the kept or the listed image.
    """
    parser = _parser(name, look, _OF_ANY, "%(prog)s OUT [flags]")
    for flag, metavar, meaning in (
        (
            *("reason", "REASON"),
            "dropped pairs: for fetch_failed:http_404 or too_small; dropped: for any",
        ),
        ("blocklist", "FILE,...", "kept pairs on these lists, as takedown takes them"),
        ("eval_images", "SETS", "NAME=PATH,...: images to show beside their copies"),
        ("language", "CODE", "of the pairs, where the dataset has languages"),
    ):
        parser.add_argument(f"--{flag}", default="", metavar=metavar, help=meaning)
    parser.add_argument(
        "--n", default="20", metavar="N", help=f"pairs, 1 to {MOST_PAIRS} (default: 20)"
    )
    parser.add_argument(
        "--output",
        type=_html_path,
        default="look.html",
        metavar="FILE",
        help="where the page goes (default: look.html)",
    )
    _add_distances(parser)
    flags = parser.parse_args(list(argv))
    if not flags.n.isdecimal() or not 1 <= int(flags.n) <= MOST_PAIRS:
        parser.error(f"--n must be from 1 to {MOST_PAIRS}; got {flags.n!r}")
    if flags.blocklist and (flags.reason or flags.language):
        parser.error("--blocklist takes neither --reason nor --language")
    if _given_distances(flags) and not flags.blocklist:
        parser.error(f"{_given_distances(flags)[0]} takes --blocklist")
    if flags.eval_images and flags.reason.partition(":")[0] != "evaluation_overlap":
        parser.error("--eval_images is for --reason=evaluation_overlap")
    with _imports(argv):
        from alignset.pipeline.look import write_page
    return end_of(name, lambda: write_page(flags))


def report(argv: Sequence[str], name: str = "alignset report") -> int:
    """Writes report.html, one file that opens offline.

    It shows what a run dropped and why, and what the dataset has, even while the
    run is under way; of img2dataset's folders and other WebDataset shards it shows
    what they have. With --compare: two datasets side by side.

    With thresholds, as --max_unsafe_score=0.3 --min_image_side=150, it writes no
    page, and prints how many pairs these would keep.
    """
    parser = CommandParser(prog=name, description=getdoc(report))
    parser.add_argument("sets", metavar="OUT", nargs="+", help=_OF_ANY)
    parser.add_argument("--compare", action="store_true", help="two datasets, side by side")
    parser.add_argument(
        "--output",
        type=_html_path,
        metavar="FILE",
        help="where the report goes (default: OUT/report.html; report.html here for another tool's "
        "shards, and compare.html for two datasets)",
    )
    flags, thresholds = parser.parse_known_args(list(argv))
    if len(flags.sets) != 1 + flags.compare:
        wanted = "--compare takes two datasets" if flags.compare else "pass one dataset"
        parser.error(f"{wanted}; got {len(flags.sets)}")
    if wrong := [flag for flag in thresholds if "=" not in flag]:
        parser.error(f"unrecognized arguments: {wrong[0]}; pass a threshold as --FLAG=NUMBER")
    if thresholds and (flags.compare or flags.output):
        parser.error(f"{thresholds[0]} prints counts: pass neither --compare nor --output")
    with _imports(argv):
        if thresholds:
            from alignset.pipeline.report.sliders import count_thresholds
        elif flags.compare:
            from alignset.pipeline.report.comparison import write_comparison
        else:
            from alignset.pipeline.report.page import write_report
        from alignset.pipeline.runs.work_folder import WorkFolder

    def write() -> None:
        for out in flags.sets:
            WorkFolder(f"{out}/_temporary").tell_takedown(out)
        if thresholds:
            counts = count_thresholds(flags.sets[0], thresholds)
            give(counts, counts)
            return
        if flags.compare:
            path = write_comparison(flags.sets[0], flags.sets[1], flags.output or "compare.html")
        else:
            path = write_report(flags.sets[0], flags.output or "")
        give(path, f"the report is in {path}", file=sys.stderr)

    return end_of(name, write)


def takedown(argv: Sequence[str], name: str = "alignset takedown") -> int:
    """Takes listed pairs out of a finished dataset, by hosts, URLs, words or hashes.

    They are taken_down in rejected/, for good. Killed, the same command resumes.
    """
    parser = _parser(name, takedown, _OF_A_RUN, "%(prog)s OUT --blocklist=FILE,... [flags]")
    parser.add_argument(
        "--blocklist",
        required=True,
        metavar="FILE,...",
        help="FILE or NAME=FILE of what to remove, or image:PATH",
    )
    parser.add_argument("--dry_run", action="store_true", help="count pairs, change nothing")
    parser.add_argument("--yes", action="store_true", help="even if it is over half")
    parser.add_argument(
        "--reason",
        choices=REMOVAL_REASONS,
        default=OPT_OUT,
        help="why, on the card (%(default)s)",
    )
    parser.add_argument(
        "--forget_blocked",
        action="store_true",
        help="record neither URL nor text of removed pairs",
    )
    _add_distances(parser)
    flags = parser.parse_args(list(argv))
    with _imports(argv):
        from alignset.pipeline.datasets.find_listed import find_listed
        from alignset.pipeline.datasets.set_files import manifest_of_steps, no_set, read_any_set
        from alignset.pipeline.inputs.find_lists import find_blocklists
        from alignset.transforms.rules.rule_settings import RuleSettings
        from alignset.transforms.storage.files import exists

        if not flags.dry_run:
            # Which writes all that a run writes.
            from alignset.pipeline.change_dataset import take_down

    def take() -> None:
        distances: dict[str, Any] = {of: getattr(flags, of) for of in DISTANCES}
        out, forget = flags.set, flags.forget_blocked
        try:
            RuleSettings(**distances)  # checks them
            lists = find_blocklists(flags.blocklist, *distances.values())
            if not lists.lists:
                raise UsageError("--blocklist is empty; pass files with what is to go")
            if not exists(f"{out}/manifest.json"):
                if manifest_of_steps(out) is None:
                    raise no_set(out)
                if flags.reason != OPT_OUT:
                    raise UsageError(
                        f"{out} has no card that could give a reason: leave --reason out"
                    )
            if flags.dry_run:
                listed = find_listed(out, read_any_set(out), lists, forget=forget)
            else:
                listed = take_down(out, lists, forget=forget, reason=flags.reason, sure=flags.yes)
        except ValueError as error:
            raise UsageError(str(error)) from error
        lines = [render_listed(listed, dry=flags.dry_run)]
        if flags.dry_run and listed.pairs:
            words = [*name.replace("takedown", "look").split(), out]
            words += [f"--blocklist={flags.blocklist}", *_given_distances(flags)]
            lines.append(f"to see them: {shlex.join(words)}")
        elif listed.pairs:
            lines.append(
                "a search index of this dataset leaves them out of its results if it can read it "
                "where it lay, but its files keep URL, caption and vector until you make it again: "
                f"alignset search index --model=MODEL --data={out}/shards --output=INDEX; "
                "docs/how_to/publish.md lists other places"
            )
        give(listed, *lines)

    return end_of(name, take, _RESUMES)


def render_listed(listed: Listed, *, dry: bool) -> str:
    """As "taken down: 3 pairs (list-1f0a2b3c:host 3) of 1 of 100 shards; 2 dropped pairs …"."""
    if not listed.pairs and not listed.rejected_rows:
        return "no pair of the dataset is on the list; no shard was changed"
    kinds = ", ".join(f"{detail} {count:,}" for detail, count in listed.details.items())
    text = f"{counted(listed.pairs, 'pair')}{f' ({kinds})' if kinds else ''}"
    if listed.of:
        text += f" in {listed.shards:,} of {counted(listed.of, 'shard')}"
    text += f"; {counted(listed.rejected_rows, 'pair')} dropped before may not be read again"
    text += "; more than half of the dataset, which needs --yes" if dry and listed.most else ""
    return f"{'would be taken down' if dry else 'taken down'}: {text}"


def recheck(argv: Sequence[str], name: str = "alignset recheck") -> int:
    """Asks the hosts of a finished dataset again for robots.txt and their other files,
    and tells who has opted out since. OUT/recheck.parquet has the pairs.

    No image is requested, but with --images, which asks for each by HEAD. Nothing is
    taken out without --apply. Killed, the same command resumes. Flags of `alignset
    curate` on fetching and opt-outs may be passed too; else they are as OUT was made.
    """
    parser = _parser(name, recheck, _OF_A_RUN, "%(prog)s OUT [flags]")
    for flag, meaning in (
        ("images", "ask for each image too: its header's opt-outs, and whether it is gone"),
        ("dry_run", "take nothing out, as without --apply"),
        ("apply", "take the pairs out that opted out, as takedown does"),
        ("gone", "with --apply: also those whose image is gone (404, 410)"),
        ("yes", "where more than half of it goes"),
    ):
        parser.add_argument(f"--{flag}", action="store_true", help=meaning)
    flags, words = parser.parse_known_args(list(argv))
    if flags.dry_run and flags.apply:
        parser.error("pass --dry_run or --apply")
    for needless, needed in (("gone", "images"), ("gone", "apply"), ("yes", "apply")):
        if getattr(flags, needless) and not getattr(flags, needed):
            parser.error(f"--{needless} has no effect without --{needed}")
    with _imports(argv):
        from alignset.pipeline import recheck as rechecking

    def ask_again() -> None:
        out, words_of_apply = flags.set, ("images", "apply", "gone") * flags.apply
        taking = [f"--{of}" for of in words_of_apply if vars(flags)[of]]
        found, pairs = rechecking.recheck(out, words, name, images=flags.images, taking=taking)
        print("\n".join(rechecking.summary(found, pairs)))
        if taking:
            listed = rechecking.take_out(out, found, taking, gone=flags.gone, sure=flags.yes)
            print(render_listed(listed, dry=False) if listed else "nothing was taken out")

    return end_of(name, ask_again, _RESUMES)


def deduplicate(argv: Sequence[str], name: str = "alignset deduplicate") -> int:
    """Keeps each image of a finished dataset once: by the bytes of its file; with
    --near also one of photographs that look alike.

    Only shards that change are rewritten. In rejected/ a pair whose image another
    URL has too is duplicate_image then. If it is interrupted, the same command
    resumes.
    """
    parser = _parser(name, deduplicate, _OF_A_RUN, "%(prog)s OUT [flags]")
    parser.add_argument(
        "--near", action="store_true", help="also keep one of photographs that look alike"
    )
    parser.add_argument("--dry_run", action="store_true", help="count pairs, change nothing")
    flags = parser.parse_args(list(argv))
    with _imports(argv):
        from alignset.pipeline.change_dataset import remove_copies

    def remove() -> None:
        dropped, shards = remove_copies(flags.set, near=flags.near, dry=flags.dry_run)
        print(render_copies(dropped, shards, dry=flags.dry_run))

    return end_of(name, remove, _RESUMES)


def render_copies(dropped: Mapping[str, int], shards: int, *, dry: bool) -> str:
    """As "left: 30 pairs (duplicate_image 30); 3 shards changed"."""
    if not shards:
        return "no image is in the dataset twice; nothing was changed"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
    pairs = counted(sum(dropped.values()), "pair")
    return (
        f"{'would leave' if dry else 'left'}: {pairs} ({reasons}); "
        f"{counted(shards, 'shard')} {'would change' if dry else 'changed'}"
    )


def audit(argv: Sequence[str], name: str = "alignset audit") -> int:
    """Judges the opt-outs of a finished dataset again, by its evidence alone.

    It sends no request. Images whose verdict is another one are listed, and then the
    status is 1. The last line counts the verdicts that no evidence can show.
    """
    parser = _parser(name, audit, _OF_A_RUN, "%(prog)s OUT")
    flags = parser.parse_args(list(argv))
    with _imports(argv):
        from alignset.pipeline.audit import audit_set
    return end_of(name, lambda: audit_set(flags.set))


def publish(argv: Sequence[str], name: str = "alignset publish") -> int:
    """Copies what may be published of a finished dataset to a folder, or lists it.

    Dropped pairs, and pages that show them, are never among the files. If it is
    interrupted, the same command resumes; a whole folder has a manifest.json.
    """
    usage = "%(prog)s OUT --output=FOLDER | --dry_run"
    parser = _parser(name, publish, "the --output of a run; may be s3:// or gs://", usage)
    parser.add_argument(
        "--output", default="", metavar="FOLDER", help="a local folder, to upload as it is"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="list path and bytes, and copy nothing"
    )
    flags = parser.parse_args(list(argv))
    with _imports(argv):
        from alignset.pipeline.public_files import public_files
        from alignset.pipeline.public_files import publish as copy_files
        from alignset.transforms.storage.files import match

    def copy() -> None:
        out, target = flags.set, flags.output.rstrip("/") or flags.output
        if flags.dry_run == bool(target):
            raise UsageError("pass either --dry_run, which lists, or --output=FOLDER, which copies")
        files = public_files(out) if flags.dry_run else copy_files(out, target)
        for file in files if flags.dry_run else ():
            print(f"{file.path}\t{file.size}")
        size = sum(file.size for file in files)
        paths = (path.removeprefix(f"{out}/") for path, _ in match(out, links=True))
        left_out = {path.partition("/")[0] for path in paths}
        left_out -= {file.path.partition("/")[0] for file in files}
        print(
            f"{counted(len(files), 'file')}, {size:,} bytes"
            f"{'' if flags.dry_run else f' in {target}'}; "
            f"not among them: {', '.join(map(printable, sorted(left_out))) or 'nothing'}",
            file=sys.stderr,
        )

    return end_of(name, copy, _RESUMES)


def card(argv: Sequence[str], name: str = "alignset card") -> int:
    """Writes a page about a finished dataset for those who must account for it.

    --summary=eu: the fields of the European Union's public summary of training
    content (AI Act, Article 53(1)(d)) that a dataset knows, in OUT/summary-eu.md,
    and its top domains in OUT/summary-eu-domains.csv. Search the page for "to be
    filled in". Lines that you fill in stay when the page is written again.
    """
    parser = _parser(name, card, _OF_A_RUN, "%(prog)s OUT --summary=eu")
    parser.add_argument("--summary", required=True, choices=("eu",), help="which page")
    flags = parser.parse_args(list(argv))
    with _imports(argv):
        from alignset.pipeline.datasets.funnel import earlier_manifests
        from alignset.pipeline.datasets.set_files import read_set
        from alignset.pipeline.documents.eu_summary import EU_PAGE, write_eu_summary
        from alignset.pipeline.runs.work_folder import WorkFolder

    def write() -> None:
        out = flags.set
        manifest, funnel = read_set(out)
        WorkFolder(f"{out}/_temporary").refuse_stopped(out)
        if funnel is None:
            raise UsageError(f"{out}/funnel.json is missing: bring it back")
        write_eu_summary(out, manifest, funnel, earlier_manifests(out, funnel))
        print(f"the summary is in {out}/{EU_PAGE}", file=sys.stderr)

    return end_of(name, write)


def verify(argv: Sequence[str], name: str = "alignset verify") -> int:
    """Tells which files of a finished dataset are not as they were written.

    It compares each tar's SHA-256 with the manifest, its samples with its sidecar,
    the funnel with the rows that are there, and finds repeated keys and cut pages.
    It writes nothing. The exit status is 1 if anything is wrong.
    """
    parser = _parser(name, verify, "the --output of a run, or a published copy", None)
    parser.add_argument(
        "--sums",
        action="store_true",
        help="print the SHA-256 of each file that may be published, as sha256sum does",
    )
    flags = parser.parse_args(list(argv))
    with _imports(argv):
        from alignset.pipeline.public_files import public_files, sha256_of
        from alignset.pipeline.verify import verify as find_faults

    def check() -> int:
        out = flags.set
        found = find_faults(out)
        for path, what in found.faults:
            print(printable(f"{path}: {what}"), file=sys.stderr)
        for file in public_files(out) if flags.sums and not found.faults else ():
            print(f"{found.sha256.get(file.path) or sha256_of(f'{out}/{file.path}')}  {file.path}")
        there = f"{counted(found.pairs, 'pair')} in {counted(len(found.sha256), 'shard')}"
        less = f"; rejected/ lacks {found.unlisted:,} dropped pairs" if found.unlisted > 0 else ""
        verdict = (
            f"{counted(len(found.faults), 'fault')}"
            if found.faults
            else "each shard is as it was written"
        )
        print(f"{out}: {verdict}; {there}{less}", file=sys.stderr)
        return int(bool(found.faults))

    return end_of(name, check)
