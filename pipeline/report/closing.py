"""The closing documents of an output: funnel.json, the card and what goes with it, and last of all
manifest.json."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from msgspec import UNSET, UnsetType

from pipeline.inputs.earlier_sets import EarlierSet
from pipeline.report.card import dataset_card
from pipeline.report.contents import fetch_days, look_into
from pipeline.report.croissant import croissant
from pipeline.report.datasheet import datasheet
from pipeline.report.fetch_report import failed_fetches, opt_outs
from pipeline.report.funnel import check_funnel, counts_of, funnel, whole_funnel
from pipeline.report.funnel_svg import funnel_svg
from pipeline.report.history import carry_history, earlier_manifests
from pipeline.report.write_report import write_report
from pipeline.runs.documents import (
    BrokenInput,
    Connections,
    Funnel,
    Manifest,
    Retry,
    RunDescription,
    ShardEntry,
)
from pipeline.runs.run_folder import RunFolder
from pipeline.runs.work_folder import (
    ImageSummary,
    PageSummary,
    RetryBase,
    RetryPlan,
    TextSummary,
    WrittenShard,
)
from transforms.columns.reasons import (
    FETCH_FAILED,
    IMAGE_STEPS,
    TAKEDOWN_STEPS,
    TAKEN_DOWN,
    TEXT_STEPS,
)
from transforms.corpus.hash_sets import HashFile
from transforms.corpus.vocabulary import VocabularyFile
from transforms.corpus.vocabulary_file import HASHING, NAME
from transforms.shards.renumber_shards import renumber_shards
from transforms.shards.shard_places import HOLDOUT, shard_name
from transforms.storage.broken_files import BrokenFiles
from transforms.storage.documents import write_document
from transforms.storage.files import move, write_atomically
from transforms.workers.packages import DECIDING, installed
from transforms.workers.summaries import Counts, add_by_name, add_counts
from transforms.workers.unexpected import tell_once

LOG = logging.getLogger("alignset")


def close_run(folder: RunFolder, sets: Sequence[EarlierSet] = ()) -> Funnel:
    """Writes the closing documents, the manifest last; returns the funnel.

    Args:
      sets: the sets of ours that this one was made of.

    Raises:
      RuntimeError: the counts do not add up.
    """
    folder.check_lock()
    text = folder.work.find_text()
    assert text is not None, "the text plane has ended"
    steps, kept = funnel(text.counts, TEXT_STEPS), text.counts.kept
    check_funnel(steps, kept)
    if text.rows_read != text.counts.seen:
        raise RuntimeError(
            f"the first reading found {text.rows_read} rows and the second {text.counts.seen}: "
            "did the input change? Delete the output folder and start again"
        )
    images = ImageSummary([], Counts(), {}, [], {})
    text_only = folder.description.job["text_only"]
    if not text_only:
        images = folder.work.find_images() or images
        if images.counts.seen != kept:
            raise RuntimeError(f"the shards were given other pairs than the {kept} that are kept")
        steps, kept = whole_funnel(text.counts, images.counts), images.counts.kept
        check_funnel(steps, kept)
    pages, shards = (
        folder.work.find_pages(),
        renumbered(folder.out, folder.work.path, images.shards),
    )
    manifest = Manifest(
        **{f.name: getattr(folder.description, f.name) for f in fields(RunDescription)},
        versions={name: installed()[name] for name in DECIDING},
        pairs=kept,
        vocabulary=replace(text.vocabulary, file=_publish(folder, text.vocabulary_file)),
        evaluation_images=images.evaluation_images,
        evaluation_index=Path(images.evaluation_index).name or UNSET,
        shards=entries(shards),
        holdout=_held_out(folder, shards),
        fetched=fetch_days(folder.out, shards, folder.description),
    )
    closing = Funnel(
        history=carry_history(folder.out, sets) or UNSET,
        broken_input=_broken_input(text, folder.description),
        pages=pages.counts if pages else UNSET,
        fetch=replace(
            failed_fetches(images.counts.seen, images.statuses, images.hosts),
            connections=_connections(images),
        ),
        opted_out=opt_outs(folder.description.fetch, images, *_of_pages(pages)),
        pairs=kept,
        steps=steps,
        vocabulary=text.vocabulary,
        near_duplicates=UNSET if text_only else images.near_duplicates,
        images_per_text=text.images_per_text,
        texts_per_image=text.texts_per_image,
    )
    return _close(folder, manifest, closing)


def _of_pages(pages: PageSummary | None) -> list[dict[str, int]]:
    """How many pairs were dropped for the wishes of their pages, by detail; of none, nothing."""
    counted = pages.counts.opted_out if pages else UNSET
    return [] if isinstance(counted, UnsetType) else [counted]


def _connections(images: ImageSummary) -> Connections | UnsetType:
    return Connections(images.connections, images.limits) if images.connections else UNSET


def _broken_input(text: TextSummary, description: RunDescription) -> BrokenInput | UnsetType:
    if not text.broken.broken:
        return UNSET
    broken = {f.name: getattr(text.broken, f.name) for f in fields(BrokenFiles)}
    return BrokenInput(**broken, files=len(description.input))


def close_retry(folder: RunFolder, base: RetryBase, plan: RetryPlan) -> Funnel:
    """Writes the closing documents with what a retry brought; returns the funnel.

    Raises:
      RuntimeError: the counts do not add up.
    """
    folder.check_lock()
    if not plan.pairs:
        folder.clean()
        return base.funnel
    images, manifest = folder.work.find_images(), base.manifest
    assert images is not None, "the image plane has ended"
    # What was tried again is counted where that ended.
    texts, before, taken_down = planes_of(base.funnel)
    details = base.funnel.fetch.details
    failed = before.dropped.get(FETCH_FAILED, 0)
    tried = sum(details[detail] for detail in plan.details)
    if not tried == plan.pairs == images.counts.seen:
        raise RuntimeError(
            f"{tried} fetches had failed and {plan.pairs} were tried again: "
            "was a file in rejected/ changed?"
        )
    untouched = replace(before, dropped=before.dropped | {FETCH_FAILED: failed - tried})
    steps = whole_funnel(texts, add_counts([untouched, images.counts]), taken_down)
    kept = manifest.pairs + images.counts.kept
    check_funnel(steps, kept)
    left = {f"{FETCH_FAILED}: {d}": n for d, n in details.items() if d not in plan.details}
    statuses = add_by_name([left, images.statuses])
    fetch = replace(
        failed_fetches(base.funnel.fetch.tried, statuses, folder.work.read_retry_hosts()),
        connections=_connections(images),
    )
    shards = renumbered(folder.out, folder.work.path, [*written_of(manifest), *images.shards])
    new = shards[len(manifest.numbers) :]
    added = [shard.number for shard in new if shard.kept and shard.number < HOLDOUT]
    retried = Retry(
        tried=tried,
        kept=images.counts.kept,
        shards=(min(added), max(added)) if added else None,
        fetch=folder.description.fetch,
        details=plan.details,
        blocklists=folder.description.blocklists,
    )
    earlier = [] if isinstance(manifest.retries, UnsetType) else manifest.retries
    manifest = replace(
        manifest,
        pairs=kept,
        shards=entries(shards),
        holdout=_held_out(folder, shards),
        retries=[*earlier, retried],
        fetched=fetch_days(folder.out, new, manifest, manifest.fetched),
    )
    near = images.near_duplicates
    earlier_wishes = base.funnel.opted_out
    earlier_opt_outs = [] if isinstance(earlier_wishes, UnsetType) else [earlier_wishes.details]
    opted_out = opt_outs(folder.description.fetch, images, *earlier_opt_outs)
    closing = replace(
        base.funnel,
        fetch=fetch,
        opted_out=opted_out,
        pairs=kept,
        steps=steps,
        near_duplicates=near,
    )
    return _close(folder, manifest, closing)


def planes_of(before: Funnel) -> tuple[Counts, Counts, int | None]:
    """The counts of both planes that a funnel was made of, and how many pairs were taken down
    since; None where nothing was."""
    texts, images, later = (
        counts_of(before.steps, steps) for steps in (TEXT_STEPS, IMAGE_STEPS, TAKEDOWN_STEPS)
    )
    return texts, images, later.dropped.get(TAKEN_DOWN)


def _close(folder: RunFolder, manifest: Manifest, closing: Funnel) -> Funnel:
    closing = write_closing(folder.out, manifest, closing)
    folder.clean()
    return closing


def write_closing(out: str, manifest: Manifest, closing: Funnel) -> Funnel:
    """Writes all that tells of a set, the manifest last; returns the funnel as it is written."""
    if not isinstance(manifest.holdout, UnsetType):
        pairs = sum(shard.pairs for shard in manifest.held_out.values())
        closing = replace(closing, holdout=pairs)
    written = replace(closing, fetch=replace(closing.fetch, connections=UNSET))
    write_document(f"{out}/funnel.json", written)
    contents, earlier = look_into(out, manifest), earlier_manifests(out, closing)
    files = {
        "funnel.svg": funnel_svg(closing.steps).encode(),
        "croissant.json": croissant(manifest, closing),
        "datasheet.md": datasheet(manifest, closing).encode(),
        "README.md": dataset_card(manifest, closing, contents, earlier).encode(),
    }
    for name, body in files.items():
        write_atomically(f"{out}/{name}", partial(_write, body))
    write_document(f"{out}/manifest.json", manifest)
    _report(out)
    return closing


def _report(out: str) -> None:
    """Writes the report. The set is finished by now: no fault of a page may make it fail."""
    try:
        write_report(out)
    except Exception as error:
        tell_once("writing report.html", error)
        LOG.warning("%s has no report: python -m pipeline.report %s writes it", out, out)


def _write(body: bytes, sink: BinaryIO) -> None:
    sink.write(body)


def _publish(folder: RunFolder, file: HashFile) -> VocabularyFile:
    """Brings the vocabulary beside the output; returns what the manifest says of its file."""
    path = file.path
    if folder.description.given_vocabulary is None:  # it is the run's own
        # By its name alone: the run may go on with its folder given in another way.
        move(f"{folder.work.path}/{Path(path).name}", f"{folder.out}/{NAME}")
        path = NAME
    return VocabularyFile(file.bytes, path, file.sha256, HASHING)


def written_of(manifest: Manifest) -> list[WrittenShard]:
    """The shards that an earlier run closed with."""
    return [
        WrittenShard(first + int(name), entry.pairs, entry.sha256)
        for first, entries in ((0, manifest.shards), (HOLDOUT, manifest.held_out))
        for name, entry in entries.items()
    ]


def renumbered(out: str, work: str, shards: list[WrittenShard]) -> list[WrittenShard]:
    """The shards with the numbers that they have in the end.

    Args:
      out: the output folder. work: its work folder.
    """
    kept = {shard.number: shard.kept for shard in shards}
    numbers = renumber_shards(out, work, kept)
    return [replace(shard, number=numbers.get(shard.number, shard.number)) for shard in shards]


def entries(shards: list[WrittenShard], *, held_out: bool = False) -> dict[str, ShardEntry]:
    return {
        shard_name(shard.number): ShardEntry(shard.kept, shard.sha256)
        for shard in sorted(shards)
        if (shard.number >= HOLDOUT) == held_out
    }


def _held_out(folder: RunFolder, shards: list[WrittenShard]) -> dict[str, ShardEntry] | UnsetType:
    wanted = folder.description.job.get("holdout")
    return entries(shards, held_out=True) if wanted else UNSET
