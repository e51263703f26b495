"""The image stage: one shard is one element, which a worker builds and publishes."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from alignset.transforms.arrivals.shard_settings import ShardSettings
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from alignset.transforms.fetching.fetcher import connections_open
from alignset.transforms.shards.build_shard import build_shard, places_of
from alignset.transforms.shards.plan_shards import plan_path
from alignset.transforms.shards.shard_places import ShardPlaces, shard_name
from alignset.transforms.shards.shard_progress import ShardCount, shards_there
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.shards.shards_under_way import Beginning, ShardsUnderWay
from alignset.transforms.storage.documents import read_document
from alignset.transforms.storage.files import exists
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.workers.attempts import Attempt, PublishedError, attempts_at

LOG = logging.getLogger("alignset.shards")
POLL_S = 1.0
PATIENCE_S = 30.0  # a shard with one silent host takes no less


class ShardWriter:
    """Builds shards and publishes them, each once over all workers.

    Args:
      plan: the folder in which `PlanShards` listed the pairs of each shard.
      attempts: the folder of all attempts at shards, beside it.
      out: the output folder.
      settings: how images are fetched, judged and stored.
    """

    def __init__(self, plan: str, attempts: str, out: str, settings: ShardSettings) -> None:
        self.plan, self.attempts, self.out, self.settings = plan, attempts, out, settings
        self.places = ShardPlaces(out)
        self.evaluation: EvaluationIndex | None = None  # of a bundle
        self.slowest_s = 0.0

    def is_finished(self, shard: int) -> bool:
        """Whether a shard is whole: its stats are written last."""
        return exists(self.places.stats(shard))

    def under_way(self, shard: int) -> tuple[str, ...]:
        """The attempts at a shard that run, or died since the command started."""
        found = attempts_at(self.attempts, f"{shard:05d}")
        return tuple(sorted(name for name, size in found.items() if size is None))

    def stats_of(self, shard: int) -> ShardStats:
        """The stats of a finished shard."""
        return read_document(self.places.stats(shard), ShardStats)

    def write(self, shard: int, beginning: Beginning) -> ShardStats:
        """Builds a shard and publishes it, unless another attempt is faster; gives the stats of
        what is published.

        Args:
          beginning: told of how far it is begun.
        """
        start_s, is_published = time.monotonic(), partial(self.is_finished, shard)
        places = places_of(shard, self.out, self.settings)
        try:
            with Attempt(self.attempts, f"{shard:05d}", places) as attempt:
                pairs = read_rows(plan_path(self.plan, shard))  # gone where the run has ended
                beginning.pairs = len(pairs)
                count = ShardCount(
                    attempt.folder, shard, len(pairs), is_published, connections_open
                )
                where = self.evaluation, attempt.folder
                how = self.settings, *where, count, beginning.nearly_taken
                stats = build_shard(shard, pairs, *how, is_suspect=attempt.is_suspect)
                attempt.publish(stats.encode())
        except PublishedError:
            return self.stats_of(shard)
        finally:  # in vain, too
            self.slowest_s = max(self.slowest_s, time.monotonic() - start_s)
        LOG.info("shard %s: kept %d of %d", shard_name(shard), stats.successes, stats.count)
        return replace(stats, connections=count.most, limited_by=connections_open()[1])


def take_over(
    shards: Iterable[int],
    writer: ShardWriter,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns when all are written: by this worker what nobody has begun, in any order, and then
    what attempts elsewhere have taken half as long again for as this worker ever took.

    Flink gives all shards out at the start, so a worker that is slow would hold its part to the end
    (docs/scale.md). With each attempt at a shard, the next waits twice as long.

    Source: backup tasks, Dean and Ghemawat (2004), section 3.6.
    """
    waiting = set(shards)
    first_seen: dict[tuple[int, tuple[str, ...]], float] = {}
    while waiting:
        for shard in random.sample(sorted(waiting), len(waiting)):
            if writer.is_finished(shard):
                waiting.discard(shard)
                continue
            attempts, now = writer.under_way(shard), clock()
            waited_s = now - first_seen.setdefault((shard, attempts), now)
            patience_s = max(PATIENCE_S, 1.5 * writer.slowest_s)
            if not attempts or waited_s >= patience_s * 2 ** (len(attempts) - 1):
                LOG.info("shard %s: taken over", shard_name(shard))
                writer.write(shard, Beginning())
        if waiting:
            sleep(POLL_S)


class ShardDoFn(beam.DoFn):
    """A shard a call, which is begun, and told of when it is written: in a later call or when the
    bundle ends. So a worker has several under way, each on a thread of its own.

    A finished shard stays as it is. Shards that another worker holds are reported when the bundle
    ends, and taken over then where all shards are assigned at the start (`given_out`)."""

    def __init__(self, writer: ShardWriter) -> None:
        self.writer = writer

    def start_bundle(self) -> None:
        self.teardown()  # of a bundle that failed, where the runner left that out
        self.under_way = ShardsUnderWay(self.writer.write)
        self.elsewhere: list[int] = []
        self.given_out: Sequence[int] = ()

    def process(
        self, shard: int, evaluation: str, given_out: Sequence[int] = ()
    ) -> Iterator[ShardStats]:
        writer, self.given_out = self.writer, given_out
        writer.evaluation = open_index(evaluation)
        if writer.is_finished(shard):
            yield writer.stats_of(shard)
            return
        yield from self.under_way.until_room()
        if given_out and writer.under_way(shard):
            self.elsewhere.append(shard)
        else:
            self.under_way.begin(shard)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from map(GlobalWindows.windowed_value, self.under_way.finish())
        if self.given_out:
            take_over({*self.given_out} - shards_there(self.writer.out).keys(), self.writer)
        for shard in self.elsewhere:
            yield GlobalWindows.windowed_value(self.writer.stats_of(shard))

    def teardown(self) -> None:
        if hasattr(self, "under_way"):
            self.under_way.stop()
