"""The images of a shard as they arrive: looked at, put aside, scored, compared, and then judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import pyarrow as pa

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.pair_columns import OPT_OUTS
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.fetching.body_memory import TakenBytes
from alignset.transforms.fetching.fetch import Fetched
from alignset.transforms.images.decode import turn_of
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import limits
from alignset.transforms.rules.rule import Stage
from alignset.transforms.rules.verdicts import faults, first_of, fit, size_rows
from alignset.transforms.shards.descriptors import look_measures, planes_of
from alignset.transforms.shards.evaluation_search import EvaluationSearch
from alignset.transforms.shards.score_images import ImageScores
from alignset.transforms.shards.shard_images import ShardImages, rule_rows
from alignset.transforms.shards.stated_opt_outs import StatedOptOuts
from alignset.transforms.workers.threads import THREADS, Jobs, SharedThreads
from alignset.transforms.workers.unexpected import tell_once

# Given to a thread together: to hand over costs 50 us. Large ones go alone, for the memory.
IMAGES_AT_ONCE, BYTES_AT_ONCE = 8, 1 << 20
_LOOKING = SharedThreads()


class Arrivals:
    """Looks at the images of a shard in a few threads, each put into its row. No order is kept: one
    that takes a second must not hold up what else arrives.

    Args:
      images: their rows, which are filled here.
      evaluation: the index of evaluation images, if there are any.
      count: called with the number of images that are done or failed.
    """

    def __init__(
        self,
        images: ShardImages,
        evaluation: EvaluationIndex | None,
        count: Callable[[int], None],
    ) -> None:
        self._images, self._settings, self._count = images, images.settings, count
        self._scores = ImageScores(images, count)
        self._search = EvaluationSearch(evaluation, len(images), self._settings.rules)
        self._describes = bool(self._settings.descriptors) or self._settings.looks
        self._opt_outs = StatedOptOuts(self._settings.fetch, len(images))
        self._jobs = Jobs(_LOOKING, 2 * THREADS)
        self._bytes = TakenBytes()

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.cancel()
        self._scores.cancel()
        self._bytes.__exit__()

    def take_in(self, bodies: Iterable[Fetched]) -> None:
        """Looks at each image as it arrives, and puts its bytes aside."""
        group: list[Fetched] = []
        size = 0
        for count, arrival in enumerate(bodies, 1):
            self._count(count - self._scores.waiting)
            if arrival.body is None:
                detail = arrival.blocklist or arrival.detail
                self._images.drop(arrival.index, _why_missing(arrival), detail)
                continue
            group.append(arrival)
            size += len(arrival.body)
            if len(group) == IMAGES_AT_ONCE or size > BYTES_AT_ONCE:
                self._begin(group, size)
                group, size = [], 0
        if group:
            self._begin(group, size)
        self._jobs.finish()
        self._search.finish()
        self._scores.finish()

    def _begin(self, group: list[Fetched], size: int) -> None:
        """Has images looked at; waits where the threads are far behind."""
        self._images.bytes_fetched += size
        # Not before: an unfinished group must not keep the fetcher from what would finish it.
        self._bytes.add(size)
        self._jobs.begin(self._look_at, group, size)

    def _look_at(self, group: list[Fetched], size: int) -> None:
        looks = [FileLook(arrival.body or b"") for arrival in group]
        widths, heights = zip(*map(_size_of, looks), strict=True)
        is_fit = fit(self._settings.rules, size_rows(widths, heights))
        images = {}
        for arrival, look, fits in zip(group, looks, is_fit, strict=True):
            if opt_out := self._opt_outs.note(arrival, look):
                self._images.drop(arrival.index, given.OPTED_OUT, opt_out)
            elif image := self._examined(arrival, look, fits=fits):
                images[arrival.index] = image
        self._search.add(images)
        self._bytes.add(-size)

    def _examined(self, arrival: Fetched, look: FileLook, *, fits: bool) -> Image | None:
        """Examines an image, puts it into its row and aside, and computes all that needs its
        pixels, which nobody keeps; None where it is dropped.

        Args:
          fits: whether it is neither too small nor too long.
        """
        row, digest = arrival.index, self._images.note_digest(arrival.index, look.body)
        if arrival.detail:
            self._images.drop(row, given.UNDECODABLE, arrival.detail)
            return None
        copies = self._describes or self._settings.blocklists.have(k.IMAGE)
        keep_grey = self._search.index is not None or copies
        keep_picture = (fits and self._scores.are_wanted) or self._settings.looks
        keep_picture |= self._settings.blocklists.have(k.PDQ)
        with turn_of(math.prod(_size_of(look))):
            image = examine(
                look, keep_grey=keep_grey, keep_picture=keep_picture or look.format != "jpeg"
            )
            if isinstance(image, Unusable):
                self._images.drop(row, image.reason, image.detail)
                return None
            self._images.sizes[row] = image.width, image.height
            if detail := blocked_by(self._settings.blocklists, look.body, digest, image):
                self._images.drop(row, given.BLOCKED, detail)
                return None
            if self._settings.resize.resize_mode == "original":
                # Others may not read some formats, so where files stay as they came these become
                # PNGs.
                self._images.put(row, look.body, image)
            else:
                self._images.put(row, look.body, replace(image, picture=None))
            if self._describes:
                try:
                    planes = planes_of(image, in_colour=self._settings.looks).tobytes()
                except Exception as error:  # it was decoded: whatever this is, is new
                    tell_once("describing an image for its near-duplicates", error)
                    self._images.drop(row, given.UNDECODABLE, "unexpected")
                    return None
                self._images.planes[row] = self._images.spool.put(planes)
            if fits and self._scores.are_wanted:
                self._scores.add(row, image)
            return replace(image, picture=None)

    def judge(self) -> dict[str, pa.Array]:
        """Judges the images once all have arrived. Returns the measures of each, by column."""
        search, rules = self._search, self._settings.rules
        measures = self._scores.columns()
        if search.index is not None:
            measures |= search.index.columns(search.nearest)
        own = [limit for limit in limits(rules.images) if limit.stage < Stage.PAIR]
        all_faults = faults(
            own, rule_rows(self._images.sizes, measures, rules.columns), rules.numbers
        )
        for row, reason in enumerate(first_of(all_faults).to_pylist()):
            if reason is not None:
                self._images.drop(row, reason)
        if self._settings.looks:
            measures |= look_measures(self._images)
        return measures | self._opt_outs.columns()


def _size_of(look: FileLook) -> tuple[int, int]:
    try:
        return look.size
    except Exception:  # `examine` tells of it
        return 0, 0


def _why_missing(arrival: Fetched) -> str:
    if arrival.blocklist:
        return given.BLOCKED
    return given.OPTED_OUT if arrival.detail in OPT_OUTS else given.FETCH_FAILED


def blocked_by(lists: Blocklists, body: bytes, sha256: bytes, image: Image) -> str | None:
    """Which list an image is on, such as "takedowns:sha256", or None. For all threads.

    Args:
      sha256: of the file.
      image: what `examine` said of it with `keep_picture`, and `keep_grey` where a list has images.
    """
    if not lists.have(*k.OF_FILES, *k.OF_PICTURES):
        return None
    if detail := lists.match_file(sha256, body):
        return detail
    try:
        return lists.match_picture(body, image)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # an image that was decoded before
        tell_once("comparing an image with a blocklist", error)
        return None
