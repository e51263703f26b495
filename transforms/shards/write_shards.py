"""The image stage: one shard is one element, which a worker builds and publishes.

A worker has several shards at once, so that none of its connections idles while one ends. The next
begins when few of the URLs of those before are left to be taken: its URLs follow theirs, and they
end beside it.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event, Lock
from weakref import WeakSet

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from alignset.transforms.arrivals.image_settings import ImageSettings
from alignset.transforms.arrivals.known_images import KnownSet
from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from alignset.transforms.fetching.fetcher import connections_open
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.shards.build_shard import ASKED, build_shard, places_of
from alignset.transforms.shards.plan_shards import plan_path
from alignset.transforms.shards.shard_places import (
    ShardCount,
    ShardPlaces,
    shard_name,
    shards_there,
)
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.documents import read_document
from alignset.transforms.storage.files import exists
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.storage.shared_paths import check_command
from alignset.transforms.workers.attempts import Attempt, PublishedError, attempts_at
from alignset.transforms.workers.packages import CheckWorker
from alignset.transforms.workers.threads import Results, leave_stopped, stop_work

# A process has so many shards always, and more while these have few pairs: a shard of 1,000 pairs
# is taken in a second, and its last answer may come half a minute later.
FEW_SHARDS, MOST_SHARDS, MOST_PAIRS = 4, 24, 40_000
_LOOK_S = 0.02

_ALL: WeakSet[ShardsUnderWay] = WeakSet()  # of this process
_LOCK = Lock()


@dataclass(eq=False)
class Beginning:
    """State of a shard that was begun.

    Attributes:
      nearly_taken: set when the next may begin.
      pairs: how many it has; 0 before that is known.
    """

    nearly_taken: Event = field(default_factory=Event)
    pairs: int = 0


class ShardsUnderWay:
    """The shards that a bundle is at, each on a thread of its own. How many there may be is
    reckoned over all bundles of the process; each may have one.

    Args:
      write: writes a shard; on any thread.
    """

    def __init__(self, write: Callable[[int, Beginning], ShardStats]) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(MOST_SHARDS, thread_name_prefix="shard")
        self._running: dict[int, tuple[Beginning, Results[ShardStats]]] = {}
        self._is_stopped = False
        with _LOCK:
            _ALL.add(self)

    def begin(self, shard: int) -> None:
        """Begins a shard."""
        beginning = Beginning()
        results = Results(self._pool, lambda: [self._write(shard, beginning)])
        self._running[shard] = beginning, results

    @property
    def has_room(self) -> bool:
        """Whether another shard may begin."""
        running_here = self._not_done()
        if not running_here:
            return True
        with _LOCK:
            bundles = list(_ALL)
        running = [beginning for bundle in bundles for beginning in bundle._not_done()]
        pairs = sum(beginning.pairs for beginning in running)
        limit = MOST_SHARDS if pairs < MOST_PAIRS else FEW_SHARDS
        return len(running) < limit and running_here[-1].nearly_taken.is_set()

    def _not_done(self) -> list[Beginning]:
        running = list(self._running.values())  # another bundle's thread may look
        return [beginning for beginning, results in running if not results.done]

    def new_stats(self) -> Iterator[ShardStats]:
        """Yields the stats of shards that were written since the last call.

        Raises:
          Exception: what writing one of them raised.
          InterruptedError: they were stopped, on another thread: missing packages is not written.
        """
        for shard, (_, results) in list(self._running.items()):
            is_done = results.done
            if self._is_stopped:  # looked at after `is_done`: a stopped one may give no result
                leave_stopped()
            if is_done:
                del self._running[shard]
                yield from results

    def wait_for_room(self) -> Iterator[ShardStats]:
        """Waits until another may begin; yields the stats of shards that are written meanwhile."""
        while True:
            yield from self.new_stats()
            if self.has_room:
                return
            time.sleep(_LOOK_S)

    def finish(self) -> Iterator[ShardStats]:
        """Waits for all."""
        while self._running:
            yield from self.new_stats()
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Ends all that is under way, and waits for it."""
        self._is_stopped = True
        stop_work(results for _, results in self._running.values())
        self._pool.shutdown()


LOG = logging.getLogger("alignset.shards")
POLL_S = 1.0
PATIENCE_S = 30.0  # a shard with one silent host takes no less


class ShardWriter:
    """Builds shards and publishes them, each once over all workers.

    Args:
      plan: the folder in which `PlanShards` listed the pairs of each shard.
      attempts: the folder of all attempts at shards, beside it.
      descriptors: a folder for the descriptors of the images to train on.
      out: the output folder.
      unsafe_model: scores images, where there is one.
      known_sets: datasets whose images are not requested again.
    """

    def __init__(
        self,
        plan: str,
        attempts: str,
        descriptors: str,
        out: str,
        settings: ImageSettings,
        blocklists: Blocklists = NO_LISTS,
        unsafe_model: UnsafeModel | None = None,
        known_sets: Sequence[KnownSet] = (),
    ) -> None:
        self.plan, self.attempts, self.descriptors, self.out = plan, attempts, descriptors, out
        self.settings, self.blocklists, self.unsafe_model = settings, blocklists, unsafe_model
        self.known_sets, self.places = known_sets, ShardPlaces(out)
        self.evaluation: EvaluationIndex | None = None  # of a bundle
        self.slowest_s = 0.0

    def is_finished(self, shard: int) -> bool:
        """Whether a shard is whole: its stats are written last."""
        return exists(self.places.stats(shard))

    def running_attempts(self, shard: int) -> tuple[str, ...]:
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
        places = places_of(shard, self.out, self.settings, self.descriptors)
        if self.known_sets:
            places = {ASKED: f"{self.plan.rpartition('/')[0]}/asked/{shard:05d}.json"} | places
        try:
            with Attempt(self.attempts, f"{shard:05d}", places) as attempt:
                pairs = read_rows(plan_path(self.plan, shard))  # gone where the run has ended
                beginning.pairs = len(pairs)
                count = ShardCount(
                    attempt.folder, shard, len(pairs), is_published, connections_open
                )
                how = self.settings, self.blocklists, self.unsafe_model, self.known_sets
                told = count, beginning.nearly_taken
                stats = build_shard(
                    shard,
                    pairs,
                    *how,
                    self.evaluation,
                    attempt.folder,
                    *told,
                    is_suspect=attempt.is_suspect,
                )
                check_command()
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
    (benchmarks/notes.md). With each attempt at a shard, the next waits twice as long.

    Source: backup tasks, Dean and Ghemawat (2004), section 3.6.
    """
    waiting = set(shards)
    first_seen: dict[tuple[int, tuple[str, ...]], float] = {}
    while waiting:
        for shard in random.sample(sorted(waiting), len(waiting)):
            if writer.is_finished(shard):
                waiting.discard(shard)
                continue
            attempts, now = writer.running_attempts(shard), clock()
            waited_s = now - first_seen.setdefault((shard, attempts), now)
            patience_s = max(PATIENCE_S, 1.5 * writer.slowest_s)
            if not attempts or waited_s >= patience_s * 2 ** (len(attempts) - 1):
                LOG.info("shard %s: taken over", shard_name(shard))
                writer.write(shard, Beginning())
        if waiting:
            check_command()
            sleep(POLL_S)


class ShardDoFn(beam.DoFn):
    """A shard a call, which is begun, and told of when it is written: in a later call or when the
    bundle ends. So a worker has several under way, each on a thread of its own.

    A finished shard stays as it is. Shards that another worker holds are reported when the bundle
    ends, and taken over then where all shards are assigned at the start (`given_out`)."""

    def __init__(self, writer: ShardWriter, check: CheckWorker | None = None) -> None:
        self.writer, self.check = writer, check

    def start_bundle(self) -> None:
        if self.check:  # no step of its own: that may run in another process of the worker
            self.check.start_bundle()
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
        yield from self.under_way.wait_for_room()
        if given_out and writer.running_attempts(shard):
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
