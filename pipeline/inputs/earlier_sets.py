"""Datasets of ours that are read as input.

A dataset with ledgers (`images/`), or without images, is read as its rows, kept and dropped. Any
other is read as its kept pairs, by their tars.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.splits import ROWS, InputFile
from alignset.pipeline.settings import ABOUT, Job
from alignset.transforms.columns.pair_columns import LEDGERS
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.storage.documents import add_by_name, readable_document
from alignset.transforms.storage.files import exists, is_local, match, open_to_read

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
class SetManifest:
    """The part of a manifest that says where the pairs are, and how words of its vocabulary are
    hashed, in any version."""

    job: _SetJob
    rules: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    fetch: dict[str, Any] = field(default_factory=dict)
    shards: dict[str, Any] | None = None
    holdout: dict[str, Any] | None = None


@dataclass(frozen=True)
class _SetStep:
    dropped: dict[str, int]
    step: str = ""
    seen: int = 0


@dataclass(frozen=True)
class _SetFunnel:
    """The part of a funnel that says how many pairs were dropped, in any version."""

    steps: list[_SetStep]


@dataclass(frozen=True, order=True)
class EarlierSet:
    """A finished dataset.

    Attributes:
      folder: its output folder. text_only, holdout: as its command had them.
      columns: those that came from its own input.
      about: title, description, license and contact, as far as they are given: pairs of name and
        text.
      has_rows: whether it is read as its rows.
    """

    folder: str
    text_only: bool
    holdout: float
    columns: tuple[str, ...] = ()
    about: tuple[tuple[str, str], ...] = ()
    has_rows: bool = False

    def pair_folders(self, job: Job) -> list[str]:
        """Where its pairs are. Held-out pairs are read only by a run that holds out, too."""
        if self.text_only:
            return [f"{self.folder}/pairs"]
        held_out = [f"{self.folder}/holdout"] if self.holdout and job.holdout else []
        return [f"{self.folder}/shards", *held_out]

    def _steps(self) -> list[_SetStep]:
        funnel = readable_document(f"{self.folder}/funnel.json", _SetFunnel)
        return funnel.steps if funnel else []

    def dropped(self) -> dict[str, int]:
        """How many pairs were dropped for each reason, as its funnel says."""
        counts = add_by_name(step.dropped for step in self._steps())
        return {name: n for name, n in counts.items() if name.isprintable()}  # anybody's

    @property
    def held_share(self) -> float:
        """The share of its images that is held out, or a little more: where `holdout` is a number
        of pairs, as its funnel says.

        Raises:
          UsageError: it has no such funnel.
        """
        if self.holdout < 1:
            return max(0.0, self.holdout)
        for step in self._steps():
            if step.step == "fetch":  # dropped texts that were taken down since count as kept there
                pairs = step.seen - self.dropped().get(TAKEN_DOWN, 0)
                return min(1.0, self.holdout / max(1, pairs))
        raise UsageError(f"{self.folder}/funnel.json is missing, or is not one")

    def rows(self, job: Job, *, kept_only: bool) -> list[InputFile]:
        """The files of its rows.

        Args:
          kept_only: whether those that were dropped are left out.

        Raises:
          UsageError: pairs that it holds out would be trained on.
        """
        folders = self.pair_folders(job)
        if not kept_only:
            self._check_holdout(job)
            folders.append(f"{self.folder}/rejected")
        files = [file for folder in folders for file in match(folder)]
        return [InputFile(path, size, ROWS) for path, size in files if path.endswith(".parquet")]

    def _check_holdout(self, job: Job) -> None:
        share = self.held_share
        if share and job.text_only:
            raise UsageError(
                f"{self.folder} holds out images, which --text_only does not: leave it out, or "
                f"pass {self.folder}/shards, its pairs to train on"
            )
        if share and (job.holdout >= 1 or round(job.holdout * 2**32) < round(share * 2**32)):
            raise UsageError(
                f"{self.folder} holds out images, and its rows would bring pairs of these to "
                f"shards/: pass --holdout={share}, or a larger share"
            )


def earlier_set(folder: str) -> EarlierSet | None:
    """The set of ours that a folder is; None of anything else."""
    folder = folder.rstrip("/")
    if folder.startswith(("http://", "https://")):  # where no folder can be listed
        return None
    if any(c in folder for c in "*?["):
        return None
    manifest = readable_document(f"{folder}/manifest.json", SetManifest)
    if manifest is None:
        return None
    job = manifest.job
    given = {name: manifest.about.get(name) for name in ABOUT}
    given["contact"] = manifest.fetch.get("contact")
    about = [
        (name, text)
        for name, text in given.items()  # which anybody may have written
        if isinstance(text, str) and text.isprintable() and 0 < len(text) <= _LONGEST_ABOUT
    ]
    is_empty = manifest.shards == {} and not manifest.holdout  # not even images to know of
    has_rows = job.text_only or is_empty or bool(match(f"{folder}/{LEDGERS}"))
    columns = tuple(manifest.columns)
    return EarlierSet(folder, job.text_only, job.holdout, columns, tuple(about), has_rows)


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


def removed_before(folders: Iterable[str]) -> UInt64s:
    """The keys of the pairs that were taken down from datasets, whatever version made these:
    uint64[n], ascending.

    Raises:
      UsageError: a list of keys is not one.
    """
    paths = [f"{root}/{TAKEN_DOWN_KEYS}" for root in sorted(folders)]
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
