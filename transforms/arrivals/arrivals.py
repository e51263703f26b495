"""The images of a shard as they arrive, in this order: their host's and their own opt-outs are
noted, then they are decoded, compared with blocklists, put aside, searched for among evaluation
images, and scored."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alignset.transforms.arrivals.evaluation_search import EvaluationSearch
from alignset.transforms.arrivals.image_looks import planes_of
from alignset.transforms.arrivals.images import Images
from alignset.transforms.arrivals.score_images import ImageScores
from alignset.transforms.arrivals.shard_settings import ShardSettings
from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.pair_columns import OPT_OUTS
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.fetching.body_memory import TakenBytes
from alignset.transforms.fetching.fetch import Fetched
from alignset.transforms.images.decode import turn_of
from alignset.transforms.images.examine import CRASHED_DECODER, Image, Unusable, examine
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.images.try_decoders import crashes
from alignset.transforms.opt_outs.file_opt_outs import file_opt_outs
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.rules import given
from alignset.transforms.rules.verdicts import fit, size_rows
from alignset.transforms.workers.limited_process import CHECKED
from alignset.transforms.workers.threads import THREADS, Jobs, SharedThreads, in_threads
from alignset.transforms.workers.unexpected import tell_once

LOG = logging.getLogger("alignset")
# Given to a thread together: to hand over costs 50 us. Large ones go alone, for the memory.
IMAGES_AT_ONCE, BYTES_AT_ONCE = 8, 1 << 20
_LOOKING = SharedThreads()


def take_in(
    bodies: Iterable[Fetched],
    images: Images,
    settings: ShardSettings,
    evaluation: EvaluationIndex | None,
    count: Callable[[int], None],
) -> None:
    """Looks at the images of a shard in a few threads, each put into its row. No order is kept: one
    that takes a second must not hold up what else arrives.

    Args:
      images: their columns, which are filled here.
      evaluation: the index of evaluation images, if there are any.
      count: called with the number of images that are done or failed.
    """
    scores = ImageScores(images, settings.rules, settings.unsafe_model, count)
    search = EvaluationSearch(evaluation, images)
    look, jobs = _Look(images, settings, scores, search), Jobs(_LOOKING, 2 * THREADS)
    with TakenBytes() as unseen_bytes:

        def work(group: list[Fetched], size: int) -> None:
            look.look_at(group)
            unseen_bytes.add(-size)

        def begin(group: list[Fetched]) -> None:
            size = sum(len(arrival.body or b"") for arrival in group)
            images.bytes_fetched += size
            # Not before: an unfinished group must not keep the fetcher from what would finish it.
            unseen_bytes.add(size)
            jobs.begin(work, group, size)  # waits where the threads are far behind

        try:
            group, size = list[Fetched](), 0
            for number, arrival in enumerate(bodies, 1):
                count(number - scores.waiting)
                if arrival.body is None:
                    detail = arrival.blocklist or arrival.detail
                    images.drop(arrival.index, _why_missing(arrival), detail)
                    continue
                group.append(arrival)
                size += len(arrival.body)
                if len(group) == IMAGES_AT_ONCE or size > BYTES_AT_ONCE:
                    begin(group)
                    group, size = [], 0
            if group:
                begin(group)
            jobs.finish()
            search.finish()
            scores.finish()
        finally:
            jobs.cancel()
            scores.cancel()


def screened(
    bodies: Iterable[Fetched], urls: Sequence[str], resize: ResizeSettings
) -> Iterator[Fetched]:
    """Yields the images of a shard that was under way when a worker died: each is decoded in a
    child process first. One that crashes its decoder has the detail CRASHED_DECODER, and must not
    be decoded.

    Args:
      urls: of the images, for the log.
    """

    def look(arrival: Fetched) -> Fetched:
        if arrival.body is None or not crashes(arrival.body, resize):
            return arrival
        LOG.warning("a decoder crashes at %s: please report it", urls[arrival.index])
        return replace(arrival, detail=CRASHED_DECODER)

    try:
        yield from in_threads(look, bodies)
    finally:
        CHECKED.end_idle()


@dataclass(frozen=True)
class _Look:
    """The work of a thread on images that came."""

    images: Images
    settings: ShardSettings
    scores: ImageScores
    search: EvaluationSearch

    def look_at(self, group: list[Fetched]) -> None:
        """Looks at some images."""
        looks = [FileLook(arrival.body or b"") for arrival in group]
        is_fit = fit(self.settings.rules, size_rows(*zip(*map(_size_of, looks), strict=True)))
        images = {}
        for arrival, look, fits in zip(group, looks, is_fit, strict=True):
            opt_out, values = stated_values(arrival, look, self.settings.fetch)
            self.images.note(arrival.index, **values)
            if opt_out:
                self.images.drop(arrival.index, given.OPTED_OUT, opt_out)
            elif (image := self._examined(arrival, look, fits=fits)) and fits:
                images[arrival.index] = image
        self.search.add(images)

    def _examined(self, arrival: Fetched, look: FileLook, *, fits: bool) -> Image | None:
        """Examines an image, puts it into its row and aside, and computes all that needs its
        pixels, which nobody keeps; None where it is dropped.

        Args:
          fits: whether it is neither too small nor too long.
        """
        images, settings, row = self.images, self.settings, arrival.index
        sha256, verified = hashlib.sha256(look.body), settings.rules.verified
        images.note(row, sha256=sha256.hexdigest())
        if verified:
            digest = hashlib.new(verified[0], look.body, usedforsecurity=False)
            images.note(row, digest=digest.hexdigest())
        if arrival.detail:
            images.drop(row, given.UNDECODABLE, arrival.detail)
            return None
        lists, is_scored = settings.blocklists, fits and self.scores.are_wanted
        is_described = bool(settings.descriptors) or settings.looks
        keep_grey = self.search.index is not None or is_described or lists.have(k.IMAGE)
        keep_picture = is_scored or settings.looks or lists.have(k.PDQ) or look.format != "jpeg"
        with turn_of(math.prod(_size_of(look))):
            image = examine(look, keep_grey=keep_grey, keep_picture=keep_picture)
            if isinstance(image, Unusable):
                images.drop(row, image.reason, image.detail)
                return None
            images.note(row, original_width=image.width, original_height=image.height)
            if detail := blocked_by(lists, look.body, sha256.digest(), image):
                images.drop(row, given.BLOCKED, detail)
                return None
            # Others may not read some formats, so where files stay as they came these become PNGs.
            is_original = settings.resize.resize_mode == "original"
            images.put(row, look.body, image if is_original else replace(image, picture=None))
            if is_described:
                try:
                    planes = planes_of(image, in_colour=settings.looks).tobytes()
                except Exception as error:  # it was decoded: whatever this is, is new
                    tell_once("describing an image for its near-duplicates", error)
                    images.drop(row, given.UNDECODABLE, "unexpected")
                    return None
                images.note(row, planes=images.spool.put(planes))
            if is_scored:
                self.scores.add(row, image)
            return replace(image, picture=None)


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


def stated_values(
    arrival: Fetched, look: FileLook, settings: OptOutSettings
) -> tuple[str | None, dict[str, Any]]:
    """The detail by which an image that came is dropped, None where it is not; and its values in
    the columns of what is stated."""
    statements, response = file_opt_outs(look, settings), None
    if arrival.answer:
        response = arrival.answer._asdict()
        response |= {"final_url": response["url"], "date": int(1000 * response["came_at"])}
    opt_outs = arrival.opted_out + statements.opt_outs
    is_rejected = bool(opt_outs) and settings.rejects
    return opt_outs[0] if is_rejected else None, {
        "opted_out": None if is_rejected else joined_opt_outs(opt_outs),
        "web_statement": statements.web_statement,
        "usage_terms": statements.usage_terms,
        "response": response,
    }


def joined_opt_outs(details: Iterable[str]) -> str | None:
    """Details in their order, each once, comma-separated; None where there are none."""
    present = set(details)
    return ",".join(detail for detail in OPT_OUTS if detail in present) or None
