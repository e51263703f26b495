"""Files of a dataset's folder, or of a run that is under way; and of a dataset that `FilterTexts`
and `FetchImages` wrote, which has all files of a run's but the closing documents.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Funnel, Manifest, ShardEntry
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces, shard_name, shards_there
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.documents import (
    DocumentError,
    find_document,
    read_document,
    readable_document,
)
from alignset.transforms.storage.files import exists, is_local, match

if TYPE_CHECKING:
    import pyarrow as pa

    from alignset.pipeline.datasets.folders import Folder


@dataclass(frozen=True)
class SetFiles:
    """The files of a dataset's finished shards, or of its kept texts, and of its dropped pairs.

    Attributes:
      kept_files: paths of the sidecars, or of `pairs/`.
      rejected_files: paths of `rejected/`.
      funnel: None where the run has not ended, or another version wrote it.
      folder: of another tool. Its files are its shards; its own catalogue is read with them.
    """

    out: str
    kept_files: list[str]
    rejected_files: list[str]
    funnel: Funnel | None = None
    catalogue: Catalogue = PRODUCT
    folder: Folder | None = None

    @property
    def is_of_shards(self) -> bool:
        is_of_texts = self.kept_files and Path(self.kept_files[0]).parent.name == "pairs"
        return bool(self.folder or (self.kept_files and not is_of_texts))

    def rejected_for(self, reason: str) -> list[str]:
        """The files of `rejected/` that may hold a reason: of texts, of images, or any."""
        stages = self.catalogue.text_steps, self.catalogue.image_steps
        gives = [any(reason in reasons for reasons in steps.values()) for steps in stages]
        if self.folder or not any(gives):
            return self.rejected_files
        files = self.rejected_files
        return [path for path in files if gives[not Path(path).name.startswith("text-")]]

    @property
    def read(self) -> Callable[..., Iterator[pa.RecordBatch]]:
        """What reads columns of one of the files: `read_columns`, or its like."""
        from alignset.transforms.storage.parquet_files import read_columns  # not to list files

        return self.folder.read if self.folder else read_columns

    def images(self, path: str, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Reads the image files of some pairs in one of `kept_files`, by their keys; what is not
        there is left out."""
        from alignset.pipeline.datasets.stored_images import images_in  # with decoders

        if self.folder:
            yield from self.folder.images(path, keys)
        elif self.is_of_shards and exists(tar := f"{path.removesuffix('.parquet')}.tar"):
            yield from images_in(tar, keys)


def read_set(out: str) -> tuple[Manifest, Funnel | None]:
    """The documents of a finished dataset; no funnel where all that it says is in other files.

    Raises:
      UsageError: it is none.
    """
    if not exists(f"{out}/manifest.json"):
        raise UsageError(
            f"{out} holds no finished dataset: pass the --output of a run that has ended"
        )
    try:
        manifest = read_document(f"{out}/manifest.json", Manifest)
        funnel = find_document(f"{out}/funnel.json", Funnel)
    except DocumentError as error:
        raise UsageError(
            f"{out} holds a dataset of another version of alignset: {error}; alignset curate "
            f"--input={out} --output=NEW makes one of this version of it, without fetching"
        ) from error
    if funnel:
        return manifest.completed_by(funnel), funnel
    there = {path for path, _ in match(f"{out}/rejected")}
    rejects = {ShardPlaces(out).rejected(shard) for shard in manifest.numbers}
    has_texts = any(path.startswith(f"{out}/rejected/text-") for path in there)
    if manifest.rows is UNSET or not (has_texts and rejects <= there):
        raise UsageError(f"{out}/funnel.json is missing: bring it back; nothing was changed")
    return manifest, None


def find_set(out: str) -> SetFiles:
    """The files of a dataset, or of a folder of another tool.

    Raises:
      UsageError: there is no such folder, or it belongs to no dataset.
    """
    if files := find_own_set(out):
        return files
    from alignset.pipeline.datasets.folders import REJECTED, find_folder  # with all readers

    out = out.rstrip("/") or out
    if folder := find_folder(out):
        shards = sort_by_hash(folder.sidecars)
        return SetFiles(out, shards, [f"{shard}{REJECTED}" for shard in shards], folder=folder)
    raise no_set(out)


def no_set(out: str) -> UsageError:
    """The error for a folder that is not a dataset of ours, of a command that needs one."""
    from alignset.pipeline.datasets.folders import find_folder

    if folder := find_folder(out):
        in_tars = any(shard.endswith(".tar") for shard in folder.sidecars)
        more = "" if in_tars else "; its images are not in tars, and are fetched again"
        return UsageError(
            f"{out} was made by another tool: alignset curate --input={out} --output=NEW "
            "--blocklist=LIST --duplicates=near --score_only makes a dataset of it, with either "
            f"flag or both{more}"
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
    ended = [path for path, _ in shards if path.endswith("_stats.json")]
    finished_stems = {path.removesuffix("_stats.json") for path in ended}
    tables = [path for path, _ in shards if path.endswith(".parquet")]
    kept_files = [path for path in tables if path.removesuffix(".parquet") in finished_stems]
    kept_files = kept_files or [path for path, _ in pairs if path.endswith(".parquet")]
    rejected_files = [path for path, _ in rejects if path.endswith(".parquet")]
    manifest = readable_document(f"{out}/manifest.json", Manifest)
    return SetFiles(
        out,
        sort_by_hash(kept_files),
        sort_by_hash(of for of in rejected_files if _shard_of(out, of) in finished_stems | {""}),
        readable_document(f"{out}/funnel.json", Funnel),
        manifest.catalogue if manifest else PRODUCT,
    )


def sort_by_hash(paths: Iterable[str]) -> list[str]:
    """Files in the order of the hashes of their names, which is the same wherever the dataset
    lies."""
    return sorted(paths, key=lambda path: hashlib.sha256(Path(path).name.encode()).digest())


def _shard_of(out: str, path: str) -> str | None:
    """The path, without its ending, of the shard whose rejects a file has; empty for texts', None
    of a file that no run has written."""
    kind, _, number = Path(path).stem.partition("-")
    folder = {"images": "shards", "holdout": "holdout", "text": ""}.get(kind)
    if folder is None or not number.isdecimal():
        return None
    return f"{out}/{folder}/{number}" if folder else ""


_THREADS = 16  # since a store answers slowly
_REJECTED = re.compile(r"(text|images|holdout)-[0-9]+\.parquet")
_WORK = re.compile(r"/_temporary/[0-9a-f]{12}/")


def read_any_set(out: str) -> Manifest:
    """The manifest of a finished dataset; where it has no documents, one of its shards.

    Raises:
      UsageError: it is none, or something is still writing it.
    """
    return manifest_of_steps(out) or read_set(out)[0]


def manifest_of_steps(out: str) -> Manifest | None:
    """The shards of a dataset that the steps wrote, as a manifest has them; None of other folders.

    Raises:
      UsageError: something is still writing it.
    """
    if exists(f"{out}/manifest.json"):
        return None
    rejected = [path for path, _ in match(f"{out}/rejected")]
    if not any(_REJECTED.fullmatch(path.rpartition("/")[2]) for path in rejected):
        return None
    try:
        training, held_out = shard_entries(out)
    except DocumentError:
        return None
    if exists(f"{out}/_temporary/run.json"):
        read_set(out)  # which raises
    if any(_WORK.search(path) for path, _ in match(f"{out}/_temporary")):
        raise UsageError(
            f"a pipeline is writing to {out}, or was stopped: once none is, remove {out}/_temporary"
        )
    if exists(f"{out}/funnel.json"):  # which a run writes, and whose counts would become wrong
        raise UsageError(f"{out}/manifest.json is missing: bring it back")
    return Manifest(
        job={"text_only": False},
        rules={},
        resize={"resize_mode": "original"},  # as far as anybody knows
        fetch={},
        input=[],
        evaluation=[],
        given_vocabulary=None,
        versions={},
        pairs=sum(of.pairs for of in (*training.values(), *held_out.values())),
        vocabulary=VocabularySummary(),
        evaluation_images={},
        shards=training,
        holdout=held_out,
    )


def shard_entries(out: str) -> tuple[dict[str, ShardEntry], dict[str, ShardEntry]]:
    """The finished shards to train on, and the held-out shards, by their numbers.

    Raises:
      DocumentError: a `_stats.json` is not as it was written.
    """
    sides: tuple[dict[str, ShardEntry], dict[str, ShardEntry]] = {}, {}
    places, numbers = ShardPlaces(out), sorted(shards_there(out))
    with ThreadPoolExecutor(_THREADS) as pool:
        all_stats = pool.map(lambda of: read_document(places.stats(of), ShardStats), numbers)
        for number, stats in zip(numbers, all_stats, strict=True):
            entry = ShardEntry(stats.successes, stats.sha256)
            sides[number >= HOLDOUT][shard_name(number)] = entry
    return sides
