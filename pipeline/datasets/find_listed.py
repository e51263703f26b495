"""Pairs of a dataset on a list: one pass over its sidecars, and one over what it dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from alignset.pipeline.datasets.history import FOLDER as HISTORY
from alignset.pipeline.datasets.steps_set import read_any_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import OF_SETS
from alignset.pipeline.runs.documents import Manifest
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.shards.listed_pairs import LISTED, Removal, listed_in_shard, listed_texts
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.files import is_local, match
from alignset.transforms.storage.parquet_files import batches_of

FEW = 10  # pairs; a dataset of fewer is a trial
THREADS = 4  # a store answers slowly, and kernels leave the interpreter's lock
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass
class Listed:
    """Pairs of a dataset on a list.

    Attributes:
      rows: LISTED, the pairs that it holds.
      shards: how many pairs each shard holds that are on a list, by its number. texts: the same of
        files of `pairs/`.
      rejected_rows: how many rows of each file of `rejected/` name what is on a list, by its path.
    """

    rows: pa.Table
    shards: dict[int, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    rejected_rows: dict[str, int] = field(default_factory=dict)

    @property
    def details(self) -> dict[str, int]:
        """How many of the pairs are on each list, by which kind of entry."""
        return dict(sorted(Counter(self.rows["detail"].to_pylist()).items()))


def find_listed(out: str, manifest: Manifest, lists: Blocklists, *, history: bool) -> Listed:
    """Looks through a finished dataset; changes nothing.

    Args:
      history: whether what earlier datasets dropped is looked through, too, and what a takedown
        with lists of these names left in `rejected/`.

    Raises:
      UsageError: a file is a link, whose target would keep what leaves.
    """
    if is_local(out):
        _refuse_links(out)
    texts = [path for path, _ in match(f"{out}/pairs")] if manifest.job["text_only"] else []
    original = manifest.resize["resize_mode"] == "original"
    return find_in_shards(
        out, manifest.holding, lists, original=original, texts=texts, history=history
    )


def _refuse_links(out: str) -> None:
    for name in (*OF_SETS, "responses", HISTORY):
        folder = Path(out, name)
        linked = [path for path in folder.rglob("*") if path.is_symlink()]
        if folder.is_symlink() and name not in ("shards", "holdout"):  # whose files are named
            linked = [folder]
        if linked:
            raise UsageError(
                f"{min(linked)} is a link, and what it leads to would keep the pairs: put the file "
                "there; nothing was changed"
            )


def find_in_shards(
    out: str,
    holding: Sequence[int],
    lists: Blocklists,
    *,
    original: bool,
    texts: Sequence[str] = (),
    history: bool = False,
) -> Listed:
    """Looks through the shards that hold something, some files of `pairs/`, and `rejected/`.

    Args:
      original: whether images are stored as they were fetched.
    """
    places = ShardPlaces(out)

    def of_shard(shard: int) -> pa.RecordBatch:
        return listed_in_shard(places.tar(shard).removesuffix(".tar"), lists, original=original)

    def of_texts(path: str) -> pa.RecordBatch:
        parts = [listed_texts(pa.Table.from_batches([batch]), lists) for batch in batches_of(path)]
        return pa.Table.from_batches(parts, LISTED).combine_chunks()

    of_shards = dict(zip(holding, in_order(of_shard, holding), strict=True))
    of_files = dict(zip(texts, in_order(of_texts, texts), strict=True))
    tables = [
        rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
        for rows in (*of_shards.values(), *of_files.values())
    ]
    matches = Listed(pa.concat_tables([LISTED.empty_table(), *tables]).combine_chunks())
    matches.shards = {shard: len(rows) for shard, rows in of_shards.items() if len(rows)}
    matches.texts = {path: len(rows) for path, rows in of_files.items() if len(rows)}
    matches.rejected_rows = _count_rejected(
        _rejected_files(out, history=history), Removal(matches.rows, lists, history)
    )
    return matches


def _rejected_files(out: str, *, history: bool) -> list[str]:
    of_history = [path for path, _ in match(f"{out}/history") if "/rejected/" in path]
    of_history = of_history if history else []
    return [path for path, _ in match(f"{out}/rejected")] + of_history


def _count_rejected(paths: list[str], removal: Removal) -> dict[str, int]:
    def count(path: str) -> int:
        rows = (removal.details_of_dropped(batch) for batch in batches_of(path))
        return sum(len(details) - details.null_count for details in rows)

    counts = zip(paths, in_order(count, paths), strict=True)
    return {path: rows for path, rows in counts if rows}


def in_order(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Maps in a few threads; raises what one of them did."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(work, items)


@dataclass(frozen=True)
class Outcome:
    """Pairs that a takedown has removed, or would remove.

    Attributes:
      details: how many pairs are on each list, by which kind of entry.
      pairs: how many the dataset held.
      rejected_rows: how many rows of what it dropped name such pairs.
      shards: how many shards hold some, of so many `of`.
      rewritten: how many files of dropped pairs are written anew, beside the shards' files.
      most: whether these are more than half of the dataset, so that --yes is needed.
    """

    details: dict[str, int]
    pairs: int
    rejected_rows: int
    shards: int
    of: int
    rewritten: int
    most: bool = False


def dry_run(out: str, lists: Blocklists, *, forget: bool, **_other: object) -> Outcome:
    """Pairs that a takedown would remove; nothing is written."""
    manifest, _ = read_any_set(out)
    matches = find_listed(out, manifest, lists, history=forget)
    return outcome_of(matches, manifest, plan_of(out, matches)[1])


def rejected_of_texts(out: str, pairs: str) -> str:
    """The file of the pairs that the text rules dropped, beside a file of `pairs/`."""
    return f"{out}/rejected/text-{Path(pairs).name}"


def plan_of(out: str, matches: Listed) -> tuple[list[int], list[str]]:
    """The shards and the other files that are written anew: files below the output."""
    places, shards = ShardPlaces(out), set(matches.shards)
    files = set(matches.texts)
    of_texts = {rejected_of_texts(out, path) for path in matches.texts}
    for path in set(matches.rejected_rows) - of_texts:
        kind, _, number = Path(path).stem.partition("-")
        first = {"images": 0, "holdout": HOLDOUT}.get(kind)
        shard = None if first is None or not number.isdigit() else first + int(number)
        if shard is not None and places.rejected(shard) == path:
            shards.add(shard)
        else:
            files.add(path)
    return sorted(shards), sorted(path.removeprefix(f"{out}/") for path in files)


def outcome_of(matches: Listed, manifest: Manifest, files: list[str]) -> Outcome:
    """Sums up what is found in a dataset.

    Args:
      files: files of dropped pairs that are written anew.
    """
    return Outcome(
        matches.details,
        len(matches.rows),
        sum(matches.rejected_rows.values()),
        len(matches.shards),
        len(manifest.holding),
        len(files),
        are_most(matches, manifest),
    )


def are_most(matches: Listed, manifest: Manifest) -> bool:
    """Whether more than half of a dataset is on a list, perhaps by mistake."""
    return 2 * len(matches.rows) > manifest.pairs >= FEW
