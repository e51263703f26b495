"""`alignset audit`: the opt-outs of a finished dataset judged again by its evidence alone, with the
functions by which the fetcher judged them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice, product
from typing import Any, NamedTuple

import pyarrow as pa

from alignset.pipeline.datasets.reproduce import fetch_settings
from alignset.pipeline.datasets.set_files import read_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.arrivals.host_files import read_host_files
from alignset.transforms.columns.pair_columns import (
    C2PA,
    EVIDENCE_FOLDER,
    XMP_DATA_MINING,
    ordered_opt_outs,
)
from alignset.transforms.columns.records import LEDGER, host_of
from alignset.transforms.columns.web_urls import origin_of, request_url
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.host_files import FILES, NO_LICENSE, HostFile, stated_of
from alignset.transforms.fetching.robots import NO_ROBOTS_TXT
from alignset.transforms.opt_outs.host_statements import (
    MOST_RECORDED,
    Request,
    header_opt_outs,
    recorded_requests,
)
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.given import FETCH_FAILED, OPTED_OUT
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.files import exists, match
from alignset.transforms.storage.parquet_files import read_columns

_OF_BYTES = {XMP_DATA_MINING, C2PA}
_REFUSALS = (NO_ROBOTS_TXT, NO_LICENSE)
_MOST_CASES = 64  # of several readings of files, that are tried for one image
_LONGEST = 1 << 16  # characters of a URL, or of headers

Verdict = tuple[str, ...]  # details of `opted_out`, or a refusal
_URLS = pa.schema([LEDGER.field("final_url").with_name("url")])
_ROWS = pa.schema(
    [
        *map(LEDGER.field, ("image", "reason", "detail", "opted_out", "opt_out_headers")),
        *map(LEDGER.field, ("final_url", "status", "date")),
    ]
)


class _Answer(NamedTuple):
    """Statements of a host on one URL.

    Fields:
      refusal: why nothing of it may be had. read_at: when the last of its files was read.
      before: opt-outs by files, before the request. after: with the response.
    """

    refusal: str | None
    read_at: float
    before: Verdict
    after: Verdict


@dataclass
class _Image:
    """An image whose verdict is derived.

    Attributes:
      row: of the ledger. said: the verdict of the dataset.
      places: its requests, as `recorded_requests` yields them.
      answers: of each place, by the readings of the files of its host; none where these are not
        there.
    """

    url: str
    row: Mapping[str, Any]
    said: Verdict
    places: list[Request]
    answers: list[set[_Answer]] = field(default_factory=list)

    def verdict(self, case: Iterable[_Answer], *, rejects: bool) -> Verdict:
        """The verdict by an answer for each place."""
        came_at = self.row["date"].timestamp() if self.row["status"] and self.row["date"] else 0.0
        stated: Verdict = ()
        for answer in case:
            # An image that came before the files were read is known from another dataset. There a
            # host that cannot be asked has not objected.
            is_asked_for = self.said == (answer.refusal,) or came_at >= answer.read_at
            if answer.refusal and is_asked_for:
                return (answer.refusal,)
            for opt_outs in (answer.before, answer.after):
                stated += opt_outs
                if rejects and stated:
                    return ordered_opt_outs(stated)[:1]
        return ordered_opt_outs(stated)


def audit_set(out: str) -> bool:
    """Prints each image whose verdict the evidence does not give, and at the end how many were
    judged; returns whether there is such an image.

    Raises:
      UsageError: the dataset has no evidence. BrokenInputError: a file of it was changed.
    """
    manifest, funnel = read_set(out)
    settings = fetch_settings(manifest, {})
    if all("/recheck-" in path for path, _ in match(f"{out}/{EVIDENCE_FOLDER}")):
        raise UsageError(
            f"{out} has no {EVIDENCE_FOLDER}/: it was published, made without images or with "
            "--evidence=false, or by an earlier version; audit the --output of a run"
        )
    counts, unknown = Counter[str](), Counter[str]()
    for shard in manifest.numbers:
        for image in _judged_images(out, shard, settings):
            why, verdict = _compare(image, settings)
            if why:
                unknown[why] += 1
            counts["all"] += not why
            counts["opted out"] += not why and bool(image.said)
            if not why and verdict != image.said:
                if not counts["differing"]:
                    print("image\thost\tthe dataset says\tthe evidence says")
                counts["differing"] += 1
                verdicts = (", ".join(of) or "no opt-out" for of in (image.said, verdict))
                print("\t".join(map(printable, (image.url, host_of(image.url), *verdicts))))
    steps = funnel.steps if funnel else []
    unknown["of a page"] = sum(of.dropped.get(OPTED_OUT, 0) for of in steps if of.step == "pairs")
    rest = ", ".join(f"{why} {count:,}" for why, count in sorted((+unknown).items()))
    print(
        f"{counted(counts['differing'], 'difference')} among the verdicts on "
        f"{counted(counts['all'], 'image')}, {counts['opted out']:,} of them opted out; "
        f"not derived: {rest or 'none'}"
    )
    return counts["differing"] > 0


def _compare(image: _Image, settings: FetchSettings) -> tuple[str, Verdict]:
    """Why the verdict on an image cannot be derived, or ""; and the one that the evidence gives."""
    headers = image.row["opt_out_headers"]
    lack = "" if all(image.answers) else "file of a host missing"
    lack = "header cut" if len(headers or "") > MOST_RECORDED else lack
    lack = "header not recorded" if headers is None else lack
    of_bytes = [detail for detail in image.said if detail in _OF_BYTES]
    said = tuple(detail for detail in image.said if detail not in _OF_BYTES)
    cases = islice(product(*filter(None, image.answers)), _MOST_CASES)
    verdicts = {image.verdict(case, rejects=settings.rejects) for case in cases}
    if said not in verdicts:
        return lack, min(verdicts)
    if of_bytes:
        return of_bytes[0], image.said
    return "" if said else lack, image.said


def _judged_images(out: str, shard: int, settings: FetchSettings) -> Iterator[_Image]:
    """Yields the images of a shard that came or opted out, with the answers of its evidence."""
    images = [*_images_of(out, shard, settings)]
    questions: dict[str, list[tuple[_Image, int]]] = defaultdict(list)
    for image in images:
        for at, (url, *_) in enumerate(image.places):
            questions[origin_of(url)].append((image, at))
    path = ShardPlaces(out).evidence(shard)
    no_files = ((origin, list[Mapping[str, Any]]()) for origin in questions)  # where none decides
    for origin, rows in chain(no_files, read_host_files(path) if exists(path) else ()):
        readings: dict[tuple[str, str], list[tuple[Any, float]]] = defaultdict(list)
        for of in rows:
            if file := FILES.get(of["kind"]):
                policy = file.read(of["body"], of["detail"], of["url"], settings)
                readings[file.name, of["url"]].append((policy, of["read_at"].timestamp()))
        for case in islice(product(*readings.values()), _MOST_CASES):
            known = dict(zip(readings, case, strict=True))
            for image, at in questions.get(origin, ()):
                if (answer := _answer(image, at, known, settings)) is not None:
                    image.answers[at].add(answer)
    yield from images


def _answer(
    image: _Image, at: int, known: Mapping[tuple[str, str], tuple[Any, float]], how: FetchSettings
) -> _Answer | None:
    """Statements on a place of an image; None where a file that decides is not known."""
    read_at = [0.0]

    def find(file: HostFile[Any], url: str) -> Any:
        policy, time = known.get((file.name, url), (None, 0.0))
        read_at.append(time)
        return policy

    url, lines, named = image.places[at]
    stated = stated_of(url, named if how.rsl else (), (), how, find)
    if stated is None:
        return None
    after = header_opt_outs(lines, how, how.directives, stated.reserved)
    return _Answer(stated.refusal, max(read_at), stated.opt_outs, after)


def _images_of(out: str, shard: int, settings: FetchSettings) -> Iterator[_Image]:
    places = ShardPlaces(out)
    urls: dict[int, str] = {}
    kept = set[int]()
    for path in (places.sidecar(shard), places.rejected(shard)):
        for batch in read_columns(path, _URLS, _LONGEST) if exists(path) else ():
            batch = batch.filter(batch["url"].is_valid())
            hashes = url_hashes(batch["url"])[0].tolist() if len(batch) else []
            urls |= zip(hashes, batch["url"].to_pylist(), strict=True)
            kept.update(hashes if path == places.sidecar(shard) else ())
    ledger = places.ledger(shard)
    for batch in read_columns(ledger, _ROWS, _LONGEST) if exists(ledger) else ():
        for row in batch.to_pylist():
            said = _said(row, is_kept=row["image"] in kept)
            kept.discard(row["image"])
            if said is not None:
                yield _image(urls.get(row["image"]), row, said)
    for number in kept:  # has no row
        yield _image(urls[number], dict.fromkeys(_ROWS.names), ())


def _said(row: Mapping[str, Any], *, is_kept: bool) -> Verdict | None:
    """The verdict in the dataset; None of an image that nothing came of."""
    if not is_kept:
        if row["reason"] == OPTED_OUT:
            return (row["detail"] or "",)
        if row["reason"] == FETCH_FAILED and row["detail"] in _REFUSALS:
            return (row["detail"],)
        if row["status"] is None:
            return None
    return tuple(filter(None, (row["opted_out"] or "").split(",")))


def _image(url: str | None, row: Mapping[str, Any], said: Verdict) -> _Image:
    target, headers = request_url(url or ""), row["opt_out_headers"]
    places = [*recorded_requests(target, headers or "")] if target else []
    final = request_url(row["final_url"] or "")
    if headers is None and target and final and final != target:
        places.append((final, [], ()))
    return _Image(url or "", row, said, places, [set() for _ in places] or [set()])
