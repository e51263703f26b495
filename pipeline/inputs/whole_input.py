"""All that a command reads, found and checked before anything is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from alignset.pipeline.inputs.earlier_sets import EarlierSet, earlier_sets
from alignset.pipeline.inputs.find_blocklists import find_blocklists
from alignset.pipeline.inputs.find_evaluation import Evaluation, find_evaluation
from alignset.pipeline.inputs.find_inputs import find_files, find_vocabulary
from alignset.pipeline.inputs.find_splits import find_splits, with_faults
from alignset.pipeline.inputs.page_files import find_pages, parsed_files, parsed_splits
from alignset.pipeline.inputs.splits import InputFile, Split
from alignset.pipeline.inputs.unsafe_model import find_unsafe_model
from alignset.pipeline.job import Job
from alignset.pipeline.rules import Rules
from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.corpus.corpus_documents import HashFile
from alignset.transforms.decontamination.overlap_settings import OverlapSettings
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.safety.model_files import UnsafeModel


@dataclass(frozen=True)
class Input:
    """What a run reads; pages are parsed first, and are then files to read.

    Attributes:
      sets: the sets of ours that files are the pairs of.
      unsafe_model: what scores the images; None where nothing does.
    """

    files: Sequence[InputFile]
    splits: Sequence[Split]
    pages: Sequence[PageFiles]
    evaluation: Evaluation
    vocabulary: HashFile | None
    sets: Sequence[EarlierSet]
    unsafe_model: UnsafeModel | None
    blocklists: Blocklists = NO_LISTS

    @classmethod
    def find(cls, job: Job, rules: Rules, overlap: OverlapSettings) -> Input:
        """What the command names.

        Raises:
          UsageError: something is not there, or is not what it should be.
        """
        files = find_files(job, rules.catalogue)
        splits = find_splits(job, files)
        files = with_faults(files, splits)
        return cls(
            files,
            splits,
            find_pages(job, files),
            find_evaluation(job.eval_images, overlap),
            find_vocabulary(job.vocabulary),
            earlier_sets(files),
            find_unsafe_model(job, rules),
            find_blocklists(
                job.blocklist, rules.min_blocked_phash_distance, rules.min_blocked_pdq_distance
            ),
        )

    def on_workers(self, everywhere: Callable[[str], str]) -> Input:
        """The same with its paths as workers find them, which may run in another folder."""
        model = self.unsafe_model
        return replace(
            self,
            unsafe_model=model and replace(model, path=model.path and everywhere(model.path)),
            splits=[replace(split, path=everywhere(split.path)) for split in self.splits],
            pages=[part.moved(everywhere) for part in self.pages],
            evaluation=self.evaluation.on_workers(everywhere),
        )

    def parsed(self, folder: str) -> Input:
        """The same with what its pages were parsed to in place of the pages."""
        if not self.pages:
            return self
        return replace(
            self,
            files=parsed_files(folder, self.pages, self.files),
            splits=[*self.splits, *parsed_splits(folder, self.pages)],
            pages=(),
        )
