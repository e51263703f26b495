"""The images of a shard as they arrive: looked at, put aside, scored, compared, and then judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists, word_of
from alignset.transforms.columns.pair_columns import OPT_OUTS
from alignset.transforms.decontamination.copy_index import QUICK_ERROR
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, distances
from alignset.transforms.fetching.body_memory import TakenBytes
from alignset.transforms.fetching.fetch import Fetched
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.images.pdq import pdq_words
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import limits
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.rule import Stage
from alignset.transforms.rules.verdicts import faults, first_of
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
        # Others may not read some formats, so where files stay as they came these become PNGs.
        self._keep_shown = self._settings.resize.resize_mode == "original"
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
        images: dict[int, tuple[bytes, Image]] = {}
        for arrival in group:
            look = FileLook(arrival.body or b"")
            if opt_out := self._opt_outs.note(arrival, look):
                self._images.drop(arrival.index, given.OPTED_OUT, opt_out)
            elif image := self._examined(arrival, look):
                images[arrival.index] = look.body, image
        self._scores.add(images)
        self._search.add({row: image for row, (_, image) in images.items()})
        if self._describes:
            for row, (body, image) in images.items():
                planes = planes_of(body, image, in_colour=self._settings.looks)
                self._images.planes[row] = self._images.spool.put(planes.tobytes())
        self._bytes.add(-size)

    def _examined(self, arrival: Fetched, look: FileLook) -> Image | None:
        """Examines an image, and puts it into its row and aside; None where it is dropped."""
        row, digest = arrival.index, self._images.note_digest(arrival.index, look.body)
        if arrival.detail:
            self._images.drop(row, given.UNDECODABLE, arrival.detail)
            return None
        copies = self._describes or self._settings.blocklists.have(k.IMAGE)
        keep_grey = self._search.index is not None or copies
        image = examine(look, keep_grey=keep_grey, keep_shown=self._keep_shown)
        if isinstance(image, Unusable):
            self._images.drop(row, image.reason, image.detail)
            return None
        self._images.sizes[row] = image.width, image.height
        if detail := blocked_by(self._settings.blocklists, look, digest, image):
            self._images.drop(row, given.BLOCKED, detail)
            return None
        self._images.put(row, look.body, image)
        return replace(image, picture=None)  # before the next one is decoded

    def judge(self) -> dict[str, pa.Array]:
        """Judges the images once all have arrived; images near an evaluation image are judged by
        the whole image. Returns the measures of each, by column."""
        self._look_again()
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

    def _look_again(self) -> None:
        """Searches once more for the JPEGs that are near, by their whole images. Their stored
        hash stays: a shard must not depend on evaluation images in that."""
        search = self._search
        if search.index is None:
            return
        least = self._settings.rules.numbers[MIN_EVALUATION_DISTANCE.name]
        near = pc.less(distances(search.nearest), least + QUICK_ERROR)
        for row in np.flatnonzero(pc.fill_null(near, False).to_numpy(zero_copy_only=False)):
            body, image = self._images.stored_file(int(row))
            if image.format == "jpeg":  # others were looked at whole
                whole = examine(body, in_full=True, keep_grey=True)
                if isinstance(whole, Image):
                    search.add({int(row): whole})
        search.finish()


def _why_missing(arrival: Fetched) -> str:
    if arrival.blocklist:
        return given.BLOCKED
    return given.OPTED_OUT if arrival.detail in OPT_OUTS else given.FETCH_FAILED


def blocked_by(lists: Blocklists, look: FileLook, sha256: bytes, image: Image) -> str | None:
    """Which list an image is on, such as "takedowns:sha256", or None. For all threads.

    Args:
      sha256: of the file. image: what `examine` said of it.
    """
    if not lists.have(*k.OF_FILES, *k.OF_PICTURES):
        return None
    if detail := lists.of_file(sha256, look.body):
        return detail
    try:
        return (
            (_by_phash(lists, look, image) if lists.have(k.PHASH) else None)
            or (_by_pdq(lists, look.body, image) if lists.have(k.PDQ) else None)
            or ((copy := lists.listed_copy(look.body, image)) and copy.detail)
        )
    except ModuleNotFoundError:
        raise
    except Exception as error:  # an image that was decoded before
        tell_once("comparing an image with a blocklist", error)
        return None


def _by_phash(lists: Blocklists, look: FileLook, image: Image) -> str | None:
    """By the hash of a JPEG's stage, and where that is not far off, of the whole image."""
    near = lists.near(k.PHASH, word_of(image.phash), k.QUICK_ERROR)
    if near is None or near[1] < lists.min_phash_distance:
        return near and near[0]
    whole = examine(look, in_full=True) if image.format == "jpeg" else None
    near = lists.near(k.PHASH, word_of(whole.phash)) if isinstance(whole, Image) else None
    return near and near[0]


def _by_pdq(lists: Blocklists, body: bytes, image: Image) -> str | None:
    words = pdq_words(body, image)
    near = None if words is None else lists.near(k.PDQ, words)
    return near and near[0]
