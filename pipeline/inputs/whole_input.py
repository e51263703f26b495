"""All that a command reads, found and checked before anything is run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urljoin

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.extras import missing_extra
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import (
    EarlierSet,
    earlier_set,
    earlier_sets,
    folders_of_sets,
    removed_before,
    set_of,
)
from alignset.pipeline.inputs.find_columns import carry, find_columns
from alignset.pipeline.inputs.find_inputs import (
    find_files,
    find_splits,
    find_vocabulary,
    mark_broken,
)
from alignset.pipeline.inputs.find_lists import Evaluation, find_blocklists, find_evaluation
from alignset.pipeline.inputs.splits import InputFile, Split, row_group_splits
from alignset.pipeline.settings import OPENNSFW, Job, Settings
from alignset.transforms.arrivals.known_images import KnownSet
from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.pair_columns import PAGE_URL
from alignset.transforms.corpus.corpus_documents import HashFile
from alignset.transforms.pages.page_files import PAGE_FORMATS, PageFiles, parsed_path
from alignset.transforms.rules.thresholds import MAX_UNSAFE_SCORE
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import (
    ModelError,
    UnsafeModel,
    describe_model,
    open_nsfw_path,
    usual_model,
)
from alignset.transforms.storage.files import open_to_read


@dataclass(frozen=True)
class Input:
    """The input of a run; pages are parsed first, and are then files to read.

    Attributes:
      sets: the datasets of ours that files are the pairs of.
      unsafe_model: what scores the images; None where nothing does.
      carried: the columns that go with the pairs.
      removed_before: uint64[n], the keys of pairs that were taken down from these datasets, or from
        datasets of --images_from.
      known: datasets whose images are not requested again.
    """

    files: Sequence[InputFile]
    splits: Sequence[Split]
    pages: Sequence[PageFiles]
    evaluation: Evaluation
    vocabulary: HashFile | None
    sets: Sequence[EarlierSet]
    unsafe_model: UnsafeModel | None
    blocklists: Blocklists = NO_LISTS
    carried: tuple[pa.Field, ...] = ()
    removed_before: UInt64s = field(default_factory=lambda: np.zeros(0, np.uint64), compare=False)
    known: tuple[KnownSet, ...] = ()

    @classmethod
    def find(cls, settings: Settings) -> Input:
        """The input that the command names.

        Raises:
          UsageError: something is not there, or is not what it should be.
        """
        keeps_all = settings.decontaminate_only or settings.score_only
        files = find_files(settings, kept_only=keeps_all)
        splits = find_splits(settings, files)
        files, sets = mark_broken(files, splits), earlier_sets(files)
        splits = [replace(of, of_set=set_of(of.path, sets) is not None) for of in splits]
        splits, carried_fields = find_columns(settings, splits, sets, keeps_all=keeps_all)
        return cls(
            files,
            splits,
            find_pages(settings, files),
            find_evaluation(settings.eval_images, settings.eval_index),
            find_vocabulary(settings.vocabulary, settings.language),
            sets,
            find_unsafe_model(settings),
            find_blocklists(
                settings.blocklist,
                settings.min_blocked_phash_distance,
                settings.min_blocked_pdq_distance,
            ),
            carried_fields,
            removed_before(folders_of_sets(files) | {*filter(earlier_set, settings.known_folders)}),
        )

    def resolve_paths(self, everywhere: Callable[[str], str]) -> Input:
        """The same with its paths as workers find them, which may run in another folder."""
        model = self.unsafe_model
        return replace(
            self,
            unsafe_model=model and replace(model, path=model.path and everywhere(model.path)),
            splits=[replace(split, path=everywhere(split.path)) for split in self.splits],
            pages=[part.moved(everywhere) for part in self.pages],
            evaluation=self.evaluation.resolve_paths(everywhere),
            known=tuple(of._replace(folder=everywhere(of.folder)) for of in self.known),
        )

    def replace_pages(self, folder: str) -> Input:
        """The same with what its pages were parsed to in place of the pages."""
        if not self.pages:
            return self
        files = [file for file in self.files if file.format not in PAGE_FORMATS]
        splits = [*self.splits]
        for number in range(len(self.pages)):
            path = parsed_path(folder, number)
            with open_to_read(path) as source:
                files.append(InputFile(path, source.seek(0, 2), "pages"))
                footer = pq.read_metadata(source)
            split = Split(path, "pages", "", "url", "caption", page_column=PAGE_URL)
            split = replace(split, carried=carry(self.carried, {}))
            splits += row_group_splits(split, footer)
        return replace(self, files=files, splits=splits, pages=())


PAGES_PER_PART = 1 << 12
BYTES_PER_PART = 1 << 28


def find_pages(job: Job, files: Iterable[InputFile]) -> list[PageFiles]:
    """The parts in which pages are parsed: an archive each, or some thousand files of HTML.

    Raises:
      UsageError: what parses them is not installed.
    """
    parts, pages, size = [], [], 0
    used = [file for file in files if file.format in PAGE_FORMATS and file.bytes and not file.fault]
    if used and (missing := missing_extra("pages", f"{used[0].path} ({used[0].format})")):
        raise UsageError(missing)
    for file in used:
        if file.format == "html":
            pages.append((file.path, _page_url(job, file.path)))
            size += file.bytes
            if len(pages) == PAGES_PER_PART or size >= BYTES_PER_PART:
                parts.append(PageFiles("html", tuple(pages)))
                pages, size = [], 0
            continue
        parts.append(PageFiles(file.format, ((file.path, ""),)))
    return [*parts, PageFiles("html", tuple(pages))] if pages else parts


def _page_url(job: Job, path: str) -> str:
    """Where a page is served: its path in the folder that was given, below the base URL."""
    if not job.base_url:
        return ""
    name = path.rpartition("/")[2]
    for pattern in job.inputs:
        folder = re.split(r"[*?\[]", pattern)[0]
        folder = folder if folder == pattern else folder.rpartition("/")[0]
        if path.startswith(f"{folder.rstrip('/')}/"):
            name = path[len(folder.rstrip("/")) + 1 :]
            break
    return urljoin(job.base_url, quote(os.fsencode(name)))  # a name may be no UTF-8


def find_unsafe_model(settings: Settings) -> UnsafeModel | None:
    """The model to score images with, None where none is to be scored.

    Raises:
      UsageError: it is not there, or no model that can be used.
    """
    most = settings.max_unsafe_score
    is_off = MAX_UNSAFE_SCORE.is_off(most) and not settings.score_only
    if settings.text_only or not settings.unsafe_model or is_off:
        return None
    try:
        if settings.unsafe_model == OPENNSFW:
            open_nsfw_path()
            return usual_model(most)
        model = describe_model(settings.unsafe_model)
        open_classifier(model)
        return model
    except ModelError as error:
        raise UsageError(str(error)) from error
