"""Files of a dataset's folder, or of a run that is under way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Funnel, Manifest
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.storage.documents import DocumentError, read_document, readable_document
from alignset.transforms.storage.files import carry_file, exists, is_local, match, remove


@dataclass(frozen=True)
class SetFiles:
    """The files of a dataset's finished shards, or of its kept texts, and of its dropped pairs.

    Attributes:
      kept_files: paths of the sidecars, or of `pairs/`.
      rejected_files: paths of `rejected/`.
      tars: the paths of the tars, without `.tar`.
      funnel: None where the run has not ended, or another version wrote it.
      evaluation: the files of evaluation images that a user names. A manifest may be anybody's, and
        its paths are not followed.
      of: how many shards there are, of a folder of another tool; else 0.
    """

    out: str
    kept_files: list[str]
    rejected_files: list[str]
    tars: frozenset[str]
    funnel: Funnel | None
    catalogue: Catalogue = PRODUCT
    evaluation: Sequence[EvaluationFile] = ()
    of: int = 0

    @property
    def is_foreign(self) -> bool:
        return self.of > 0

    @property
    def is_of_shards(self) -> bool:
        return bool(self.kept_files) and Path(self.kept_files[0]).parent.name != "pairs"

    def rejected_for(self, reason: str) -> list[str]:
        """Those of `rejected/` that may hold a reason: of texts, of images, or any."""
        of_images = self.catalogue.image_steps
        planes = {
            "text-": self.catalogue.text_steps,
            "images-": of_images,
            "holdout-": of_images,
        }
        starts = tuple(
            start
            for start, steps in planes.items()
            if any(reason in reasons for reasons in steps.values())
        )
        if not starts:
            return self.rejected_files
        others = tuple(planes.keys() - set(starts))
        return [path for path in self.rejected_files if not Path(path).name.startswith(others)]


def read_set(out: str) -> tuple[Manifest, Funnel]:
    """The documents of a finished dataset.

    Raises:
      UsageError: it is none.
    """
    if not exists(f"{out}/manifest.json"):
        raise UsageError(
            f"{out} holds no finished dataset: pass the --output of a run that has ended"
        )
    try:
        manifest = read_document(f"{out}/manifest.json", Manifest)
        funnel = read_document(f"{out}/funnel.json", Funnel)
        return manifest.completed_by(funnel), funnel
    except FileNotFoundError as error:
        raise UsageError(f"{out}/funnel.json is missing: bring it back") from error
    except DocumentError as error:
        raise UsageError(
            f"{out} holds a dataset of another version of alignset: {error}; alignset curate "
            f"--input={out} --output=NEW makes one of this version of it, without fetching"
        ) from error


def rename_answers(out: str) -> None:
    """Renames the files of `answers/`, as version 0.1 named `responses/`: what leaves a dataset
    leaves them too."""
    for path, _ in match(f"{out}/answers"):
        name, ending, _ = path.rpartition("/")[2].rpartition("_answers.parquet")
        if ending:
            carry_file(path, f"{out}/responses/{name}_responses.parquet")
            remove(path)
    if is_local(out):
        with suppress(OSError):  # not there, or it holds something else
            Path(out, "answers").rmdir()


def find_set(out: str, most: int = 0) -> SetFiles:
    """The files of a dataset, or of the one that another tool's folder is read into.

    Args:
      most: shards that are read of a folder of another tool; 0: all.

    Raises:
      UsageError: there is no such folder, it belongs to no dataset, or none of its shards is read.
    """
    if files := find_own_set(out):
        return files
    from alignset.pipeline.datasets.folders import read_folder  # which decodes images

    out = out.rstrip("/") or out
    if folder := read_folder(out, most):
        own_files = find_own_set(folder.place)
        if own_files is None:
            why = " ".join(folder.notes[1:4])
            raise UsageError(f"{out} has no sample that can be read; pass another folder. {why}")
        return replace(own_files, out=out, of=folder.of, catalogue=folder.catalogue)
    raise no_set(out)


def no_set(out: str) -> UsageError:
    """The error for a folder that is not a dataset of ours."""
    from alignset.pipeline.datasets.folder_samples import folder_shards  # with all readers

    if folder_shards(out):
        return UsageError(
            f"{out} was made by another tool: alignset curate --input={out} makes a dataset of it, "
            "without fetching"
        )
    return UsageError(
        f"{out!r} is not a dataset, or its run has written nothing yet: it has no files in "
        "shards/, pairs/ or rejected/; pass the --output of a run, or a folder of shards"
    )


def find_own_set(out: str) -> SetFiles | None:
    """The files of a dataset of ours, or None. Shards count where their `_stats.json` is there,
    which comes last.

    Raises:
      UsageError: there is no such folder.
    """
    out = out.rstrip("/") or out
    if is_local(out) and not Path(out).is_dir():
        raise UsageError(f"there is no folder {out!r}: pass the --output of a run")
    shards, pairs, rejects = (match(f"{out}/{name}") for name in ("shards", "pairs", "rejected"))
    shards = [*shards, *match(f"{out}/holdout")]
    if not shards and not pairs and not rejects:
        return None
    finished_stems = {
        path.removesuffix("_stats.json") for path, _ in shards if path.endswith("_stats.json")
    }
    tables = [path for path, _ in shards if path.endswith(".parquet")]
    kept_files = [path for path in tables if path.removesuffix(".parquet") in finished_stems]
    kept_files = kept_files or [path for path, _ in pairs if path.endswith(".parquet")]
    manifest = readable_document(f"{out}/manifest.json", Manifest)
    return SetFiles(
        out,
        in_order(kept_files),
        in_order(
            path
            for path, _ in rejects
            if path.endswith(".parquet") and _shard_of(out, path) in finished_stems | {""}
        ),
        frozenset(
            path.rpartition(".")[0] for path, _ in shards if path.endswith((".tar", ".places"))
        ),
        readable_document(f"{out}/funnel.json", Funnel),
        manifest.catalogue if manifest else PRODUCT,
    )


def in_order(paths: Iterable[str]) -> list[str]:
    """Files in the order of the hashes of their names, which is the same wherever the dataset
    lies."""
    return sorted(paths, key=lambda path: hashlib.sha256(Path(path).name.encode()).digest())


def _shard_of(out: str, path: str) -> str:
    """The path, without its ending, of the shard whose rejects a file has; empty for texts'."""
    kind, _, number = Path(path).stem.partition("-")
    folder = {"images": "shards", "holdout": "holdout"}.get(kind, "")
    return f"{out}/{folder}/{number}" if folder else ""
