"""The pairs that a look shows, their images, and the message where there are none."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.command_line import DISTANCES
from alignset.pipeline.datasets.sample import FindKeys, Pair, take_sample
from alignset.pipeline.datasets.set_files import SetFiles, find_set
from alignset.pipeline.datasets.stored_images import shown_picture
from alignset.pipeline.errors import UsageError
from alignset.pipeline.fonts import missing_fonts
from alignset.pipeline.report.render import render
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.pipeline.shown_texts import counted, printable, text_table
from alignset.transforms.decontamination.evaluation_files import find_images, set_folders
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.rules.given import DUPLICATE_IMAGE, DUPLICATE_OF_TRAINING
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.storage.documents import add_by_name
from alignset.transforms.storage.files import write_atomically
from alignset.transforms.storage.parquet_files import batches_of

DROPPED = "dropped"  # as a reason: any
# The detail of these is the key of a kept pair, whose image has the same bytes or looks like it.
OF_KEPT_IMAGE = (DUPLICATE_IMAGE, DUPLICATE_OF_TRAINING)
MOST_NAMED = 40
_TABLE = {"key": "shown_key", "dropped for": "why", "distance": "distance", "size": "size"}
_TABLE |= {"language": "language", "host": "host", "caption": "caption"}
_KEY = pa.schema([("key", pa.string())])
_OF_LISTS = pa.schema([(name, pa.string()) for name in ("key", "url", "caption")])
Picture = tuple[str, bytes | str]  # a label; a JPEG, or why there is none


class NothingToShow(UsageError):
    """The dataset has no such pair."""

    status = 1


def write_page(flags: argparse.Namespace) -> None:
    """Writes the page, and prints the table."""
    WorkFolder(f"{flags.set}/_temporary").tell_takedown(flags.set)
    files, others = find_set(flags.set), list[EvaluationFile]()
    if flags.blocklist:
        distances = {name: getattr(flags, name) for name in DISTANCES}
        pairs, note, others = find_listed(files, flags.blocklist, distances, int(flags.n))
    else:
        pairs, note = find_pairs(files, flags.reason, int(flags.n), flags.language)
        if flags.eval_images:
            from alignset.pipeline.inputs.find_lists import find_evaluation_files  # numba

            others = find_evaluation_files(flags.eval_images)
    cards = [*zip(pairs, find_pictures(pairs, files, others), strict=True)]
    title = printable(files.out)
    page = render("look.html", title=title, note=note, cards=cards)
    write_atomically(flags.output, page.encode("utf-8", "replace"))
    columns = {name: [getattr(pair, of) for pair in pairs] for name, of in _TABLE.items()}
    columns = {name: values for name, values in columns.items() if any(values)}
    rows, (width, _) = [*zip(*columns.values(), strict=True)], shutil.get_terminal_size((100, 24))
    print(title, note, "", text_table([*columns], rows, width), sep="\n")
    faults = files.folder.faults if files.folder else []
    if boxes := missing_fonts(pair.caption for pair in pairs):
        faults = [*faults, boxes]
    print(*faults, f"the page is in {flags.output}", sep="\n", file=sys.stderr)


def find_pairs(
    files: SetFiles, choice: str, count: int, language: str = "", find_keys: FindKeys | None = None
) -> tuple[list[Pair], str]:
    """The pairs to show, and a sentence on them.

    Args:
      choice: a reason, perhaps with `:` and a detail; DROPPED, or empty for kept pairs.
      count: how many pairs, at most.
      language: of the pairs, as the vote found it; empty for any.
      find_keys: returns the keys of a file that are on blocklists; None for any pairs.

    Raises:
      UsageError: no pair was dropped for that reason.
      NothingToShow: nothing was kept, or nothing was dropped.
    """
    reason, _, detail = (part.strip() for part in choice.partition(":"))
    steps = files.funnel.steps if files.funnel else []
    totals = +Counter(add_by_name(step.dropped for step in steps))
    paths, what, total = files.kept_files, "kept pairs", files.funnel.pairs if files.funnel else 0
    if choice == DROPPED:
        reason, paths, what, total = "", files.rejected_files, "dropped pairs", totals.total()
    elif choice:
        paths, total = files.rejected_for(reason), totals[reason]
        what = f"pairs dropped for {reason}" + f": {detail}" * bool(detail)
    if find_keys or language:
        what += " on the list" if find_keys else f" in {language}"
    chosen = {"reason": reason, "detail": detail, "language": language}
    pairs, files_read, row_counts = take_sample(paths, count, find_keys, files.read, **chosen)
    if not pairs:
        if not (detail and row_counts):
            row_counts = totals or take_sample(files.rejected_files, 1, read=files.read)[2]
        if reason and row_counts and (detail or reason not in row_counts):
            most = sorted(row_counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMED]
            named = ", ".join(f"{name} ({n:,})" for name, n in most)
            raise UsageError(f"there are no {what}; there are {named}")
        hint = f"; --reason={DROPPED} shows dropped ones" if row_counts and not choice else ""
        faults = files.folder.faults if files.folder else []
        raise NothingToShow(". ".join([f"{files.out} has no {what}{hint}", *faults]))
    of = f" of {total:,}" if total and not (detail or language or find_keys) else ""
    kinds = ("file of dropped pairs", "files of dropped pairs") if choice else ("shard", "")
    if not choice and not files.is_of_shards:
        kinds = ("file of pairs", "files of pairs")
    where = counted(len(paths), *(("shard", "") if files.folder else kinds))
    note = "" if files.funnel or files.folder else ", the run has not ended"
    return pairs, f"{len(pairs):,}{of} {what}, from {files_read:,} of {where}{note}"


def find_listed(
    files: SetFiles, blocklist: str, distances: dict[str, Any], count: int
) -> tuple[list[Pair], str, list[EvaluationFile]]:
    """Pairs on the lists, as copies of the listed images that they show; a sentence on them; and
    the files of all listed images."""
    # Here: they import numba.
    from alignset.pipeline.inputs.find_lists import find_blocklists
    from alignset.transforms.blocklists import kinds
    from alignset.transforms.columns.records import key_column
    from alignset.transforms.shards.leaving_pairs import listed_image, listed_in_shard, listed_texts

    replace(RuleSettings(), **distances)  # checks them
    lists = find_blocklists(blocklist, *distances.values())
    images = [EvaluationFile(of.name, path) for of in lists.lists for path in of.files]
    folders = set_folders([(of.name, of.path) for of in images])
    folder = files.folder

    def find_keys(path: str) -> pa.Array:
        if files.is_of_shards and not folder:
            rows = listed_in_shard(path.removesuffix(".parquet"), lists, original=True)
            return key_column(rows["key"].to_numpy())
        found, rest = list[str](), set[str]()
        for batch in folder.read(path, _OF_LISTS) if folder else batches_of(path):
            rows = listed_texts(pa.Table.from_batches([batch]), lists)
            found += key_column(rows["key"].to_numpy()).to_pylist()
            rest.update(batch["key"].to_pylist())
        if folder and lists.have(*kinds.OF_FILES, *kinds.OF_PICTURES, kinds.IMAGE):
            for key, body in folder.images(path, rest.difference(found)):
                digest = sha256(body).digest()
                if lists.match_file(digest, body) or listed_image(body, lists, original=False):
                    found.append(key)
        return pa.array(found, pa.string())

    pairs, note = find_pairs(files, "", count, find_keys=find_keys)
    for at, pair in enumerate(pairs):
        body = dict(files.images(pair.file, [pair.key])).get(pair.key, b"")
        if copy := lists.find_copy(body) if body else None:
            pairs[at] = replace(
                pair,
                thumbnail=body,
                evaluation_set=copy.name,
                evaluation_image=copy.path.removeprefix(folders[copy.name]),
                evaluation_distance=str(copy.distance),
            )
    return pairs, note, images


def find_pictures(
    pairs: Sequence[Pair], files: SetFiles, others: Sequence[EvaluationFile]
) -> list[list[Picture]]:
    """The images of each pair: the kept image or a dropped one's thumbnail, and beside a copy its
    original.

    Args:
      others: the files of evaluation images, or of listed ones, to show beside their copies.
    """
    folders = set_folders([(of.name, of.path) for of in others])
    names = {(pair.evaluation_set, pair.evaluation_image) for pair in pairs if pair.copy_of}
    bodies: dict[tuple[str, str], bytes] = {}
    for other in others:
        file = other.path.removeprefix(folders[other.name])
        # An image's name is a file, or one within a file.
        own = [name for of, name in names if of == other.name and f"{name}/".startswith(f"{file}/")]
        with suppress(Exception):  # gone, or broken since: the pair's own image is shown
            within = [name[len(file) + 1 :] for name in own]
            for name, body in (find_images(other.path, within) if own else {}).items():
                bodies[other.name, f"{file}/{name}".rstrip("/")] = body
    missing = "its file is not there" if others else "--eval_images shows it"
    wanted = defaultdict[str, set[str]](set)  # keys of kept pairs by their files
    for pair in pairs:
        if not pair.reason and not pair.copy_of:
            wanted[pair.file].add(pair.key)
    kept_keys = pa.array(
        {pair.detail for pair in pairs if pair.reason in OF_KEPT_IMAGE}, pa.string()
    )
    for path in files.kept_files if len(kept_keys) else ():
        for rows in files.read(path, _KEY):
            wanted[path].update(rows["key"].filter(pc.is_in(rows["key"], kept_keys)).to_pylist())

    def pictures_in(path: str) -> dict[str, bytes | str]:
        return {key: shown_picture(body) for key, body in files.images(path, wanted[path])}

    def pictures_of(pair: Pair) -> list[Picture]:
        if pair.copy_of:
            labels = ("dropped", "evaluation image") if pair.reason else ("kept", "listed")
            other = shown_picture(bodies.get((pair.evaluation_set, pair.evaluation_image)), missing)
            return [(labels[0], shown_picture(pair.thumbnail)), (labels[1], other)]
        own = [("dropped", shown_picture(pair.thumbnail))] if pair.thumbnail else list[Picture]()
        if pair.reason in OF_KEPT_IMAGE:
            own.append(("kept", kept.get(pair.detail, shown_picture(None))))
        elif not pair.reason and files.is_of_shards:
            own.append(("", kept.get(pair.key, shown_picture(None))))
        return own

    with ThreadPoolExecutor(8) as pool:
        kept = {key: of for part in pool.map(pictures_in, [*wanted]) for key, of in part.items()}
        return [*pool.map(pictures_of, pairs)]
