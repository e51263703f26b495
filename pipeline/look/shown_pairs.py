"""The pairs that a look shows, their images, and the message where there are none."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.command_line import DISTANCES
from alignset.pipeline.datasets.sample import ENOUGH_FILES, FindKeys, Pair, tables_of, take_sample
from alignset.pipeline.datasets.set_files import SetFiles, find_set
from alignset.pipeline.datasets.stored_images import shown_picture, stored_in
from alignset.pipeline.errors import UsageError
from alignset.pipeline.report.render import render
from alignset.pipeline.rules import Rules
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.pipeline.shown_texts import counted, printable, text_table
from alignset.transforms.decontamination.evaluation_files import find_images, set_folders
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.rules.given import DUPLICATE_IMAGE, DUPLICATE_OF_TRAINING
from alignset.transforms.storage.files import write_atomically
from alignset.transforms.storage.parquet_files import batches_of

DROPPED = "dropped"  # as a reason: any
# The detail of these is the key of a kept pair, whose image has the same bytes or looks like it.
OF_KEPT_IMAGE = (DUPLICATE_IMAGE, DUPLICATE_OF_TRAINING)
MOST_NAMED = 40
_TABLE = {"key": "key", "dropped for": "why", "distance": "distance", "size": "size"}
_TABLE |= {"language": "language", "host": "host", "caption": "caption"}
Picture = tuple[str, bytes | str]  # a label; a JPEG, or why there is none


class NothingToShow(UsageError):
    """The dataset has no such pair."""

    status = 1


def write_page(flags: argparse.Namespace) -> None:
    """Writes the page, and prints the table."""
    WorkFolder(f"{flags.set}/_temporary").tell_takedown(flags.set)
    files = find_set(flags.set)
    if flags.blocklist:
        distances = {name: getattr(flags, name) for name in DISTANCES}
        pairs, note, others = find_listed(files, flags.blocklist, distances, int(flags.n))
    else:
        pairs, note = find_pairs(files, flags.reason, int(flags.n), flags.language)
        others = []
        if flags.eval_images:
            from alignset.pipeline.inputs.find_evaluation import find_evaluation_files  # numba

            others = find_evaluation_files(flags.eval_images)
    cards = [*zip(pairs, find_pictures(pairs, files, others), strict=True)]
    title = printable(files.out)
    page = render("look.html", title=title, note=note, cards=cards)
    write_atomically(flags.output, lambda sink: sink.write(page.encode("utf-8", "replace")))
    names = [name for name, of in _TABLE.items() if any(getattr(pair, of) for pair in pairs)]
    rows = [[getattr(pair, _TABLE[name]) for name in names] for pair in pairs]
    table = text_table(names, rows, shutil.get_terminal_size((100, 24)).columns)
    print(title, note, "", table, sep="\n")
    print(f"the page is in {flags.output}", file=sys.stderr)


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
    totals = Counter[str]()
    for step in files.funnel.steps if files.funnel else ():
        totals.update(+Counter(step.dropped))
    paths, what, total = files.kept_files, "kept pairs", files.funnel.pairs if files.funnel else 0
    if choice == DROPPED:
        reason, paths, what, total = "", files.rejected_files, "dropped pairs", totals.total()
    elif choice:
        paths, total = files.rejected_for(reason), totals[reason]
        what = f"pairs dropped for {reason}" + f": {detail}" * bool(detail)
    if find_keys or language:
        what += " on the list" if find_keys else f" in {language}"
    chosen = {"reason": reason, "detail": detail, "language": language}
    pairs, files_read, row_counts = take_sample(paths, count, find_keys, **chosen)
    if not pairs:
        if not (detail and row_counts):
            row_counts = totals or take_sample(files.rejected_files, 1)[2]
        if reason and row_counts and (detail or reason not in row_counts):
            most = sorted(row_counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMED]
            named = ", ".join(f"{name} ({n:,})" for name, n in most)
            raise UsageError(f"there are no {what}; there are {named}")
        hint = f"; --reason={DROPPED} shows dropped ones"
        raise NothingToShow(f"{files.out} has no {what}{hint if row_counts and not choice else ''}")
    of = f" of {total:,}" if total and not (detail or language or find_keys) else ""
    kinds = ("shard", "") if files.is_of_shards else ("file of pairs", "files of pairs")
    kinds = ("file of dropped pairs", "files of dropped pairs") if choice else kinds
    where = counted(files.of or len(paths), *kinds)
    note = "" if files.funnel or files.is_foreign else ", the run has not ended"
    return pairs, f"{len(pairs):,}{of} {what}, from {files_read:,} of {where}{note}"


def find_listed(
    files: SetFiles, blocklist: str, distances: dict[str, int], count: int
) -> tuple[list[Pair], str, list[EvaluationFile]]:
    """Pairs on the lists, as copies of the listed images that they show; a sentence on them; and
    the files of all listed images."""
    # Here: they import numba.
    from alignset.pipeline.inputs.find_blocklists import find_blocklists
    from alignset.transforms.columns.rejects import key_column
    from alignset.transforms.shards.listed_pairs import listed_in_shard, listed_texts

    replace(Rules(), **distances)  # checks them
    lists = find_blocklists(blocklist, *distances.values())
    images = [EvaluationFile(of.name, path) for of in lists.lists for path in of.files]
    folders = set_folders([(of.name, of.path) for of in images])

    def find_keys(path: str) -> pa.Array:
        if files.is_of_shards:
            parts = [listed_in_shard(path.removesuffix(".parquet"), lists, original=True)]
        else:
            tables = (pa.Table.from_batches([batch]) for batch in batches_of(path))
            parts = [listed_texts(table, lists) for table in tables]
        return pa.concat_arrays([key_column(rows["key"].to_numpy()) for rows in parts])

    pairs, note = find_pairs(files, "", count, find_keys=find_keys)
    for at, pair in enumerate(pairs):
        body = stored_in(files, pair.file, pair.key) or b""
        if copy := lists.listed_copy(body) if body else None:
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
    """The images of each pair. Three kinds of dropped pairs have some: copies of evaluation images,
    near-duplicates of a kept image, and images with the bytes of a kept one, which is shown alone.

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
    kept_keys = {pair.detail for pair in pairs if pair.reason in OF_KEPT_IMAGE}
    places: dict[str, str] = {}
    for path in files.kept_files if kept_keys else ():
        for rows in tables_of(path, ["key"]):
            is_wanted = pc.is_in(rows["key"], pa.array(kept_keys, rows["key"].type))
            places |= dict.fromkeys(rows["key"].filter(is_wanted).to_pylist(), path)

    def pictures_of(pair: Pair) -> list[Picture]:
        if pair.copy_of:
            labels = ("dropped", "evaluation image") if pair.reason else ("kept", "listed")
            other = shown_picture(bodies.get((pair.evaluation_set, pair.evaluation_image)), missing)
            return [(labels[0], shown_picture(pair.thumbnail)), (labels[1], other)]
        if pair.reason in OF_KEPT_IMAGE:
            own = [("dropped", shown_picture(pair.thumbnail))] if pair.thumbnail else []
            body = stored_in(files, places.get(pair.detail, ""), pair.detail)
            return [*own, ("kept", shown_picture(body))]
        if pair.reason or not files.tars:
            return []
        return [("", shown_picture(stored_in(files, pair.file, pair.key)))]

    with ThreadPoolExecutor(8) as pool:
        return [*pool.map(pictures_of, pairs)]
