"""The documents of a dataset: funnel.json, the card and what goes with it, manifest.json, uids.npy,
and the report.

A run, a takedown and a deduplication all end here, and nothing else writes these files.
The manifest has what no other file of a dataset says.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UNSET, UnsetType

from alignset.pipeline.datasets.contents import look_into
from alignset.pipeline.datasets.funnel import (
    drops_of,
    earlier_manifests,
    funnel,
    history_of,
    most_first,
)
from alignset.pipeline.datasets.numbers import PairCounts, compare_near, count_pairs
from alignset.pipeline.datasets.set_files import read_set, shard_entries
from alignset.pipeline.documents.card import dataset_card, funnel_svg
from alignset.pipeline.documents.croissant import croissant
from alignset.pipeline.documents.eu_summary import EU_PAGE, write_eu_summary
from alignset.pipeline.documents.hand_edits import drop_page, write_page
from alignset.pipeline.errors import UsageError
from alignset.pipeline.report.page import REPORT, write_report
from alignset.pipeline.runs.documents import (
    BrokenInput,
    Days,
    FetchReport,
    Funnel,
    Manifest,
    OptOuts,
    RunDescription,
)
from alignset.pipeline.runs.run_folder import RunFolder
from alignset.pipeline.runs.work_folder import ImageSummary, TextSummary
from alignset.transforms.corpus.corpus_documents import (
    BY_LANGUAGE,
    HASHING,
    NAME,
    HashFile,
    VocabularyFile,
)
from alignset.transforms.pages.page_files import PAGE_FORMATS
from alignset.transforms.rules.catalogue import TAKEDOWN_STEPS
from alignset.transforms.rules.given import FETCH_FAILED, OPTED_OUT, TAKEN_DOWN
from alignset.transforms.rules.language_codes import ENGLISH, voter_of
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import NearDuplicates
from alignset.transforms.storage.broken_files import BrokenFiles
from alignset.transforms.storage.documents import add_by_name, read_document, write_document
from alignset.transforms.storage.files import (
    exists,
    is_local,
    match,
    move,
    remove,
    write_atomically,
)
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.storage.stores import list_remote
from alignset.transforms.workers.packages import ICU, deciding, package_versions
from alignset.transforms.workers.unexpected import tell_once
from alignset.version import commit, version

LOG = logging.getLogger("alignset")
_RECORD = re.compile(r"(text|images|holdout)-[0-9]+\.(json|thumbnails)|copies\.pictures")


def manifest_of_run(
    folder: RunFolder,
    text: TextSummary,
    images: ImageSummary | None,
    known: Sequence[str] = (),
) -> Manifest:
    """The manifest, without shards and pairs; brings the vocabulary where it stays.

    Args:
      images: None where there was no image stage. known: the folders of the datasets that know
        images.

    Raises:
      RuntimeError: the input changed between its two readings.
    """
    if text.rows_read != text.counts.seen:
        raise RuntimeError(
            f"the first reading found {text.rows_read} rows and the second {text.counts.seen}: "
            "did the input change? Delete the output folder and start again"
        )
    description = folder.description
    has_pages = any(file.format in PAGE_FORMATS for file in description.input)
    packages = deciding(
        "pages" if has_pages else "",
        voter_of(description.rules),
        "exact_resize" if description.resize["exact_resize"] else "",
    )
    installed = package_versions(packages)
    sources = installed["alignset"].rpartition(" ")[2]
    own = {"alignset": version(), "commit": commit(), "sources": sources}
    pages = folder.work.find_pages()
    near = images and images.copies
    broken: BrokenInput | UnsetType = UNSET
    if text.broken.broken:
        counts = {f.name: getattr(text.broken, f.name) for f in fields(BrokenFiles)}
        broken = BrokenInput(**counts, files=len(description.input))
    return Manifest(
        **{f.name: getattr(description, f.name) for f in fields(RunDescription)},
        versions={name: of for name, of in own.items() if of}
        | {name: installed[name] for name in (*packages, ICU)},
        pairs=0,
        vocabulary=replace(text.vocabulary, file=_move_vocabulary(folder, text.vocabulary_file)),
        evaluation_images=images.evaluation_images if images else {},
        evaluation_index=Path(images.evaluation_index).name or UNSET if images else UNSET,
        shards={},
        holdout={} if description.job["holdout"] else UNSET,
        fetched=days_of(folder, text.shards, known),
        rows=text.counts.seen,
        broken_input=broken,
        pages=pages.counts if pages else UNSET,
        near_duplicates=NearDuplicates(near.graphics, distances=near.distances)
        if near and near.distances
        else UNSET,
        images_per_text=text.images_per_text,
        texts_per_image=text.texts_per_image,
    )


def days_of(
    folder: RunFolder, shards: Collection[int], known: Sequence[str] = ()
) -> Days | UnsetType:
    """On which days images were fetched: from the end of the text stage to the end
    of the image stage, if any was not known; and when datasets were fetched that knew images.

    Args:
      shards: that were written. known: the folders of these datasets.
    """
    earlier = [read_document(f"{of}/manifest.json", Manifest).fetched for of in known]
    days = [day for of in earlier if of for day in (of.first, of.last)]
    if (
        shards
        and (not known or folder.work.asked().fetched)
        and any(file.format != "webdataset" for file in folder.description.input)
    ):
        work = folder.work
        for path in (work.text_summary, work.image_summary):
            if is_local(path):
                ended_s = os.path.getmtime(path)
            else:  # only a listing has times
                files = list_remote(f"{work.path}/*")
                ended_s = next(of.modified_s for of in files if of.path == path)
            days.append(datetime.fromtimestamp(ended_s, UTC).date().isoformat())
    return Days(min(days), max(days)) if days else UNSET


def _move_vocabulary(folder: RunFolder, file: HashFile | None) -> VocabularyFile:
    """Brings the vocabulary beside the output; returns what the manifest says of its file."""
    assert file is not None, "the text stage has made it, or was given it"
    path = file.path
    if folder.description.given_vocabulary is None:  # it is the run's own
        # By its name alone: the run may go on with its folder given in another way.
        with suppress(FileNotFoundError):  # a run that was killed right after has moved it
            move(f"{folder.work.path}/{Path(path).name}", f"{folder.out}/{NAME}")
        path = NAME
    rule = str(folder.description.rules["language"])
    hashing = HASHING if rule in ("", ENGLISH) else HASHING + BY_LANGUAGE
    return VocabularyFile(file.bytes, path, file.sha256, hashing)


def describe(out: str, manifest: Manifest | None = None) -> Funnel:
    """Writes all documents of a dataset, the manifest last, then the report; returns the funnel.

    All counts come from its files. A shard counts where its `_stats.json` is there, by the number
    that it has. Done again, it writes the same bytes.

    Args:
      manifest: how the dataset was made, with any shards and counts; None: its own.

    Raises:
      UsageError: a file is missing.
      RuntimeError: the counts do not add up.
    """
    base, before = manifest, None
    if manifest is None or exists(f"{out}/manifest.json"):
        base, before = read_set(out)
    assert base is not None
    counts = count_pairs(out)
    manifest = _update_shards(out, manifest or base, base, counts)
    leaving = (manifest.deduplications or [])[len(base.deduplications or []) :]
    copies = add_by_name(of.dropped for of in leaving)
    closing = closing_funnel(out, manifest, counts, before, copies)
    if closing.steps[-1].kept != counts.pairs:
        raise RuntimeError(
            f"the funnel keeps {closing.steps[-1].kept} pairs, but {counts.pairs} were written"
        )
    write_document(f"{out}/funnel.json", closing)
    write_uids(out, manifest)
    earlier = earlier_manifests(out, closing)
    write_atomically(f"{out}/funnel.svg", funnel_svg(closing.steps).encode())
    contents = look_into(out, manifest)
    write_page(out, "croissant.json", croissant(manifest, closing, earlier, contents.of_pages))
    card = dataset_card(manifest, closing, contents, earlier)
    write_page(out, "README.md", card.encode())
    drop_page(out, "datasheet.md")  # of earlier versions, with the counts that were
    if exists(f"{out}/{EU_PAGE}"):
        write_eu_summary(out, manifest, closing, earlier)
    drop_records(out)
    write_document(f"{out}/manifest.json", manifest)
    _report(out, counts)
    return closing


def _update_shards(out: str, manifest: Manifest, base: Manifest, counts: PairCounts) -> Manifest:
    """The manifest with the shards and the number of pairs that are there."""
    training, held_out = shard_entries(out)
    holdout = UNSET if manifest.holdout is UNSET else held_out
    new = replace(manifest, pairs=counts.pairs, shards=training, holdout=holdout)
    places, pairs_there = ShardPlaces(out), {n: of.pairs for n, of in new.entries.items()}
    for number in base.numbers:
        if number not in pairs_there:
            raise UsageError(f"{places.stats(number)} is missing: bring it back")
    for number, pairs in pairs_there.items():
        if pairs != (there := counts.kept.get(number, 0)):
            raise RuntimeError(
                f"{places.stats(number)} counts {pairs} pairs, and {places.sidecar(number)} has "
                f"{there}: bring both back as they were written"
            )
    return new


def closing_funnel(
    out: str,
    manifest: Manifest,
    counts: PairCounts,
    before: Funnel | None,
    copies: Mapping[str, int],
) -> Funnel:
    """The funnel of what is counted.

    Args:
      before: the one that is there. It counts the rows of `rejected/` that are not there, as in a
        dataset that was downloaded.
      copies: the copies that have left since, for each reason.
    """
    text_only, rows = bool(manifest.job["text_only"]), int(manifest.rows or 0)
    texts, images = (Counter(counts.reasons(stage)) for stage in (TEXTS, IMAGES))
    tried = 0 if text_only else counts.pairs + images.total()
    fetch = FetchReport(tried, images[FETCH_FAILED], counts.details(FETCH_FAILED), counts.hosts)
    taken_down = texts.pop(TAKEN_DOWN, 0) + images.pop(TAKEN_DOWN, 0)
    opt_outs = Counter(counts.details(OPTED_OUT))
    how = manifest.fetch.get("opt_outs", "")
    if rows != counts.pairs + counts.rejected_rows:
        if before is None or rows < counts.pairs + counts.rejected_rows:
            advice = "did it change? Delete the output and start again"
            raise RuntimeError(
                f"{out} has {counts.pairs} pairs and {counts.rejected_rows} rows in rejected/, but "
                f"its input had {rows} rows: "
                + (advice if before is None else "bring the files back as they were written")
            )
        parts = (manifest.catalogue.text_steps, manifest.catalogue.image_steps, TAKEDOWN_STEPS)
        texts, images, removals = (Counter(drops_of(before.steps, steps)) for steps in parts)
        taken_down, fetch = removals[TAKEN_DOWN], before.fetch
        opt_outs = Counter(before.opted_out.details if before.opted_out and how == "reject" else {})
        if gone := before.pairs - counts.pairs:  # 0 where this is done again
            images.update(copies)
            taken_down += gone - sum(copies.values())
    opt_outs.update(counts.reported)
    near = manifest.near_duplicates
    held_out = sum(pairs for number, pairs in counts.kept.items() if number >= HOLDOUT)
    return Funnel(
        history=history_of(out) or (before.history if before else UNSET),
        broken_input=manifest.broken_input,
        pages=manifest.pages,
        fetch=fetch,
        opted_out=OptOuts(str(how), most_first(opt_outs)) if opt_outs else UNSET,
        pairs=counts.pairs,
        holdout=UNSET if manifest.holdout is UNSET else held_out,
        steps=funnel(
            *(rows, texts, None if text_only else images),
            taken_down if manifest.takedowns or taken_down else None,
            manifest.catalogue,
        ),
        vocabulary=replace(manifest.vocabulary, file=UNSET),
        copies=UNSET if text_only else counts.copies,
        near_duplicates=near if near or text_only else compare_near(out, counts),
        images_per_text=manifest.images_per_text,
        texts_per_image=manifest.texts_per_image,
    )


def drop_records(out: str) -> None:
    """Removes what a dataset of 0.2 or before has for its report, which shows what may have
    left."""
    for path, _ in match(f"{out}/report"):
        if _RECORD.fullmatch(path.rpartition("/")[2]):
            remove(path)
    if is_local(out):
        with suppress(OSError):  # not there, or it holds something else
            Path(out, "report").rmdir()


def complete(out: str) -> None:
    """Writes the report of a finished dataset where a kill came between its manifest and that, and
    all documents where its funnel.json is gone."""
    if not exists(f"{out}/funnel.json"):
        describe(out)
    elif not exists(f"{out}/{REPORT}"):
        _report(out)


def _report(out: str, counts: PairCounts | None = None) -> None:
    """Writes the report. The set is finished by now: no fault of a page may make it fail."""
    try:
        write_report(out, counts=counts)
    except Exception as error:
        remove(f"{out}/{REPORT}")  # which may show what has left
        tell_once("writing report.html", error)
        LOG.warning("%s has no report: alignset report %s writes it", out, out)


# ---- DataComp's ids of the kept pairs, as its resharder takes them -------------------------

UIDS, COLUMN = "uids.npy", "uid"
HALVES = np.dtype("u8,u8")


def write_uids(out: str, manifest: Manifest) -> None:
    """Writes the ids of the pairs to train on, each once, sorted, where a column `uid` came with
    them. Where one of them is not an id of DataComp, none are written, and the log says so. Takes
    40 bytes of memory an id.
    """
    if (manifest.columns or {}).get(COLUMN) != "string":
        return
    path = f"{out}/{UIDS}"
    if manifest.job["text_only"]:
        files = [path for path, _ in match(f"{out}/pairs")]
    else:
        files = [ShardPlaces(out).sidecar(of) for of in manifest.holding if of < HOLDOUT]
    try:
        parts = [_halves(read_rows(file, [COLUMN])[COLUMN]) for file in files]
    except ValueError as error:
        LOG.info("%s is not written: %s", path, error)
        remove(path)
        return
    halves = np.concatenate([np.zeros((0, 2), np.uint64), *parts])
    halves = halves[np.lexsort((halves[:, 1], halves[:, 0]))]  # the upper first
    is_new = np.append(True, np.any(halves[1:] != halves[:-1], axis=1))[: len(halves)]
    ids = np.ascontiguousarray(halves[is_new]).view(HALVES).reshape(-1)
    write_atomically(path, lambda sink: np.save(sink, ids))


def _halves(uids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """uint64[n, 2], the numbers that n hex ids of up to 32 digits are; nulls are left out.

    Raises:
      ValueError: one is not such an id.
    """
    uids = pc.ascii_lpad(uids.drop_null(), 32, "0")
    is_id = pc.match_substring_regex(uids, "^[0-9a-fA-F]{32}$")
    if pc.all(is_id).as_py() is False:
        wrong = uids.filter(pc.invert(is_id))[0].as_py()
        raise ValueError(
            f"{wrong.lstrip('0')[:80]!r} in the column {COLUMN} is not a 128-bit hex id"
        )
    digits = bytes.fromhex("".join(uids.to_pylist()))
    return np.frombuffer(digits, ">u8").astype(np.uint64).reshape(-1, 2)
