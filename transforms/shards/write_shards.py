"""The image stage: one shard is one element, which a worker builds and publishes."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from alignset.transforms.fetching.fetcher import connections_open
from alignset.transforms.shards.build_shard import (
    DESCRIPTORS,
    REJECTS,
    RESPONSES_FILE,
    SIDECAR,
    TAR,
    build_shard,
)
from alignset.transforms.shards.descriptors import descriptors_path
from alignset.transforms.shards.plan_shards import claim_path, plan_path
from alignset.transforms.shards.shard_places import ShardPlaces, shard_name
from alignset.transforms.shards.shard_progress import ShardCount, attempt_folder, finished_shards
from alignset.transforms.shards.shard_settings import ShardSettings
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.shards.shards_under_way import Beginning, ShardsUnderWay
from alignset.transforms.shards.suspect_images import suspecting
from alignset.transforms.storage.documents import read_document
from alignset.transforms.storage.files import exists, is_local, remove, write_atomically
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.workers.claims import Claim, ClaimLostError, Mark, current_mark
from alignset.transforms.workers.fencing import Fence

LOG = logging.getLogger("alignset.shards")
POLL_S = 1.0
PATIENCE_S = 30.0  # a shard with one silent host takes no less


class ShardWriter:
    """Builds shards and publishes them, each once over all workers.

    Args:
      plan: the folder in which `PlanShards` listed the pairs of each shard.
      out: the output folder.
      settings: how images are fetched, judged and stored.
      fence: of this start of the command.
    """

    def __init__(self, plan: str, out: str, settings: ShardSettings, fence: Fence) -> None:
        self.plan, self.out, self.settings, self.fence = plan, out, settings, fence
        self.places = ShardPlaces(out)
        self.evaluation: EvaluationIndex | None = None
        self.index = ""
        self.slowest_s = 0.0

    def open(self, index: str) -> None:
        """Opens the index of evaluation images at a place; "" where there is none."""
        self.index = index
        self.evaluation = open_index(index)

    def check(self) -> None:
        """Raises where this worker may no more write."""
        self.fence.check()

    def is_finished(self, shard: int) -> bool:
        """Whether a shard is whole: its stats are written last."""
        return exists(self.places.stats(shard))

    def newest_mark(self, shard: int) -> Mark | None:
        """The mark of the attempt that was begun last, None where there is none."""
        return current_mark(claim_path(self.plan, shard), self.fence.token)

    def attempt(self, shard: int) -> None:
        """Takes a shard over from another worker, unless that one is faster."""
        LOG.info("shard %s: taken over", shard_name(shard))
        with suppress(ClaimLostError):
            self.write(shard, Beginning())

    def stats_of(self, shard: int) -> ShardStats:
        """The stats of a finished shard."""
        return read_document(self.places.stats(shard), ShardStats)

    def write(self, shard: int, beginning: Beginning) -> ShardStats:
        """Builds a shard and publishes it; what another attempt has published by then stays.

        Args:
          beginning: told of how far it is begun.

        Raises:
          ClaimLostError: another attempt began later.
        """
        self.check()
        start_s, plan = time.monotonic(), plan_path(self.plan, shard)
        claim = Claim(claim_path(self.plan, shard), self.fence)
        try:
            return self._write(shard, plan, claim, beginning)
        finally:  # in vain, too
            self.slowest_s = max(self.slowest_s, time.monotonic() - start_s)

    def left_of(self, shards: Sequence[int]) -> set[int]:
        """Which of these are not finished."""
        return set(shards) - finished_shards(self.out, shards)

    def _write(self, shard: int, plan: str, claim: Claim, beginning: Beginning) -> ShardStats:
        pairs = read_rows(plan)
        beginning.pairs = len(pairs)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(attempt_folder(self.plan)))
            settings = self.settings
            if claim.mark.suspect:
                settings = suspecting(settings)
            token, nearly_taken = self.fence.token, beginning.nearly_taken
            count = ShardCount(folder, token, shard, len(pairs), load=connections_open)
            stats = build_shard(
                shard, pairs, settings, self.evaluation, folder, count, nearly_taken
            )
            # Another attempt may have been as far; the web may have given it other images, so the
            # files of two must not be mixed.
            with self.fence.publishing(plan):
                if self.is_finished(shard):
                    return self.stats_of(shard)
                self._publish(stats, folder, claim)
        return replace(stats, connections=count.most, limited_by=connections_open()[1])

    def _publish(self, stats: ShardStats, folder: Path, claim: Claim) -> None:
        shard, places = stats.number, self.places
        claim.publish(folder / REJECTS, places.rejected(shard))
        if stats.successes:
            claim.publish(folder / SIDECAR, places.sidecar(shard))
            claim.publish(folder / TAR, places.tar(shard))
        if (folder / RESPONSES_FILE).exists():
            claim.publish(folder / RESPONSES_FILE, places.responses(shard))
        if (folder / DESCRIPTORS).exists():
            path = descriptors_path(self.settings.descriptors, shard)
            claim.publish(folder / DESCRIPTORS, path)
        if not is_local(self.out):
            claim.check()
        if not stats.successes:  # a killed attempt may have been given images
            remove(places.sidecar(shard))
            remove(places.tar(shard))
            remove(places.responses(shard))
        write_atomically(places.stats(shard), lambda sink: sink.write(stats.encode()))
        LOG.info("shard %s: kept %d of %d", shard_name(shard), stats.successes, stats.count)


def take_over(
    shards: Iterable[int],
    writer: ShardWriter,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns when all are written: by this worker what nobody has begun, in any order, and then
    what an attempt elsewhere has taken half as long again for as this worker ever took.

    Flink gives all shards out at the start, so a worker that is slow would hold its part to the end
    (docs/scale.md). Each further attempt is given twice the time of the one before. In an object
    store the one that began last is to publish, so workers who know no better would else stop each
    other without end.

    Source: backup tasks, Dean and Ghemawat (2004), section 3.6.
    """
    waiting = set(shards)
    first_seen: dict[tuple[int, Mark | None], float] = {}
    while waiting:
        writer.check()
        for shard in random.sample(sorted(waiting), len(waiting)):
            if writer.is_finished(shard):
                waiting.discard(shard)
                continue
            mark, now = writer.newest_mark(shard), clock()
            waited_s = now - first_seen.setdefault((shard, mark), now)
            patience_s = max(PATIENCE_S, 1.5 * writer.slowest_s)
            if not mark or waited_s >= patience_s * 2 ** (mark.attempt - 1):
                writer.attempt(shard)
        if waiting:
            sleep(POLL_S)


class ShardDoFn(beam.DoFn):
    """A shard a call, which is begun, and told of when it is written: in a later call or when the
    bundle ends. So a worker has several under way, each on a thread of its own. Shards that another
    worker holds are reported when the bundle ends, and taken over then where all shards are
    assigned at the start."""

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
        writer.open(evaluation)
        if writer.is_finished(shard):
            yield writer.stats_of(shard)
            return
        yield from self.under_way.until_room()
        if given_out and writer.newest_mark(shard):
            self.elsewhere.append(shard)
        else:
            self.under_way.begin(shard)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from map(GlobalWindows.windowed_value, self.under_way.finish())
        lost_shards = self.under_way.lost_shards
        if lost_shards and not self.given_out:
            raise ClaimLostError(f"another worker has begun shard {lost_shards[0]}; left to it")
        if self.given_out:
            take_over(self.writer.left_of(self.given_out), self.writer)
        for shard in (*self.elsewhere, *lost_shards):
            yield GlobalWindows.windowed_value(self.writer.stats_of(shard))

    def teardown(self) -> None:
        if hasattr(self, "under_way"):
            self.under_way.stop()


@dataclass(eq=False)
class WriteShards(beam.PTransform):
    """Numbers of shards to their files, and to their `ShardStats`. A finished one stays as it is.

    Args:
      writer: what builds and publishes them.
      evaluation: a singleton, the place of the index of evaluation images, or "".
      given_out: all the shards, where the runner gives them out at the start: a worker that has
        written its own then takes over others'.
      min_ram: what to ask of a worker, "4GB", where the runner hears it; elsewhere such a hint
        only makes workers of a kind of their own.
    """

    writer: ShardWriter
    evaluation: beam.PCollection
    given_out: beam.PCollection | None = None
    min_ram: str = ""

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        views = [beam.pvalue.AsSingleton(self.evaluation)]
        if self.given_out is not None:
            views.append(beam.pvalue.AsList(self.given_out))
        write = beam.ParDo(ShardDoFn(self.writer), *views)
        if self.min_ram:
            write = write.with_resource_hints(min_ram=self.min_ram)
        return shards | write
