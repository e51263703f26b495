"""The images of a shard that was under way when a worker died, each built in a process of its own
before the worker decodes it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from threading import Event

import pyarrow as pa

from alignset.transforms.decontamination.evaluation_index import open_index
from alignset.transforms.fetching.fetch import Fetched
from alignset.transforms.images.examine import CRASHED_DECODER
from alignset.transforms.shards.build_shard import build_shard
from alignset.transforms.shards.shard_settings import ShardSettings
from alignset.transforms.workers.trial_process import TrialProcess, trial_process

LOG = logging.getLogger("alignset")
# Tried together: a trial takes some ms beside the images', and one that ends its process a start of
# 3 s for each halving.
IMAGES_AT_ONCE, BYTES_AT_ONCE = 32, 1 << 24


@contextmanager
def suspecting(settings: ShardSettings, index: str) -> Iterator[ShardSettings]:
    """The settings by which a shard is built whose images are tried first.

    Args:
      index: the place of the index of evaluation images, or "".
    """
    work = partial(build_alone, settings=settings, index=index)
    with trial_process(work) as trial:
        yield replace(settings, screen=partial(tried, trial=trial))


def tried(bodies: Iterable[Fetched], urls: Sequence[str], trial: TrialProcess) -> Iterator[Fetched]:
    """The same images, with the detail CRASHED_DECODER where one ended the trial process.

    Args:
      urls: of the images, by their index.
    """
    group: list[Fetched] = []
    size = 0
    for arrival in bodies:
        if arrival.body is None:
            yield arrival
            continue
        group.append(arrival)
        size += len(arrival.body)
        if len(group) == IMAGES_AT_ONCE or size > BYTES_AT_ONCE:
            yield from _tried(group, urls, trial)
            group, size = [], 0
    if group:
        yield from _tried(group, urls, trial)


def _tried(group: list[Fetched], urls: Sequence[str], trial: TrialProcess) -> Iterator[Fetched]:
    lethal = trial.lethal([arrival.body or b"" for arrival in group])
    for at, arrival in enumerate(group):
        if at in lethal:
            LOG.warning("a decoder crashes at %s: please report it", urls[arrival.index])
            arrival = replace(arrival, detail=CRASHED_DECODER)
        yield arrival


def build_alone(bodies: Sequence[bytes], settings: ShardSettings, index: str) -> None:
    """Builds a shard of some images, as any shard is built, and leaves nothing of it."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "images"
        file.write_bytes(b"".join(bodies))
        sizes = [len(body) for body in bodies]
        pairs = {
            "key": pa.array(range(len(bodies)), pa.uint64()),
            "url": [f"http://trial.invalid/{row}" for row in range(len(bodies))],
            "caption": ["" for _ in bodies],
            "page_url": pa.nulls(len(bodies), pa.string()),
            "source_path": [str(file) for _ in bodies],
            "source_at": pa.array(accumulate(sizes, initial=0), pa.int64())[:-1],
            "source_size": pa.array(sizes, pa.int64()),
        }
        build_shard(
            0,
            pa.table(pairs),
            settings,
            open_index(index),
            Path(name),
            lambda _: None,
            Event(),
        )
