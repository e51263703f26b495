"""Sets of ours that are read as input: where their pairs are, and what was dropped from them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.splits import InputFile, Split
from alignset.pipeline.job import ABOUT, Job
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import exists, is_local, match, open_to_read
from alignset.transforms.workers.counts import add_by_name

if TYPE_CHECKING:
    from alignset.transforms.columns.hashing import UInt64s

OF_SETS = ("shards", "holdout", "pairs", "rejected")  # the folders of a dataset that have pairs
_LONGEST_ABOUT = 5000  # characters
TAKEN_DOWN_KEYS = "taken_down.u64"  # what a takedown leaves in a dataset


@dataclass(frozen=True)
class _SetJob:
    text_only: bool
    holdout: float = 0.0


@dataclass(frozen=True)
class _SetManifest:
    """The part of a manifest that says where the pairs are, in any version."""

    job: _SetJob
    columns: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    fetch: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _SetStep:
    dropped: dict[str, int]


@dataclass(frozen=True)
class _SetFunnel:
    """The part of a funnel that says why pairs were dropped, in any version."""

    steps: list[_SetStep]


@dataclass(frozen=True, order=True)
class EarlierSet:
    """A finished dataset.

    Attributes:
      folder: its output folder. text_only, holdout: as its command had them.
      columns: those that came from its own input.
      about: title, description, license and contact, as far as they are given: pairs of name and
        text.
    """

    folder: str
    text_only: bool
    holdout: float
    columns: tuple[str, ...] = ()
    about: tuple[tuple[str, str], ...] = ()

    def pair_folders(self, job: Job) -> list[str]:
        """Where its pairs are. Held-out pairs are read only by a run that holds out, too."""
        if self.text_only:
            return [f"{self.folder}/pairs"]
        held_out = [f"{self.folder}/holdout"] if self.holdout and job.holdout else []
        return [f"{self.folder}/shards", *held_out]

    def dropped(self) -> dict[str, int]:
        """How many pairs were dropped for each reason, as its funnel says."""
        try:
            steps = read_document(f"{self.folder}/funnel.json", _SetFunnel).steps
        except (DocumentError, FileNotFoundError):
            return {}
        counts = add_by_name([step.dropped for step in steps])
        return {name: n for name, n in counts.items() if name.isprintable()}  # anybody's

    def rejected_files(self, job: Job, reasons: Sequence[str]) -> list[InputFile]:
        """The files of what was dropped from it.

        Args:
          reasons: for which pairs are read.

        Raises:
          UsageError: pairs that it holds out would be trained on.
        """
        if reasons and self.holdout and not job.holdout:
            raise UsageError(
                f"{self.folder} holds out images, and --also_rejected would bring pairs of these "
                f"to shards/: pass --holdout={self.holdout:g} too"
            )
        files = match(f"{self.folder}/rejected") if reasons else []
        return [InputFile(path, size, "parquet", reasons=[*reasons]) for path, size in files]


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
    given = {name: manifest.about.get(name) for name in ABOUT}
    given["contact"] = manifest.fetch.get("contact")
    about = [
        (name, text)
        for name, text in given.items()  # which anybody may have written
        if isinstance(text, str) and text.isprintable() and 0 < len(text) <= _LONGEST_ABOUT
    ]
    return EarlierSet(folder, job.text_only, job.holdout, tuple(manifest.columns), tuple(about))


def shared_about(sets: Sequence[EarlierSet]) -> dict[str, str]:
    """Title, description, license and contact as all of some datasets have them."""
    common = [dict(earlier.about).items() for earlier in sets]
    return {
        name: text
        for name, text in (common[0] if common else ())
        if all((name, text) in earlier for earlier in common)
    }


def earlier_sets(files: list[InputFile]) -> list[EarlierSet]:
    """The datasets of ours that files are the pairs of, also where a glob named them; sorted."""
    return sorted(filter(None, map(earlier_set, folders_of_sets(files))))


def folders_of_sets(files: Iterable[InputFile]) -> set[str]:
    """The folders of the datasets whose pairs files may be."""
    folders = {file.path.rpartition("/")[0] for file in files}
    parts = [(folder if "/" in folder else f"./{folder}").rpartition("/") for folder in folders]
    return {root for root, _, name in parts if name in OF_SETS}


def removed_before(files: list[InputFile]) -> UInt64s:
    """The keys of the pairs that were taken down from the datasets that files are the pairs of,
    whatever version made these: uint64[n], ascending.

    Raises:
      UsageError: a list of keys is not one.
    """
    paths = [f"{root}/{TAKEN_DOWN_KEYS}" for root in folders_of_sets(files)]
    keys = [np.zeros(0, np.uint64), *(read_taken_down(path) for path in paths if exists(path))]
    return np.unique(np.concatenate(keys))


def read_taken_down(path: str) -> UInt64s:
    """The keys in a dataset's `taken_down.u64`: uint64[n].

    Raises:
      UsageError: it is not a file, or has not 8 bytes for each.
    """
    if is_local(path) and not os.path.isfile(path):  # a device may never end
        raise UsageError(f"{path} is not a file, and pairs that were removed would come back")
    with open_to_read(path) as source:
        body = source.read()
    if len(body) % 8:
        raise UsageError(
            f"{path} has {len(body):,} bytes, and 8 for each key of a pair that was taken down: it "
            "is cut short; restore it, or pairs that were removed would come back"
        )
    return np.frombuffer(body, "<u8").astype(np.uint64)


def set_of(path: str, sets: Sequence[EarlierSet]) -> EarlierSet | None:
    """The dataset of ours that a file belongs to."""
    for earlier in sets:  # the set "." has files such as shards/00000.tar
        if f"./{path}".startswith(f"{earlier.folder}/") or path.startswith(f"{earlier.folder}/"):
            return earlier
    return None


def mark_splits_of_sets(splits: Iterable[Split], sets: Sequence[EarlierSet]) -> list[Split]:
    """Marks the splits that belong to datasets of ours, by `of_set`."""
    return [replace(split, of_set=set_of(split.path, sets) is not None) for split in splits]


def leave_out_other_files(pattern: str, files: list[InputFile], job: Job) -> list[InputFile]:
    """Files that a folder or glob names, without files of datasets in it that are not their pairs:
    rejects, held-out pairs, history. Files that a pattern names within a dataset stay."""
    sets = [
        earlier for earlier in earlier_sets(files) if not pattern.startswith(f"{earlier.folder}/")
    ]
    if not sets:
        return files
    folders = tuple(f"{folder}/" for earlier in sets for folder in earlier.pair_folders(job))
    within = tuple(f"{earlier.folder}/" for earlier in sets)
    return [
        file for file in files if file.path.startswith(folders) or not file.path.startswith(within)
    ]
