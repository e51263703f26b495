"""Images that finished datasets know, so that none is requested twice.

1. `read_known_set`: of each ledger of a dataset, between which hashes of URLs its images are.
2. `find_known`: the rows of ledgers about the images of a shard.
3. `usable`: those that still hold by the rules of this run; the others are requested again.
4. `read_stored`: the files of kept images, out of the old tars in the order of their members.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache, reduce
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.arrivals.host_files import HostFiles
from alignset.transforms.arrivals.image_settings import ImageSettings
from alignset.transforms.arrivals.images import Images
from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.pair_columns import (
    C2PA,
    CONTENT_SIGNAL,
    LEDGERS,
    OPT_OUTS,
    ROBOTS_TXT,
    RSL,
    XMP_DATA_MINING,
    opt_out_kind,
)
from alignset.transforms.columns.records import BOXES, LEDGER, RULE_COLUMN
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS
from alignset.transforms.fetching.fetcher import fetch_all
from alignset.transforms.fetching.orders import Fetched, unnoted
from alignset.transforms.images.blur import Boxes, boxes_hash
from alignset.transforms.opt_outs.host_statements import (
    MOST_RECORDED,
    header_opt_outs,
    record_pages,
    recorded_responses,
)
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.catalogue import limits
from alignset.transforms.rules.given import (
    BLOCKED,
    FETCH_FAILED,
    NOT_AN_IMAGE,
    OPTED_OUT,
    RULE_FAILED,
    TAKEN_DOWN,
    UNDECODABLE,
)
from alignset.transforms.rules.rule import Stage
from alignset.transforms.rules.verdicts import faults, first_of, fit, rule_rows
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.storage.broken_files import (
    WRONG_FORMAT,
    BrokenInputError,
    FileFault,
    broken_file,
)
from alignset.transforms.storage.files import copy_file, is_local, match, open_to_read
from alignset.transforms.storage.parquet_files import named, read_columns, read_footer
from alignset.transforms.storage.tar_members import stored_images

_THREADS = 16  # since a store answers slowly
_STAYS_OUT = (OPTED_OUT, TAKEN_DOWN)
_OF_ITS_OWNER = frozenset({"outcomes", "opt_outs"})
# Reasons that no threshold changes, with the facts that they need; and details of a closed set.
_FINAL = {
    TAKEN_DOWN: frozenset[str](),
    FETCH_FAILED: frozenset({"outcomes"}),
    OPTED_OUT: frozenset({"opt_outs"}),
    **dict.fromkeys((NOT_AN_IMAGE, UNDECODABLE), _OF_ITS_OWNER),
}
_DETAILS = {FETCH_FAILED: FETCH_DETAILS, OPTED_OUT: frozenset(OPT_OUTS)}
_OF_HOSTS = (ROBOTS_TXT, CONTENT_SIGNAL, RSL)
_OF_BYTES = (k.MD5, k.SHA1, k.PDQ, k.IMAGE)  # entries of lists that ask for a file
OF_EVALUATION = tuple(name for name in LEDGER.names if name.startswith("evaluation_"))


class Span(NamedTuple):
    """A ledger: the least and the greatest of its `image`, its name without its ending, and the
    SHA-256 of its shard's tar, "" where there is none."""

    least: int
    greatest: int
    stem: str
    sha256: str


class KnownSet(NamedTuple):
    """A finished dataset that has ledgers.

    Fields:
      facts: what may be taken from it, since the same made it: "outcomes", "opt_outs", "unsafe",
        "overlap:NAME" (NAME being the index of evaluation images), "encoding", "rules".
    """

    folder: str
    spans: tuple[Span, ...]
    facts: frozenset[str]


class KnownImage(NamedTuple):
    """An image as a dataset knows it.

    Fields:
      row: of its ledger. facts: as its set has them.
      tar, sha256: of its shard; its file is in it where the row has a key.
      is_looked_at: whether its file goes the way of one that was fetched.
    """

    row: Mapping[str, Any]
    facts: frozenset[str]
    tar: str
    sha256: str
    is_looked_at: bool = False


def read_known_set(folder: str, facts: frozenset[str], tars: Mapping[str, str]) -> KnownSet | None:
    """A dataset by the statistics of its ledgers; None where it has none.

    Args:
      facts: as KnownSet has them.
      tars: the SHA-256 of each tar, by the names of ledgers: "00000", "holdout-00000".

    Raises:
      BrokenInputError: a ledger cannot be read, or is none.
    """
    paths = [path for path, _ in match(f"{folder}/{LEDGERS}/*.parquet")]
    with ThreadPoolExecutor(_THREADS) as pool:
        edges = [*pool.map(_edges, paths)]
    stems = [path.rpartition("/")[2].removesuffix(".parquet") for path in paths]
    spans = tuple(
        Span(*of, stem, tars.get(stem) or "") for of, stem in zip(edges, stems, strict=True) if of
    )
    return KnownSet(folder, spans, facts) if paths else None


def _edges(path: str) -> tuple[int, int] | None:
    """The least and the greatest `image` of a ledger; None where it has no row."""
    with named(path), open_to_read(path) as source:
        footer = read_footer(source)
        groups = [footer.row_group(at) for at in range(footer.num_row_groups)]
        edges = [group.column(0).statistics for group in groups if group.num_rows]
        if not all(of and of.has_min_max and isinstance(of.min, int) for of in edges):
            raise FileFault(WRONG_FORMAT, "it does not say which images it has")
    return (min(of.min for of in edges), max(of.max for of in edges)) if edges else None


def find_known(
    sets: Iterable[KnownSet], hashes: UInt64s, measured: Sequence[str] = ()
) -> dict[int, KnownImage]:
    """Known images by the hashes of their URLs.

    If several sets know an image, the first with its file counts. An image that was taken down from
    any of them stays out, and so does one that opted out by the first that knows it.

    Args:
      measured: the columns of what rules of users measure.
    """
    found: dict[int, KnownImage] = {}
    for known_set in sets if len(hashes) else ():
        low, high = hashes.min(), hashes.max()
        for span in known_set.spans:
            if span.greatest < low or span.least > high:
                continue
            for image in _in_ledger(known_set, span, hashes, measured):
                before = found.get(number := image.row["image"])
                if before is None or _goes_before(image, before):
                    found[number] = image
    return found


def _goes_before(image: KnownImage, before: KnownImage) -> bool:
    if TAKEN_DOWN in (image.row["reason"], before.row["reason"]):
        return before.row["reason"] != TAKEN_DOWN
    has_file = image.row["key"] and not before.row["key"]
    return bool(has_file) and before.row["reason"] not in _STAYS_OUT


# A ledger may be anybody's. A date beyond the year 9999 has no form in Python.
_READ = pa.schema([of.with_type(pa.int64()) if of.name == "date" else of for of in LEDGER])
_TEXTS = [of.name for of in LEDGER if of.type == pa.string()]
_NUMBERS = [of.name for of in _READ if of.name not in ("image", *_TEXTS)]
# Characters of a text: also of a response that was cut. The greatest number.
_LONGEST, _MOST = MOST_RECORDED + 2, 253_402_300_799_999


def _in_ledger(
    known_set: KnownSet, span: Span, hashes: UInt64s, measured: Sequence[str]
) -> Iterator[KnownImage]:
    folder, number = "shards", span.stem
    if number.startswith("holdout-"):
        folder, number = "holdout", number.removeprefix("holdout-")
    tar = f"{known_set.folder}/{folder}/{number}.tar"
    path = f"{known_set.folder}/{LEDGERS}/{span.stem}.parquet"
    columns = pa.schema([*_READ, BOXES, *((RULE_COLUMN + name, pa.float64()) for name in measured)])
    # Where it cannot be read it is as good as not there: its images are requested again.
    with suppress(BrokenInputError, FileNotFoundError):
        for rows in read_columns(path, columns, _LONGEST):
            rows = rows.filter(pc.is_in(rows["image"], pa.array(hashes)))
            for row in rows.filter(_well_formed(rows)).to_pylist():
                if row["key"] and not span.sha256:
                    row["key"] = None
                yield KnownImage(row, known_set.facts, tar, span.sha256)


def _well_formed(rows: pa.RecordBatch) -> pa.BooleanArray:
    """bool[n], whether rows of a ledger can be read: texts and numbers are within bounds, what is
    in hex is, and nothing is missing of a kept image."""
    tests = [
        pc.match_substring_regex(rows[name], f"^[0-9a-f]{{{digits}}}$")
        for name, digits in (("key", 16), ("phash", 16), ("sha256", 64))
    ]
    tests += [pc.less(pc.utf8_length(rows[name]), _LONGEST) for name in _TEXTS]
    for name in _NUMBERS:  # nor NaN
        least = int(name in ("width", "height"))
        tests += [pc.greater_equal(rows[name], least), pc.less_equal(rows[name], _MOST)]
    is_known = [pc.is_valid(rows[name]) for name in ("bytes", "width", "height", "format", "phash")]
    tests.append(pc.or_(pc.is_null(rows["key"]), reduce(pc.and_, is_known)))
    tests.append(pc.or_(pc.is_null(rows["sha256"]), is_known[0]))
    return reduce(pc.and_, [pc.fill_null(test, True) for test in tests])


def usable(
    known: Mapping[int, KnownImage],
    settings: ImageSettings,
    blocklists: Blocklists,
    unsafe_model: UnsafeModel | None,
    index: str,
) -> dict[int, KnownImage]:
    """Known images that need no request, with the outcome that they have by the rules of this run:
    a reason that stays, or else measures that are judged anew.

    Args:
      index: the name of the index of evaluation images, "" where there is none.
    """
    needed, names = _OF_ITS_OWNER, {"original_width": "width", "original_height": "height"}
    names |= {name: RULE_COLUMN + name for name in settings.computed_columns}
    if unsafe_model:
        needed, names["unsafe_score"] = needed | {"unsafe"}, "unsafe_score"
    if index:
        needed |= {f"overlap:{index}"}
        names["evaluation_distance"] = "evaluation_distance"
    if settings.computing(Stage.PIXELS):
        needed |= {"rules"}
    rows = [image.row for image in known.values()]
    columns = {
        name: pa.array([row.get(of) for row in rows], pa.float64()) for name, of in names.items()
    }
    values = rule_rows(pa.table(columns), settings)
    entries = [limit for limit in limits(settings.catalogue.images) if limit.stage < Stage.PAIR]
    dropped = first_of(faults(entries, values, settings.numbers)).is_valid().to_pylist()
    found = {}
    for number, fits, is_dropped in zip(known, fit(settings, values), dropped, strict=True):
        how = needed if fits else _OF_ITS_OWNER, is_dropped
        image = _outcome(known[number], settings, blocklists, *how)
        if image is not None:
            # What a run does not measure that drops it by its size, or that has no model.
            blank = {"unsafe_score"} if not (fits and unsafe_model) else set[str]()
            if not fits:
                blank |= {*OF_EVALUATION, *(n for n in image.row if n.startswith(RULE_COLUMN))}
            found[number] = image._replace(row={**image.row, **dict.fromkeys(blank)})
    return found


def _outcome(
    image: KnownImage,
    settings: ImageSettings,
    lists: Blocklists,
    needed: frozenset[str],
    is_dropped: bool,
) -> KnownImage | None:
    """The outcome of one image, None where it must be requested.

    Args:
      needed: the facts without which it must be looked at again.
      is_dropped: whether a rule of this run drops it, by what was measured.
    """
    row, facts, reason, detail = image.row, image.facts, image.row["reason"], image.row["detail"]
    is_reported = reason not in _STAYS_OUT and row["opted_out"] is not None
    if is_reported if settings.rejects else reason == OPTED_OUT:
        return None
    if reason in _FINAL:
        is_asked, kind = reason == FETCH_FAILED and detail in settings.retried, detail
        if reason == OPTED_OUT:  # a host's files are requested without the image
            is_asked, kind = not own_opt_outs(row, detail, settings), opt_out_kind(detail)
        is_odd = kind not in _DETAILS.get(reason, (kind,))
        return None if is_asked or is_odd or not _FINAL[reason] <= facts else image
    is_unknown = None in (row["sha256"], row["phash"]) or "opt_outs" not in facts
    if is_unknown or row["bytes"] > settings.max_image_bytes:
        return None
    phash = np.array([int(row["phash"], 16)], np.uint64)
    listed = lists.match_file(bytes.fromhex(row["sha256"])) or lists.find_nearest(k.PHASH, phash)
    if listed:
        blocked = {**row, "reason": BLOCKED, "detail": listed, "key": None}
        return image._replace(row=blocked) if "outcomes" in facts else None
    if reason == BLOCKED:
        return None
    # No other hash of its file is known than these.
    has_hash = not settings.verified or settings.verified[0] == "sha256"
    is_valid, has_file = needed <= facts and has_hash, row["key"] is not None
    is_original = settings.resize_mode == "original" and not row.get(BOXES.name)
    if reason == RULE_FAILED and settings.computing(Stage.PIXELS):
        is_dropped = True
    else:  # by this run's thresholds
        image = image._replace(row={**row, "reason": None, "detail": None})
    if is_valid and is_dropped and (has_file or not lists.have(*_OF_BYTES)):
        return image
    sees_pixels = asks_for_pixels(settings, lists) or settings.computing(Stage.PAIR)
    as_stored = has_file and "encoding" in facts and (is_original or not sees_pixels)
    if is_valid and as_stored:
        return image
    # The file in the tar is the one that came, unless it was encoded anew.
    may_be_original = is_original or "encoding" not in facts
    return image._replace(is_looked_at=True) if has_file and may_be_original else None


def asks_for_pixels(settings: ImageSettings, lists: Blocklists) -> bool:
    """Whether known images are decoded too."""
    return settings.puts_looks_aside or lists.have(*_OF_BYTES)


def _blurred_alike(image: KnownImage, boxes: Boxes | None) -> KnownImage:
    """An image, whose file is another than this run's where other boxes were blurred in it."""
    is_same = image.row.get(BOXES.name) == boxes_hash(boxes)
    return image if is_same else image._replace(facts=image.facts - {"encoding"})


def fetch_unknown(
    urls: Sequence[str],
    rows: Sequence[int],
    images: Images,
    nearly_taken: Event,
    settings: ImageSettings,
    blocklists: Blocklists,
    unsafe_model: UnsafeModel | None,
    known_sets: Sequence[KnownSet],
    index: str,
    host_files: HostFiles,
) -> Iterator[Fetched]:
    """The images of some URLs: known ones and fetched ones. Fetches come first, so that the URLs
    of the next shard follow while files are copied.

    Args:
      rows: of these images in their shard. images: their columns; `known` is filled.
      index: the name of the index of evaluation images.
      host_files: where files of hosts are noted by which the images are judged.
      nearly_taken: set when few URLs are left to be taken.
    """
    known: dict[int, KnownImage] = {}
    if known_sets:
        hashes = url_hashes(pa.array(urls, pa.string()))[0]
        by_hash = find_known(known_sets, hashes, settings.computed_columns)
        numbers = {number: of for number, of in enumerate(hashes.tolist()) if of in by_hash}
        boxes = images["boxes"]
        found = {n: _blurred_alike(by_hash[of], boxes[rows[n]]) for n, of in numbers.items()}
        known = usable(found, settings, blocklists, unsafe_model, index)
    headers = {n: image.row["opt_out_headers"] for n, image in known.items()}
    aside: dict[int, Fetched] = {}  # what is read from tars when all others are under way

    def record(number: int, headers: str | None) -> str | None:
        return headers if headers is None else record_pages(images["pages"][rows[number]], headers)

    def take(number: int, arrival: Fetched) -> Fetched:
        images.note(rows[number], known=(image := known[number]))
        stated = own_opt_outs(image.row, image.row["opted_out"], settings)
        own, opted_out = record(number, headers[number]), (*arrival.opted_out, *stated)
        return replace(arrival, index=rows[number], opted_out=opted_out, headers=own)

    def fetch(some: Sequence[int], taken: Event) -> Iterator[Fetched]:
        final_urls = {at: known[n].row["final_url"] for at, n in enumerate(some) if n in known}
        records = {at: record(n, headers.get(n) or "") or "" for at, n in enumerate(some)}
        note = host_files.note if settings.evidence else unnoted
        how = settings, taken, blocklists.match_url, final_urls, note, records
        for arrival in fetch_all([urls[number] for number in some], *how):
            number = some[arrival.index]
            if not arrival.is_known:
                # An image that a file forbids was not requested.
                own = (headers if arrival.file_of else {}).get(number, arrival.headers)
                yield replace(arrival, index=rows[number], headers=record(number, own))
            elif known[number].row["key"] is None:
                yield take(number, arrival)
            else:
                aside[number] = arrival

    # Nobody is asked of what was taken down: of nothing else is that little known.
    silent = [n for n, image in known.items() if image.row["reason"] == TAKEN_DOWN]
    for number in silent:
        yield take(number, Fetched(number, None, None))
    yield from fetch(sorted({*range(len(urls))}.difference(silent)), nearly_taken)
    lost = list[int]()
    for number, body in read_stored({number: known[number] for number in aside}):
        image = known[number]
        is_original = settings.resize_mode == "original" and not image.row.get(BOXES.name)
        is_as_it_came = image.is_looked_at or is_original
        if body is None or (
            is_as_it_came and hashlib.sha256(body).hexdigest() != image.row["sha256"]
        ):
            del known[number], headers[number]
            lost.append(number)
        else:
            yield replace(take(number, aside[number]), body=body)
    if lost:
        yield from fetch(lost, Event())


def read_stored(images: Mapping[int, KnownImage]) -> Iterator[tuple[int, bytes | None]]:
    """The files of kept images by their numbers, in the order of the members of their tars; None
    where a tar is gone, or is not the one that was written."""
    tars: dict[tuple[str, str], dict[int, int]] = {}
    for number, image in images.items():
        numbers = tars.setdefault((image.tar, image.sha256), {})
        if numbers.setdefault(int(image.row["key"], 16), number) != number:
            yield number, None  # which two images claim
    for (tar, sha256), numbers in sorted(tars.items()):
        try:
            with _checked(tar, sha256) as path:
                for key, body in stored_images(path, numbers) if path else ():
                    yield numbers.pop(int(key, 16)), body
                    if not numbers:
                        break
        except Exception as error:
            if broken_file(tar, error) is None:
                raise
        for number in numbers.values():
            yield number, None


def own_opt_outs(
    row: Mapping[str, Any], details: str | None, settings: OptOutSettings
) -> list[str]:
    """The details of `opted_out` that an image of a ledger states itself, by its bytes or a
    response; or perhaps, where a response was not recorded whole. Files of hosts may say another
    thing by now.

    Args:
      details: of the image, comma-separated.
    """
    stated, headers = list(filter(None, (details or "").split(","))), row["opt_out_headers"]
    if headers is None or len(headers) > MOST_RECORDED:
        return [detail for detail in stated if opt_out_kind(detail) not in _OF_HOSTS]
    own = {XMP_DATA_MINING, C2PA}
    for _, lines in recorded_responses("", headers):
        own.update(header_opt_outs(lines, settings, settings.directives))
    return [detail for detail in stated if detail in own]


@contextmanager
def _checked(tar: str, sha256: str) -> Iterator[str]:
    """A tar on this machine that has a SHA-256; "" where it has another."""
    if is_local(tar):
        is_file = os.path.isfile(tar)  # a device may never end
        yield tar if is_file and _digest_of(tar, os.stat(tar).st_mtime_ns) == sha256 else ""
        return
    with tempfile.TemporaryDirectory(prefix="alignset-tar-") as folder:
        copy_file(tar, copy := f"{folder}/tar")
        yield copy if _digest_of(copy, 0) == sha256 else ""


@lru_cache(maxsize=1 << 12)
def _digest_of(tar: str, _: int) -> str:
    """The SHA-256 of a local tar, read once by a process for each time that it was changed."""
    with open(tar, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
