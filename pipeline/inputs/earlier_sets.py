"""Sets of ours that are read as input: where their pairs are, and what was dropped from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.splits import InputFile, Split
from alignset.pipeline.job import Job
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import exists, match

OF_SETS = ("shards", "holdout", "pairs", "rejected")  # the folders of a dataset that have pairs


@dataclass(frozen=True)
class _SetJob:
    text_only: bool
    holdout: float = 0.0


@dataclass(frozen=True)
class _SetManifest:
    """The part of a manifest that says where the pairs are, in any version."""

    job: _SetJob
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class EarlierSet:
    """A finished dataset.

    Attributes:
      folder: its output folder. text_only, holdout: as its command had them.
      columns: those that came from its own input.
    """

    folder: str
    text_only: bool
    holdout: float
    columns: tuple[str, ...] = ()

    def pair_folders(self, job: Job) -> list[str]:
        """Where its pairs are. Held-out pairs are read only by a run that holds out, too."""
        if self.text_only:
            return [f"{self.folder}/pairs"]
        held_out = [f"{self.folder}/holdout"] if self.holdout and job.holdout else []
        return [f"{self.folder}/shards", *held_out]

    def rejected_files(self, job: Job, catalogue: Catalogue = PRODUCT) -> list[InputFile]:
        """The files of what was dropped from it, with the reasons for which pairs are read.

        Raises:
          UsageError: pairs that it holds out would be trained on.
        """
        reasons = list(job.rejected_reasons(catalogue))
        if reasons and self.holdout and not job.holdout:
            raise UsageError(
                f"{self.folder} holds out images, and --also_rejected would bring pairs of these "
                f"to shards/: pass --holdout={self.holdout:g} too"
            )
        files = match(f"{self.folder}/rejected") if reasons else []
        return [InputFile(path, size, "parquet", reasons=reasons) for path, size in files]


def earlier_set(folder: str) -> EarlierSet | None:
    """The set of ours that a folder is; None of anything else."""
    folder = folder.rstrip("/")
    if folder.startswith(("http://", "https://")):  # where no folder can be listed
        return None
    if any(c in folder for c in "*?[") or not exists(f"{folder}/manifest.json"):
        return None
    try:
        manifest = read_document(f"{folder}/manifest.json", _SetManifest)
    except DocumentError:
        return None
    job = manifest.job
    return EarlierSet(folder, job.text_only, job.holdout, tuple(manifest.columns))


def earlier_sets(files: list[InputFile]) -> list[EarlierSet]:
    """The datasets of ours that files are the pairs of, also where a glob named them; sorted."""
    folders = {file.path.rpartition("/")[0] for file in files}
    parts = [
        f"./{folder}".rpartition("/") if "/" not in folder else folder.rpartition("/")
        for folder in folders
    ]
    roots = {root for root, _, name in parts if name in OF_SETS}
    return sorted(filter(None, map(earlier_set, roots)))


def mark_splits_of_sets(splits: Iterable[Split], sets: Sequence[EarlierSet]) -> list[Split]:
    """Marks the splits that belong to datasets of ours, by `of_set`."""
    folders = tuple(f"{earlier.folder}/" for earlier in sets)
    # The set "." has files such as shards/00000.tar.
    return [
        replace(
            split, of_set=any(path.startswith(folders) for path in (split.path, f"./{split.path}"))
        )
        for split in splits
    ]


def without_other_files(pattern: str, files: list[InputFile], job: Job) -> list[InputFile]:
    """Files that a folder or glob names, without files of datasets in it that are not their pairs:
    rejects, held-out pairs, history. Files that a pattern names within a dataset stay."""
    sets = [there for there in earlier_sets(files) if not pattern.startswith(f"{there.folder}/")]
    if not sets:
        return files
    folders = tuple(f"{folder}/" for there in sets for folder in there.pair_folders(job))
    within = tuple(f"{there.folder}/" for there in sets)
    return [
        file for file in files if file.path.startswith(folders) or not file.path.startswith(within)
    ]
