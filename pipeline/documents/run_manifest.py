"""The manifest of a run that has ended, and of a retry: what no file of the dataset says."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

from msgspec import UNSET, UnsetType

from alignset.pipeline.datasets.sizes_and_days import times_in
from alignset.pipeline.runs.documents import BrokenInput, Days, Manifest, RunDescription
from alignset.pipeline.runs.run_folder import RunFolder
from alignset.pipeline.runs.work_folder import ImageSummary, TextSummary
from alignset.transforms.corpus.corpus_documents import HashFile, VocabularyFile
from alignset.transforms.corpus.vocabulary_file import BY_LANGUAGE, HASHING, NAME
from alignset.transforms.pages.page_files import PAGE_FORMATS
from alignset.transforms.rules.language_codes import ENGLISH, voter_of
from alignset.transforms.shards.shard_stats import Copies, NearDuplicates
from alignset.transforms.storage.broken_files import BrokenFiles
from alignset.transforms.storage.files import move
from alignset.transforms.workers.packages import ICU, deciding, package_versions
from alignset.version import commit, version


def manifest_of_run(folder: RunFolder, text: TextSummary, images: ImageSummary | None) -> Manifest:
    """The manifest, without shards and pairs; brings the vocabulary where it stays.

    Args:
      images: None where there was no image stage.

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
    broken: BrokenInput | UnsetType = UNSET
    if text.broken.broken:
        counts = {f.name: getattr(text.broken, f.name) for f in fields(BrokenFiles)}
        broken = BrokenInput(**counts, files=len(description.input))
    return Manifest(
        **{f.name: getattr(description, f.name) for f in fields(RunDescription)},
        versions={name: of for name, of in own.items() if of}
        | {name: installed[name] for name in (*packages, ICU)},
        pairs=0,
        vocabulary=replace(text.vocabulary, file=_publish(folder, text.vocabulary_file)),
        evaluation_images=images.evaluation_images if images else {},
        evaluation_index=Path(images.evaluation_index).name or UNSET if images else UNSET,
        shards={},
        holdout={} if description.job["holdout"] else UNSET,
        fetched=days_of(folder, text.shards),
        rows=text.counts.seen,
        broken_input=broken,
        pages=pages.counts if pages else UNSET,
        near_duplicates=near_of(images.copies) if images else UNSET,
        images_per_text=text.images_per_text,
        texts_per_image=text.texts_per_image,
    )


def near_of(copies: Copies) -> NearDuplicates | UnsetType:
    """Counts of near-duplicates where these were looked for, and left but for graphics."""
    if not copies.distances:
        return UNSET
    return NearDuplicates(copies.graphics, 0, 0, copies.distances)


def days_of(
    folder: RunFolder, shards: Collection[int], before: Days | UnsetType = UNSET
) -> Days | UnsetType:
    """On which days images were fetched: from the end of the text stage to the end
    of the image stage.

    Args:
      shards: that were written. before: when other shards of the dataset were fetched.
    """
    days = [before.first, before.last] if before else []
    if shards and any(file.format != "webdataset" for file in folder.description.input):
        times, work = times_in(folder.work.path), folder.work
        for path in (work.text_summary, work.image_summary):
            days.append(datetime.fromtimestamp(times[path], UTC).date().isoformat())
    return Days(min(days), max(days)) if days else UNSET


def _publish(folder: RunFolder, file: HashFile | None) -> VocabularyFile:
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
