"""The closing documents of an output: funnel.json, the card and what goes with it, and last of all
manifest.json."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from msgspec import UNSET, UnsetType

from alignset.pipeline.datasets.copy_groups import publish_copies
from alignset.pipeline.datasets.forget_history import forget_listed
from alignset.pipeline.datasets.funnel import (
    check_funnel,
    failed_fetches,
    funnel,
    opt_outs,
    whole_funnel,
)
from alignset.pipeline.datasets.history import carry_history, earlier_manifests
from alignset.pipeline.datasets.sizes_and_days import fetch_days, look_into
from alignset.pipeline.documents.card import dataset_card
from alignset.pipeline.documents.croissant import croissant
from alignset.pipeline.documents.funnel_svg import funnel_svg
from alignset.pipeline.documents.hand_edits import drop_page, write_page
from alignset.pipeline.documents.uids import write_uids
from alignset.pipeline.inputs.earlier_sets import TAKEN_DOWN_KEYS, EarlierSet
from alignset.pipeline.report.page import REPORT, write_report
from alignset.pipeline.runs.documents import (
    BrokenInput,
    Connections,
    Funnel,
    Manifest,
    RunDescription,
    ShardEntry,
    Step,
)
from alignset.pipeline.runs.run_folder import RunFolder
from alignset.pipeline.runs.work_folder import (
    ImageSummary,
    PageSummary,
    TextSummary,
    WrittenShard,
    with_rewritten,
)
from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.corpus.corpus_documents import HashFile, VocabularyFile
from alignset.transforms.corpus.vocabulary_file import BY_LANGUAGE, HASHING, NAME
from alignset.transforms.pages.page_files import PAGE_FORMATS
from alignset.transforms.rules.catalogue import Catalogue
from alignset.transforms.rules.language_codes import ENGLISH, voter_of
from alignset.transforms.shards.renumber_shards import renumber_shards
from alignset.transforms.shards.shard_places import HOLDOUT, shard_name
from alignset.transforms.storage.broken_files import BrokenFiles
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.files import carry_file, exists, move, write_atomically
from alignset.transforms.workers.counts import Counts, add_by_name
from alignset.transforms.workers.packages import ICU, deciding, package_versions
from alignset.transforms.workers.unexpected import tell_once
from alignset.version import commit, version

LOG = logging.getLogger("alignset")


def close_run(
    folder: RunFolder, sets: Sequence[EarlierSet] = (), forgotten: Blocklists = NO_LISTS
) -> Funnel:
    """Writes the closing documents, the manifest last; returns the funnel.

    Args:
      sets: the datasets of ours that this one was made of.
      forgotten: the blocklists, where neither URL nor text of what is on them may stay.

    Raises:
      RuntimeError: the counts do not add up.
    """
    folder.check_lock()
    if exists(folder.work.removed_before):  # whatever is made of this dataset leaves them out too
        carry_file(folder.work.removed_before, f"{folder.out}/{TAKEN_DOWN_KEYS}")
    text = folder.work.find_text()
    assert text is not None, "the text stage has ended"
    images = without_copies(folder.work.find_images() or ImageSummary([], Counts(), {}, [], {}))
    text_only = bool(folder.description.job["text_only"])
    steps = checked_steps(text, None if text_only else images.counts, folder.description.catalogue)
    pages = folder.work.find_pages()
    manifest = _manifest(folder, text, images, steps[-1].kept)
    history = carry_history(folder.out, sets)
    forget_listed(folder.out, forgotten)
    closing = Funnel(
        history=history or UNSET,
        broken_input=_broken_input(text, folder.description),
        pages=pages.counts if pages else UNSET,
        fetch=replace(
            failed_fetches(images.counts.seen, images.statuses, images.hosts),
            connections=connections(images),
        ),
        opted_out=opt_outs(folder.description.fetch, images, *_of_pages(pages)),
        pairs=steps[-1].kept,
        steps=steps,
        vocabulary=text.vocabulary,
        copies=UNSET if text_only else images.copies.shared,
        near_duplicates=publish_copies(folder.out, folder.work),
        images_per_text=text.images_per_text,
        texts_per_image=text.texts_per_image,
    )
    return close(folder, manifest, closing)


def without_copies(images: ImageSummary) -> ImageSummary:
    """Results of the image stage, without pairs that left for their copies."""
    counts, copies = images.counts, images.copies
    opt_outs = Counter(images.reported)
    opt_outs.subtract(copies.reported)
    return replace(
        images,
        counts=replace(
            counts,
            kept=counts.kept - sum(copies.dropped.values()),
            dropped=add_by_name([counts.dropped, copies.dropped]),
        ),
        reported=dict(+opt_outs),
    )


def checked_steps(text: TextSummary, images: Counts | None, catalogue: Catalogue) -> list[Step]:
    """The steps of the funnel, which add up.

    Args:
      images: the counts of the image stage; None where there was none.
    """
    steps, pairs = funnel(text.counts, catalogue.text_steps), text.counts.kept
    check_funnel(steps, pairs)
    if text.rows_read != text.counts.seen:
        raise RuntimeError(
            f"the first reading found {text.rows_read} rows and the second {text.counts.seen}: "
            "did the input change? Delete the output folder and start again"
        )
    if images is None:
        return steps
    if images.seen != pairs:
        raise RuntimeError(f"the shards were given other pairs than the {pairs} that are kept")
    steps = whole_funnel(text.counts, images, catalogue=catalogue)
    check_funnel(steps, images.kept)
    return steps


def _manifest(folder: RunFolder, text: TextSummary, images: ImageSummary, pairs: int) -> Manifest:
    """The manifest; brings the shards and the vocabulary where they stay."""
    rewritten = folder.work.find_rewritten(images.copies)
    assert rewritten is not None, "copies are taken out"
    shards = with_rewritten(images.shards, rewritten)
    shards = renumber(folder.out, folder.work.path, shards)
    description = folder.description
    has_pages = any(file.format in PAGE_FORMATS for file in description.input)
    packages = deciding(
        "pages" if has_pages else "",
        voter_of(description.rules),
        "exact_resize" if description.resize["exact_resize"] else "",
    )
    installed = package_versions(packages)
    own = {"alignset": version(), "commit": commit(), "sources": installed["alignset"]}
    own["sources"] = own["sources"].rpartition(" ")[2]
    return Manifest(
        **{f.name: getattr(description, f.name) for f in fields(RunDescription)},
        versions={name: of for name, of in own.items() if of}
        | {name: installed[name] for name in (*packages, ICU)},
        pairs=pairs,
        vocabulary=replace(text.vocabulary, file=_publish(folder, text.vocabulary_file)),
        evaluation_images=images.evaluation_images,
        evaluation_index=Path(images.evaluation_index).name or UNSET,
        shards=entries(shards),
        holdout=entries(shards, held_out=True) if description.job["holdout"] else UNSET,
        fetched=fetch_days(folder.out, shards, description),
    )


def _of_pages(pages: PageSummary | None) -> list[dict[str, int]]:
    """How many pairs were dropped for the opt-outs of their pages, by detail; of none, nothing."""
    opt_outs = pages.counts.opted_out if pages else UNSET
    return [] if isinstance(opt_outs, UnsetType) else [opt_outs]


def connections(images: ImageSummary) -> Connections | UnsetType:
    return Connections(images.connections, images.limits) if images.connections else UNSET


def _broken_input(text: TextSummary, description: RunDescription) -> BrokenInput | UnsetType:
    if not text.broken.broken:
        return UNSET
    counts = {f.name: getattr(text.broken, f.name) for f in fields(BrokenFiles)}
    return BrokenInput(**counts, files=len(description.input))


def close(folder: RunFolder, manifest: Manifest, closing: Funnel) -> Funnel:
    closing = write_closing(folder.out, manifest, closing)
    folder.clean()
    return closing


def write_closing(out: str, manifest: Manifest, closing: Funnel) -> Funnel:
    """Writes all that tells of a dataset, the manifest last; returns the funnel as it is
    written."""
    if not isinstance(manifest.holdout, UnsetType):
        pairs = sum(shard.pairs for shard in manifest.held_out.values())
        closing = replace(closing, holdout=pairs)
    document = replace(closing, fetch=replace(closing.fetch, connections=UNSET))
    write_document(f"{out}/funnel.json", document)
    write_uids(out, manifest)
    contents, earlier = look_into(out, manifest), earlier_manifests(out, closing)
    write_atomically(f"{out}/funnel.svg", partial(_write, funnel_svg(closing.steps).encode()))
    write_page(out, "croissant.json", croissant(manifest, closing, earlier))
    write_page(out, "README.md", dataset_card(manifest, closing, contents, earlier).encode())
    drop_page(out, "datasheet.md")  # of earlier versions, with the counts that were
    write_document(f"{out}/manifest.json", manifest)
    _report(out)
    return closing


def complete(out: str) -> None:
    """Writes the report of a finished dataset where a kill came between its manifest and that."""
    if not exists(f"{out}/{REPORT}"):
        _report(out)


def _report(out: str) -> None:
    """Writes the report. The set is finished by now: no fault of a page may make it fail."""
    try:
        write_report(out)
    except Exception as error:
        tell_once("writing report.html", error)
        LOG.warning("%s has no report: alignset report %s writes it", out, out)


def _write(body: bytes, sink: BinaryIO) -> None:
    sink.write(body)


def _publish(folder: RunFolder, file: HashFile) -> VocabularyFile:
    """Brings the vocabulary beside the output; returns what the manifest says of its file."""
    path = file.path
    if folder.description.given_vocabulary is None:  # it is the run's own
        # By its name alone: the run may go on with its folder given in another way.
        move(f"{folder.work.path}/{Path(path).name}", f"{folder.out}/{NAME}")
        path = NAME
    rule = str(folder.description.rules["language"])
    hashing = HASHING if rule in ("", ENGLISH) else HASHING + BY_LANGUAGE
    return VocabularyFile(file.bytes, path, file.sha256, hashing)


def written_of(manifest: Manifest) -> list[WrittenShard]:
    """The shards that an earlier run closed with."""
    return [
        WrittenShard(first + int(name), entry.pairs, entry.sha256)
        for first, entries in ((0, manifest.shards), (HOLDOUT, manifest.held_out))
        for name, entry in entries.items()
    ]


def renumber(out: str, work: str, shards: list[WrittenShard]) -> list[WrittenShard]:
    """The shards with the numbers that they have in the end.

    Args:
      out: the output folder. work: its work folder.
    """
    sizes = {shard.number: shard.kept for shard in shards}
    numbers = renumber_shards(out, work, sizes)
    return [replace(shard, number=numbers.get(shard.number, shard.number)) for shard in shards]


def entries(shards: list[WrittenShard], *, held_out: bool = False) -> dict[str, ShardEntry]:
    return {
        shard_name(shard.number): ShardEntry(shard.kept, shard.sha256)
        for shard in sorted(shards)
        if (shard.number >= HOLDOUT) == held_out
    }


def with_shards(base: Manifest, shards: list[WrittenShard]) -> Manifest:
    """The manifest of a finished dataset whose shards are now these."""
    held_out = UNSET if base.holdout is UNSET else entries(shards, held_out=True)
    return replace(base, shards=entries(shards), holdout=held_out)
