"""A dataset that `FilterTexts` and `FetchImages` wrote: it has all files of a run's dataset but the
closing documents."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from alignset.pipeline.datasets.set_files import read_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Manifest, ShardEntry
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces, shard_name
from alignset.transforms.shards.shard_progress import shards_there
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import exists, match

_THREADS = 16  # since a store answers slowly
_REJECTED = re.compile(r"(text|images|holdout)-[0-9]+\.parquet")
_WORK = re.compile(r"/_temporary/[0-9a-f]{12}/")


def read_any_set(out: str) -> Manifest:
    """The manifest of a finished dataset; of one without documents, of its shards.

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
    """The finished shards to train on, and those that are held out, by their numbers.

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
