"""Whether the files of a finished dataset are what its manifest, one another and its funnel say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import BinaryIO

import msgspec
import numpy as np
import pyarrow as pa

from alignset.pipeline.datasets.numbers import count_pairs, hex_numbers
from alignset.pipeline.datasets.set_files import manifest_of_steps, read_set
from alignset.pipeline.documents.describe import closing_funnel
from alignset.pipeline.documents.hand_edits import GENERATED
from alignset.pipeline.public_files import sha256_of
from alignset.pipeline.report.page import REPORT
from alignset.pipeline.runs.documents import Manifest, ShardEntry
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.pair_columns import EVIDENCE_FOLDER, LEDGERS
from alignset.transforms.corpus.corpus_documents import NAME as VOCABULARY
from alignset.transforms.shards.shard_files import METADATA, SHARD_SCHEMA
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.broken_files import broken_file
from alignset.transforms.storage.documents import read_document
from alignset.transforms.storage.files import PIECE, exists, match, open_to_read
from alignset.transforms.storage.parquet_files import read_columns, schema_of
from alignset.transforms.storage.tar_members import members_of_stream
from alignset.transforms.workers.threads import map_in_threads

_ENDS = {REPORT: b"</html>", "funnel.svg": b"</svg>\n"}  # of pages that nobody edits
_LONGEST = 1 << 20  # bytes of KEY.json and KEY.txt, and characters of a column, that are compared


@dataclass
class Verified:
    """Faults and sums of the files of a dataset.

    Attributes:
      out: its folder. faults: a file, and what is wrong with it. sha256: of each tar.
      unlisted: dropped pairs that `rejected/` does not list, as in a published copy.
    """

    out: str
    pairs: int = 0
    unlisted: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)

    def note(self, path: str, what: str) -> None:
        """Adds a fault."""
        self.faults.append((path.removeprefix(f"{self.out}/"), what))

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Within, an error for what is in a file is a fault of it."""
        try:
            yield
        except (ValueError, OSError, RuntimeError) as error:
            fault = broken_file(path, error)
            if fault is None and isinstance(error, OSError):
                raise
            self.note(path, fault.fault if fault else str(error))


def verify(out: str) -> Verified:
    """Verifies a dataset, and writes nothing. It takes 50 bytes of memory a pair.

    Raises:
      UsageError: the dataset is not finished, or a command on it was stopped.
    """
    manifest, funnel = manifest_of_steps(out), None
    if manifest is None:
        manifest, funnel = read_set(out)
    WorkFolder(f"{out}/_temporary").refuse_stopped(out)
    places, found = ShardPlaces(out), Verified(out, manifest.pairs)
    entries, holding = manifest.entries, manifest.holding
    named = {*map(places.stats, entries), *map(places.tar, holding), *map(places.sidecar, holding)}
    for path in (path for folder in places.folders for path, _ in match(folder)):
        if path not in named:
            found.note(path, "the manifest does not name it")
    _check_others(found, manifest)
    files = [places.sidecar(number) for number in entries]
    each = map_in_threads(lambda of: _read_shard(found, places, *of), entries.items())
    if manifest.job["text_only"]:
        files = [path for path, _ in match(f"{out}/pairs")]
        each = map_in_threads(lambda path: _keys(found, path)[0], files)
    parts = [*each]
    keys = np.concatenate([np.zeros(0, np.uint64), *parts])
    file_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(keys, kind="stable")
    for at in np.flatnonzero(keys[order[1:]] == keys[order[:-1]]).tolist():
        first, again = (files[file_of[order[n]]].removeprefix(f"{out}/") for n in (at, at + 1))
        found.note(again, f"key {keys[order[at]]:016x} is also in {first}")
    if funnel is None or found.faults:  # each fault would be told again
        return found
    with found.reading("funnel.json"):
        counts = count_pairs(out)
        found.unlisted = int(manifest.rows or 0) - counts.pairs - counts.rejected_rows
        if found.unlisted > 0 and match(f"{out}/{GENERATED}"):  # which no published copy has
            found.note(f"{out}/rejected", f"it lacks {found.unlisted:,} dropped pairs")
        here = msgspec.to_builtins(closing_funnel(out, manifest, counts, funnel, {}))
        for name, said in msgspec.to_builtins(funnel).items():
            if here.get(name) != said:
                found.note("funnel.json", f"{name} is not what the files count")
        if counts.pairs != manifest.pairs:
            found.note("manifest.json", f"pairs is {manifest.pairs}; the files have {counts.pairs}")
    return found


def _check_others(found: Verified, manifest: Manifest) -> None:
    """Finds pages that are cut off, whatever people edited in them, another vocabulary, and ledgers
    and evidence that cannot be read."""
    for path in (
        of for name in (LEDGERS, EVIDENCE_FOLDER) for of, _ in match(f"{found.out}/{name}")
    ):
        with found.reading(path):
            schema_of(path)
    for base, _ in match(f"{found.out}/{GENERATED}"):
        page = f"{found.out}/{base.rpartition('/')[2]}"
        here, whole = (_read(path) if exists(path) else b"" for path in (page, base))
        if here != whole and whole.startswith(here):
            found.note(page, f"it has the first {len(here):,} of {len(whole):,} bytes")
    for name, end in _ENDS.items():
        if exists(path := f"{found.out}/{name}") and not _read(path).endswith(end):
            found.note(path, "its end is missing")
    file = manifest.vocabulary.file
    if file and file.path == VOCABULARY:
        with found.reading(path := f"{found.out}/{VOCABULARY}"):
            if sha256_of(path) != file.sha256:
                found.note(path, "its SHA-256 is not as in the manifest")


def _read(path: str) -> bytes:
    with open_to_read(path) as source:
        return source.read()


def _keys(found: Verified, sidecar: str) -> tuple[UInt64s, list[pa.RecordBatch]]:
    """The keys in a file of kept pairs, and the columns that KEY.json has too."""
    keys, batches = [np.zeros(0, np.uint64)], list[pa.RecordBatch]()
    with found.reading(sidecar):
        there = {*schema_of(sidecar).names}
        wanted = pa.schema([SHARD_SCHEMA.field(name) for name in METADATA if name in there])
        batches += read_columns(sidecar, wanted, _LONGEST)
        keys += [hex_numbers(rows["key"])[0] for rows in batches]
    return np.concatenate(keys), batches


def _read_shard(found: Verified, places: ShardPlaces, number: int, entry: ShardEntry) -> UInt64s:
    """Compares the files of a shard with the manifest and with one another; returns its keys."""
    stats, sidecar, tar = places.stats(number), places.sidecar(number), places.tar(number)
    with found.reading(stats):
        said = read_document(stats, ShardStats)
        if (said.successes, said.sha256) != (entry.pairs, entry.sha256):
            found.note(stats, "its counts or SHA-256 are not as in the manifest")
    if not entry.pairs:
        return np.zeros(0, np.uint64)
    keys, batches = _keys(found, sidecar)
    if batches and len(keys) != entry.pairs:
        found.note(sidecar, f"it has {len(keys):,} rows; the manifest {entry.pairs:,} pairs")
    with found.reading(tar), open_to_read(tar) as source:
        stream = _HashedFile(source)
        with found.reading(tar):
            if difference := batches and _difference(stream, batches):
                found.note(sidecar, difference)
        stream.skip(1 << 62)
        digest = found.sha256[tar.removeprefix(f"{found.out}/")] = stream.sha256.hexdigest()
        if digest != entry.sha256:
            found.note(tar, f"its SHA-256 is {digest}; the manifest has {entry.sha256}")
    return keys


class _HashedFile:
    """A file as a TarStream, all of whose bytes are hashed."""

    size: int | None = None

    def __init__(self, source: BinaryIO) -> None:
        self._source, self.at, self.sha256 = source, 0, hashlib.sha256()

    def read(self, count: int) -> bytes:
        data = self._source.read(count)
        self.at += len(data)
        self.sha256.update(data)
        return data

    def skip(self, count: int) -> None:
        while count and (data := self.read(min(count, PIECE))):
            count -= len(data)


def _difference(stream: _HashedFile, batches: list[pa.RecordBatch]) -> str | None:
    """The first difference between the samples of a tar and the rows of its sidecar, in order."""
    rows = (row for batch in batches for row in batch.to_pylist())
    members = groupby(members_of_stream(stream), lambda of: of.name.partition(".")[0])
    for sample, row in zip_longest(members, rows):
        key, files = sample[0] if sample else None, dict[str, bytes]()
        for of in sample[1] if sample else ():
            is_image = not of.name.endswith((".json", ".txt"))
            files[of.name.partition(".")[2]] = stream.read(
                0 if is_image else min(of.size, _LONGEST)
            )
        if row is None or key != row["key"]:
            return f"the tar has the key {key} where it has {row and row['key']}"
        if len(files) != 3 or not files.keys() >= {"json", "txt"}:
            return f"the tar has the files {', '.join(files)} of {key}"
        said = json.loads(files["json"])
        if not isinstance(said, dict):
            return f"the tar has no object in the KEY.json of {key}"
        said["caption"] = files["txt"].decode()
        if wrong := [name for name, value in row.items() if said.get(name, value) != value]:
            return f"the tar has another {', '.join(wrong)} of {key}"
    return None
