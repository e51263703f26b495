"""`alignset recheck OUT` asks the hosts of a finished dataset again whether its pairs may be used.

1. `_spread`: images go into parts by their host, so that each host is asked in one part.
2. `_ask`: the hosts of a part are asked. `_recheck/` keeps what they say for a day, for a restart.
3. `evidence/` gets what they say, and `recheck.parquet` a row for each pair that is not as it was.
4. `take_out`: a takedown of their keys, whose record names that evidence.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from tqdm import tqdm

from alignset.pipeline.change_dataset import take_down
from alignset.pipeline.command_line import DISTANCES, OPT_OUT, WITHDRAWN
from alignset.pipeline.datasets.find_listed import Listed
from alignset.pipeline.datasets.funnel import most_first
from alignset.pipeline.datasets.reproduce import fetch_settings
from alignset.pipeline.datasets.set_files import read_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_lists import find_blocklists
from alignset.pipeline.options import read_flags
from alignset.pipeline.progress import LINE_S, REDRAWN_S, say
from alignset.pipeline.runs.documents import Evidence, Manifest
from alignset.pipeline.runs.run_lock import take_lock
from alignset.pipeline.runs.work_folder import RECHECKED, WorkFolder
from alignset.pipeline.shown_texts import counted, printable
from alignset.settings import declared_fields
from alignset.transforms.arrivals.host_files import HEADERS, OF_KEY, HostFiles
from alignset.transforms.arrivals.images import Spool
from alignset.transforms.columns.pair_columns import EVIDENCE_FOLDER, opt_out_kind
from alignset.transforms.columns.records import fill_columns, host_of, hosts_of, set_columns
from alignset.transforms.columns.web_urls import origin_of, request_url
from alignset.transforms.fetching.fetch_settings import GONE, FetchSettings
from alignset.transforms.fetching.fetcher import fetch_all
from alignset.transforms.fetching.orders import Fetched, HostAnswer, listed_nowhere
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.files import copy_file, exists, open_to_read, write_atomically
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.workers.threads import map_in_threads

OPTED_OUT, IS_GONE, CHANGED, UNANSWERED = "opted_out", "gone", "changed", "unanswered"
# A pair that is not as it was: one of these outcomes, and why. Where it has opted out, as a file of
# EVIDENCE has it: the URL of a host's file, or the key of an image's header; SHA-256 and time.
FOUND = pa.schema(
    [(name, pa.string()) for name in ("key", "url", "outcome", "detail", "file", "sha256")]
    + [("read_at", pa.timestamp("ms", "UTC"))]
)
_VALIDATORS = ("etag", "last_modified")
_OF_LEDGER = ("final_url", "opt_out_headers", *_VALIDATORS)
_IMAGES = pa.schema(
    [(name, pa.string()) for name in ("key", "url", *_OF_LEDGER)]
    + [("image", pa.uint64()), ("part", pa.int16())]
)
_WORK = "_recheck"  # a folder in the dataset, until all hosts were asked
_KEPT_S = 24 * 3600.0  # as long as RFC 9309 lets a robots.txt be used
_LEAST_PARTS, _MOST_PARTS, _PART_PAIRS = 16, 1024, 10_000
_AT_ONCE = 8  # parts, of which each waits for its slowest host
_OPEN_FILES = 200
_SHOWN_HOSTS = 20
_MAY_BE_GIVEN = {of.name for of in declared_fields(FetchSettings)} - {"images_from", "opt_outs"}


def _settings_of(manifest: Manifest, words: Sequence[str], name: str) -> FetchSettings:
    """How hosts were asked, but for the given flags."""
    given, others, _ = read_flags(words, name)
    if refused := [*others, *(f"--{of}" for of in sorted(given.keys() - _MAY_BE_GIVEN))]:
        raise UsageError(
            f"{refused[0]}: recheck takes flags of fetching and opt-outs, and its own; see --help"
        )
    # Whoever made a dataset does not decide that this machine's network is open.
    how = {"allow_private_addresses": False} | given | {"opt_outs": "reject"}
    return fetch_settings(manifest, how)


def recheck(
    out: str, words: Sequence[str], name: str, *, images: bool, taking: Sequence[str]
) -> tuple[pa.Table, int]:
    """Asks the hosts of a finished dataset, unless the same was asked within a day.

    Args:
      words: flags of fetching. images: whether each image is asked for by HEAD too.
      taking: the flags by which pairs are then taken out; none where they are not.

    Returns:
      FOUND, by key; and how many pairs the dataset has.

    Raises:
      UsageError: there is no such dataset, something else is under way in it, or a wrong flag.
    """
    manifest, path = read_set(out)[0], f"{out}/{RECHECKED}"
    if manifest.job["text_only"]:
        raise UsageError(f"{out} has no images: --text_only fetched none")
    settings = _settings_of(manifest, words, name)
    if WorkFolder(f"{out}/_temporary").find_change(out, "recheck", taking) and exists(path):
        return read_rows(path), manifest.pairs  # which is being taken out
    with open_to_read(f"{out}/manifest.json") as source:
        told: list[Any] = [hashlib.sha256(source.read()).hexdigest(), images]
    decide = [of.name for of in declared_fields(FetchSettings) if of.metadata["decides"]]
    told += [getattr(settings, of) for of in decide]
    run = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    found = _read(path, run)
    if found is not None:
        say(f"no host is asked again: {path} is less than a day old; delete it to ask now")
        return found, manifest.pairs
    work = f"{out}/{_WORK}"
    lock, done = take_lock(work, uuid.uuid4().hex[:12]), False
    try:
        with tempfile.TemporaryDirectory(prefix="alignset-recheck-") as folder:
            found = _Recheck(out, manifest, settings, images, run, folder).ask_all()
        _write(path, found)
        WorkFolder(work).clean(work)
        done = True
    finally:
        lock.release(done=done)
    return found, manifest.pairs


def _read(path: str, run: str) -> pa.Table | None:
    """FOUND that the same recheck wrote within a day; None where there is none."""
    with suppress(BrokenInputError, FileNotFoundError, ValueError, KeyError):
        rows = read_rows(path)
        notes = rows.schema.metadata or {}
        is_fresh = 0 <= time.time() - float(notes[b"asked_at"]) < _KEPT_S
        if is_fresh and notes[b"run"] == run.encode() and rows.schema.equals(FOUND):
            return rows
    return None


def _write(path: str, rows: pa.Table) -> None:
    write_atomically(path, lambda sink: pq.write_table(rows, sink, compression="zstd"))


@dataclass(frozen=True)
class _Recheck:
    """A recheck that is under way.

    Attributes:
      run: names it. folder: a local one, of parts.
    """

    out: str
    manifest: Manifest
    settings: FetchSettings
    images: bool
    run: str
    folder: str

    def ask_all(self) -> pa.Table:
        """Asks the hosts of all parts, and shows how far it is; returns FOUND."""
        total, start = self.manifest.pairs, time.monotonic()
        say(f"asking the hosts {'and images ' * self.images}of {counted(total, 'pair')} again")
        parts, found = self._spread(), [FOUND.empty_table()]
        how = {"unit": " pairs", "leave": False, "mininterval": REDRAWN_S, "dynamic_ncols": True}
        pool, bar = ThreadPoolExecutor(_AT_ONCE), tqdm(total=total, disable=None, **how)
        lock, done, due_s = Lock(), 0, LINE_S

        def advance(pairs: int) -> None:
            nonlocal done, due_s
            with lock:
                done += pairs
                bar.update(pairs)
                if bar.disable and time.monotonic() - start >= due_s:
                    say(f"asked about {done:,} of {counted(total, 'pair')}")
                    due_s += LINE_S

        try:
            found += pool.map(partial(self._ask, advance=advance), parts)
        finally:
            bar.close()
            pool.shutdown(wait=False, cancel_futures=True)
        say(f"asked about {counted(total, 'pair')}, {time.monotonic() - start:.1f} s")
        asked_at = min((of.schema.metadata[b"asked_at"] for of in found[1:]), default=b"0")
        notes = {"run": self.run, "asked_at": asked_at}
        return pa.concat_tables(found).sort_by("key").replace_schema_metadata(notes)

    def _spread(self) -> list[str]:
        """Writes the images of each part, all of some hosts, to a folder; returns their names."""
        count = min(max(self.manifest.pairs // _PART_PAIRS, _LEAST_PARTS), _MOST_PARTS)
        shards = map_in_threads(partial(self._images_of, parts=count), self.manifest.holding)
        ds.write_dataset(
            (batch for table in shards for batch in table.to_batches()),
            self.folder,
            schema=_IMAGES,
            format="parquet",
            partitioning=ds.partitioning(pa.schema([_IMAGES.field("part")])),
            max_open_files=_OPEN_FILES,
            min_rows_per_group=1_000,
        )
        return sorted(path.name for path in Path(self.folder).iterdir())

    def _images_of(self, shard: int, parts: int) -> pa.Table:
        """The pairs of a shard with what its ledger knows of their images, as _IMAGES."""
        places = ShardPlaces(self.out)
        rows = read_rows(places.sidecar(shard), ["key", "url"])
        urls = pc.fill_null(rows["url"], "").combine_chunks()
        hosts, images = hosts_of(urls).dictionary_encode(), pa.array(url_hashes(urls)[0])
        numbers = [zlib.crc32(host.encode()) % parts for host in hosts.dictionary.to_pylist()]
        part = pa.array(numbers, pa.int16()).take(hosts.indices)
        columns = {"key": rows["key"], "url": urls, "image": images, "part": part}
        if exists(path := places.ledger(shard)):  # which version 0.2 did not write
            ledger = read_rows(path, ["image", *_OF_LEDGER])
            at = pc.index_in(images, ledger["image"].combine_chunks())
            columns |= {of: ledger[of].take(at) for of in _OF_LEDGER}
        return fill_columns(_IMAGES, columns, len(rows))

    def _ask(self, part: str, advance: Callable[[int], object]) -> pa.Table:
        """Asks the hosts of a part, where that is not done; returns FOUND."""
        pairs = ds.dataset(f"{self.folder}/{part}").to_table()
        path, asked_at = f"{self.out}/{_WORK}/{part}.parquet", str(time.time())
        if (found := _read(path, self.run)) is not None:
            advance(len(pairs))
            return found
        _, first, image_of = np.unique(pairs["image"], return_index=True, return_inverse=True)
        pairs_of, images = np.bincount(image_of).tolist(), pairs.take(first)
        urls, outcomes = images["url"].to_pylist(), [dict[str, Any]()] * len(images)
        brought = pc.coalesce(images["final_url"], images["url"]).to_pylist()
        before = images.select(["key", *_VALIDATORS]).to_pylist()
        known = {} if self.images else dict(enumerate(brought))
        records = dict(enumerate(pc.fill_null(images["opt_out_headers"], "").to_pylist()))
        aside = Path(self.folder, part)
        with closing(Spool(aside / "spool")) as spool:
            files = HostFiles(spool)
            how = self.settings, None, listed_nowhere, known, files.note, records
            for came in fetch_all(urls, *how, by_head=True):
                row = outcomes[came.index] = _outcome(came, before[came.index])
                if row.get("outcome") == OPTED_OUT and not came.file_of:
                    row["file"] = f"{OF_KEY}{before[came.index]['key']}"
                    body = zlib.compress((came.headers or "").encode("latin-1", "replace"))
                    answer = HostAnswer(HEADERS, row["file"], None, None, time.time(), body)
                    files.note(origin_of(request_url(urls[came.index]) or ""), answer)
                advance(pairs_of[came.index])
            files.write(aside / "files")
        found = pa.Table.from_pylist(outcomes, FOUND)
        if exists(f"{aside}/files"):
            read = read_rows(f"{aside}/files", ["url", "sha256", "read_at"])
            read = read.filter(read["sha256"].is_valid()).sort_by([("read_at", "descending")])
            at = pc.index_in(found["file"], read["url"].combine_chunks())
            found = set_columns(
                found, {name: read[name].take(at) for name in ("sha256", "read_at")}
            )
            if self.settings.evidence:
                name = f"{EVIDENCE_FOLDER}/recheck-{self.run[:12]}-{part}.parquet"
                copy_file(f"{aside}/files", f"{self.out}/{name}")
        found = found.take(pa.array(image_of))
        found = set_columns(found, {name: pairs[name] for name in ("key", "url")})
        found = found.filter(found["outcome"].is_valid())
        found = found.replace_schema_metadata({"run": self.run, "asked_at": asked_at})
        if not pc.any(pc.equal(found["detail"], "deadline")).as_py():  # else a restart asks again
            _write(path, found)
        return found


def _outcome(came: Fetched, before: Mapping[str, str | None]) -> dict[str, Any]:
    """Columns of FOUND for an image; none where it is as it was.

    Args:
      before: its validators.
    """
    if opt_out_kind(came.detail):
        return {"detail": came.detail, "outcome": OPTED_OUT, "file": came.file_of}
    if came.detail is not None:
        return {"detail": came.detail, "outcome": IS_GONE if came.detail in GONE else UNANSWERED}
    for name in _VALIDATORS if came.answer else ():
        # The first that both have tells.
        if (old := before[name]) and (new := getattr(came.answer, name)):
            is_changed = old.removeprefix("W/") != new.removeprefix("W/")
            return {"outcome": CHANGED, "detail": name} if is_changed else {}
    return {}


def summary(found: pa.Table, pairs: int) -> Iterator[str]:
    """Tells what was found, in lines.

    Args:
      found: FOUND. pairs: of the dataset.
    """
    hosts = hosts_of(found["url"].combine_chunks())
    columns = ["outcome", "host", "detail"]
    counts = found.append_column("host", hosts).group_by(columns).aggregate([([], "count_all")])
    for outcome, words in (
        (OPTED_OUT, "opted out since"),
        (IS_GONE, "gone"),
        (CHANGED, "changed"),
        (UNANSWERED, "unanswered, which says nothing, so they stay"),
    ):
        of_hosts: dict[str, Counter[str]] = {}
        for row in counts.filter(pc.equal(counts["outcome"], outcome)).to_pylist():
            of_hosts.setdefault(row["host"], Counter())[row["detail"]] = row["count_all"]
        total = sum(map(Counter.total, of_hosts.values()))
        yield f"{words}: {counted(total, 'pair')} of {counted(len(of_hosts), 'host')}"
        by_size = sorted(of_hosts.items(), key=lambda item: (-item[1].total(), item[0]))
        for host, details in by_size[:_SHOWN_HOSTS]:
            why = ", ".join(f"{detail} {count:,}" for detail, count in most_first(details).items())
            yield f"  {printable(host)}: {why}"
        if more := len(by_size[_SHOWN_HOSTS:]):
            yield f"  and {counted(more, 'further host')}"
    yield f"as they were: {pairs - len(found):,} of {counted(pairs, 'pair')}"


def take_out(
    out: str, found: pa.Table, taking: Sequence[str], *, gone: bool, sure: bool
) -> Listed | None:
    """Takes the pairs that opted out of a dataset; None where there is none.

    Args:
      found: FOUND. taking: flags of the command. gone: whether pairs go too whose image is gone.
      sure: whether more than half of the pairs may go.

    Raises:
      UsageError: as `take_down`.
    """
    keys: dict[str, list[str]] = {}
    files: dict[tuple[str, str], Evidence] = {}
    rows = found.filter(pc.is_in(found["outcome"], pa.array([OPTED_OUT, IS_GONE][: 1 + gone])))
    for row in rows.to_pylist():
        keys.setdefault(row["detail"].partition(":")[0], []).append(f"key:{row['key']}\n")
        if row["file"]:
            of = host_of(row["url" if row["file"].startswith(OF_KEY) else "file"]), row["sha256"]
            read_at = row["read_at"].isoformat(timespec="seconds")
            before = files.get(of) or Evidence(row["file"], row["sha256"], read_at, 0)
            files[of] = replace(before, pairs=before.pairs + 1)
    if not keys:
        return None
    with tempfile.TemporaryDirectory(prefix="alignset-recheck-") as folder:
        for kind, lines in keys.items():
            Path(folder, kind).write_text("".join(lines))
        named = ",".join(f"recheck-{kind}={folder}/{kind}" for kind in sorted(keys))
        lists, why = find_blocklists(named, *DISTANCES.values()), WITHDRAWN if gone else OPT_OUT
        evidence = [*files.values()]
        return take_down(
            out, lists, forget=False, reason=why, sure=sure, recheck=taking, evidence=evidence
        )
