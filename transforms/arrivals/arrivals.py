"""The images of a shard as they arrive, in this order: their host's and their own opt-outs are
noted, then they are decoded, compared with blocklists, put aside, scored, and searched for among
evaluation images."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from alignset.transforms.arrivals.image_looks import make_thumbnail_row
from alignset.transforms.arrivals.image_settings import ImageSettings
from alignset.transforms.arrivals.images import Images
from alignset.transforms.arrivals.known_images import KnownImage, asks_for_pixels
from alignset.transforms.arrivals.score_images import ImageScores
from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.pair_columns import opt_out_kind, ordered_opt_outs
from alignset.transforms.columns.records import RESPONSE, RULE_COLUMN
from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.fetching.connection_limit import TakenBytes
from alignset.transforms.fetching.orders import Fetched
from alignset.transforms.images.decode import turn_of
from alignset.transforms.images.examine import CRASHED_DECODER, Image, Unusable, examine
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.images.resize_settings import ANY, Encoded, ResizeSettings
from alignset.transforms.images.try_decoders import crashes
from alignset.transforms.opt_outs.file_opt_outs import file_opt_outs
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.rules import given
from alignset.transforms.rules.rule import Stage
from alignset.transforms.rules.verdicts import fit, size_rows
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.workers.limited_process import CHECKED
from alignset.transforms.workers.threads import THREADS, Jobs, SharedThreads, map_in_threads
from alignset.transforms.workers.unexpected import tell_once

# Searched for together, which costs half of what one at a time costs; their thumbnails are 2 MiB.
_SEARCHED_AT_ONCE = 256
Thumbnails = npt.NDArray[np.uint8]  # [n, 2, 64, 64]


class EvaluationSearch:
    """Finds the nearest evaluation image of images that come in any order, on any thread.

    Args:
      index: None finds none.
      images: of the shard, whose column `nearest` is filled.
    """

    def __init__(self, index: EvaluationIndex | None, images: Images) -> None:
        self.index, self._images = index, images
        self._lock = Lock()
        self._rows: list[int] = []
        self._thumbnails: list[Thumbnails] = []

    def add(self, images: Mapping[int, Image]) -> None:
        """Has images searched for, now or with others.

        Args:
          images: what `examine` said of them, by their rows in the shard.
        """
        if self.index is None or not images:
            return
        thumbnails = stack_thumbnails([*images.values()])
        with self._lock:
            self._rows += images
            self._thumbnails.append(thumbnails)
            is_full = len(self._rows) >= _SEARCHED_AT_ONCE
        if is_full:
            self.finish()

    def finish(self) -> None:
        """Searches for the images that wait."""
        with self._lock:
            rows, thumbnails = self._rows, self._thumbnails
            self._rows, self._thumbnails = [], []
        if self.index is not None and rows:
            for row, nearest in zip(
                rows, self.index.nearest(np.concatenate(thumbnails)), strict=True
            ):
                self._images.note(row, nearest=nearest)


LOG = logging.getLogger("alignset")
# Columns of images that ledgers have by the same names.
_AS_IN_LEDGERS = ("bytes", "format", "sha256", "phash", "web_statement", "usage_terms")
# Given to a thread together: to hand over costs 50 us. Large ones go alone, for the memory.
IMAGES_AT_ONCE, BYTES_AT_ONCE = 8, 1 << 20
_LOOKING = SharedThreads()


def take_in(
    bodies: Iterable[Fetched],
    images: Images,
    settings: ImageSettings,
    blocklists: Blocklists,
    unsafe_model: UnsafeModel | None,
    evaluation: EvaluationIndex | None,
    count: Callable[[int], None],
) -> None:
    """Looks at the images of a shard in a few threads, each put into its row. No order is kept: one
    that takes a second must not hold up what else arrives.

    Args:
      images: their columns, which are filled here.
      unsafe_model: scores images, where there is one.
      evaluation: the index of evaluation images, if there are any.
      count: called with the number of images that are done or failed.
    """
    scores = ImageScores(images, settings, unsafe_model, count)
    search = EvaluationSearch(evaluation, images)
    look, jobs = _Look(images, settings, blocklists, scores, search), Jobs(_LOOKING, 2 * THREADS)
    with TakenBytes() as unseen_bytes:

        def work(group: list[Fetched], size: int) -> None:
            look.look_at(group)
            unseen_bytes.add(-size)

        def begin(group: list[Fetched]) -> None:
            size = sum(len(arrival.body or b"") for arrival in group)
            # Not before: an unfinished group must not keep the fetcher from what would finish it.
            unseen_bytes.add(size)
            jobs.begin(work, group, size)  # waits where the threads are far behind

        try:
            group, size = list[Fetched](), 0
            for number, arrival in enumerate(bodies, 1):
                count(number - scores.waiting)
                images.note(arrival.index, opt_out_headers=arrival.headers)
                if arrival.body is None and not images["known"][arrival.index]:
                    reason, detail = given.BLOCKED, arrival.blocklist or arrival.detail
                    if not arrival.blocklist:
                        reason = given.OPTED_OUT if opt_out_kind(detail) else given.FETCH_FAILED
                    images.drop(arrival.index, reason, detail)
                    continue
                group.append(arrival)
                size += len(arrival.body or b"")
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
        yield from map_in_threads(look, bodies)
    finally:
        CHECKED.end_idle()


@dataclass(frozen=True)
class _Look:
    """The work of a thread on images that came."""

    images: Images
    settings: ImageSettings
    blocklists: Blocklists
    scores: ImageScores
    search: EvaluationSearch

    def look_at(self, group: list[Fetched]) -> None:
        """Looks at some images, but takes what is known of them."""
        looks = [FileLook(arrival.body or b"") for arrival in group]
        of_group = [self.images["known"][arrival.index] for arrival in group]
        are_taken = [known is not None and not known.is_looked_at for known in of_group]
        is_fit: Iterable[bool] = are_taken  # which nothing asks for where all are taken
        if not all(are_taken):
            is_fit = fit(self.settings, size_rows(*zip(*map(_size_of, looks), strict=True)))
        images = {}
        for arrival, look, known, is_taken, fits in zip(
            group, looks, of_group, are_taken, is_fit, strict=True
        ):
            row = arrival.index
            if not is_taken or (look.body and asks_for_pixels(self.settings, self.blocklists)):
                opt_out, values = stated_values(arrival, look, self.settings)
                self.images.note(row, **values, bytes=len(look.body), format=look.format)
                if opt_out:
                    self.images.drop(row, given.OPTED_OUT, opt_out)
                    continue
                is_measured = fits and not is_taken
                if (image := self._examined(arrival, look, fits=is_measured)) and is_measured:
                    images[row] = image
            if known is not None:
                self._take_known(arrival, look, known)
        self.search.add(images)

    def _examined(self, arrival: Fetched, look: FileLook, *, fits: bool) -> Image | None:
        """Examines an image, puts it into its row and aside, and computes all that needs its
        pixels, which nobody keeps; None where it is dropped.

        Args:
          fits: whether it is neither too small nor too long.
        """
        images, settings, row = self.images, self.settings, arrival.index
        sha256, verified = hashlib.sha256(look.body), settings.verified
        images.note(row, sha256=sha256.hexdigest())
        if verified:
            is_same = verified[0] == "sha256"
            digest = (
                sha256 if is_same else hashlib.new(verified[0], look.body, usedforsecurity=False)
            )
            images.note(row, digest=digest.hexdigest())
        if arrival.detail:
            images.drop(row, given.UNDECODABLE, arrival.detail)
            return None
        lists, is_scored = self.blocklists, fits and self.scores.are_wanted
        keep_grey = (
            self.search.index is not None or settings.puts_looks_aside or lists.have(k.IMAGE)
        )
        keep_picture = (
            is_scored or settings.keeps_looks or lists.have(k.PDQ) or look.format != "jpeg"
        )
        with turn_of(math.prod(_size_of(look))):
            image = examine(look, keep_grey=keep_grey, keep_picture=keep_picture)
            if isinstance(image, Unusable):
                images.drop(row, image.reason, image.detail)
                return None
            sizes = {"original_width": image.width, "original_height": image.height}
            images.note(row, **sizes, phash=f"{image.phash:016x}")
            if detail := blocked_by(lists, look.body, sha256.digest(), image):
                images.drop(row, given.BLOCKED, detail)
                return None
            # Others may not read some formats, so where files stay as they came these become PNGs.
            is_original = settings.resize_mode == "original"
            images.put(row, look.body, image if is_original else replace(image, picture=None))
            if settings.puts_looks_aside:
                try:
                    thumbnails = make_thumbnail_row(image, in_colour=settings.keeps_looks).tobytes()
                except Exception as error:  # it was decoded: whatever this is, is new
                    tell_once("describing an image for its near-duplicates", error)
                    images.drop(row, given.UNDECODABLE, "unexpected")
                    return None
                images.note(row, thumbnails=images.spool.put(thumbnails))
            if is_scored:
                self.scores.add(row, image)
            return replace(image, picture=None)

    def _take_known(self, arrival: Fetched, look: FileLook, image: KnownImage) -> None:
        """Puts what a ledger says of an image into its row, and its file aside, which is as this
        run keeps it."""
        images, settings, row, known = self.images, self.settings, arrival.index, image.row
        response = {name: known[name] for name in RESPONSE.names} if known["status"] else None
        images.note(row, response=response)
        if image.is_looked_at:
            return
        reason, detail, verified = known["reason"], known["detail"], settings.verified
        if reason == given.TAKEN_DOWN:
            images.drop(row, given.BLOCKED, detail)
            return
        images.note(
            row,
            **{name: known[name] for name in _AS_IN_LEDGERS},
            original_width=known["width"],
            original_height=known["height"],
            digest=known["sha256"] if verified and verified[0] == "sha256" else None,
            opted_out=joined_opt_outs(arrival.opted_out),
        )
        if reason == given.RULE_FAILED:
            images.note(row, failed_rule=detail)
        elif reason:
            images.drop(row, reason, detail)
        if look.body and images["file"][row] is None and images["reason"][row] is None:
            width, height = _size_of(look)
            stored = Image(look.format or "", width, height, int(known["phash"], 16), plain=True)
            extension = ANY if settings.resize_mode == "original" else settings.encode_format
            encoded = Encoded(b"", extension, width, height)
            images.note(row, image=stored, file=images.spool.put(look.body), encoded=encoded)
        if images["reason"][row] != given.BLOCKED:  # else it was not measured
            columns = [limit.measure.column for limit in settings.computing(Stage.PIXELS)]
            measures = {name: known.get(RULE_COLUMN + name) for name in columns}
            images.note(row, **measures, unsafe_score=known["unsafe_score"])


def _size_of(look: FileLook) -> tuple[int, int]:
    try:
        return look.size
    except Exception:  # `examine` tells of it
        return 0, 0


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
    return ",".join(ordered_opt_outs(details)) or None
