"""A blocklist, read and written as files of arrays, which all workers of a machine map and share:
text of `kind:value` lines, CSV, TSV, Parquet, or a dataset's `taken_down.u64`."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.kinds import KEY, KINDS, ListError
from alignset.transforms.blocklists.targets import LONGEST, phrase_hashes, target_of
from alignset.transforms.columns.hashing import Bools, UInt64s, string_hashes
from alignset.transforms.columns.records import key_column
from alignset.transforms.images.file_formats import signature_format
from alignset.transforms.storage.files import local_copy, write_atomically

_PIECE = 1 << 22  # bytes of a text file read at once
_LONGEST_LINE = 1 << 16
_SHOWN = 80  # characters of a value in a message
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
NAMED = ", ".join(f"{kind}:" for kind in KINDS)


class Entries(NamedTuple):
    """Some entries of one kind.

    Fields:
      values: string[n], as they are written, trimmed; none is empty.
      places: int64[n], the line or row that each stands in, from 1, ascending.
      origin: the file, and whether it has lines or rows, as in "list.txt, line".
    """

    kind: str
    values: pa.StringArray
    places: pa.Int64Array
    origin: str

    def filter(self, rows: Bools) -> Entries:
        """Only some of them: bool[n]."""
        mask = pa.array(rows)
        values, places = self.values.filter(mask), self.places.filter(mask)
        return self._replace(values=values, places=places)

    def refuse(self, rows: Bools, what: str) -> None:
        """Raises ListError where an entry is wrong: bool[n]."""
        count = int(rows.sum())
        if not count:
            return
        first = int(rows.argmax())
        value, place = self.values[first].as_py(), self.places[first].as_py()
        text = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
        more = f" ({count - 1:,} more are wrong, too)" if count > 1 else ""
        raise ListError(f"{self.origin} {place:,}: {text!r} {what}{more}")


def format_of_list(path: str) -> str:
    """ "parquet", "csv", "tsv", "u64" or "text", by a file's name."""
    name = Path(path).name.lower()
    for ending in (".gz", ".zst", ".zstd"):
        name = name.removesuffix(ending)
    suffix = Path(name).suffix
    return suffix[1:] if suffix in (".parquet", ".csv", ".tsv", ".u64") else "text"


def read_entries(path: str, local: str) -> Iterator[Entries]:
    """The entries of a list, some thousands at a time.

    Args:
      path: as it was given, for messages. local: where the file is on this machine.

    Raises:
      ListError: the file is not of its format, none of its columns has a name that is known, or a
        line is not an entry.
    """
    kind = format_of_list(path)
    try:
        if kind == "parquet":
            with pq.ParquetFile(local) as file:
                columns = _list_columns(path, file.schema_arrow.names)
                yield from _read_batches(file.iter_batches(1 << 16, columns=columns), path)
        elif kind == "text":
            _check_no_image(path, local)
            with _opened(local) as source:
                yield from _read_lines(source, path)
        elif kind == "u64":
            with _opened(local) as source:
                yield from _read_keys(source, path)
        else:
            delimiter = "," if kind == "csv" else "\t"
            yield from _read_batches(_csv_batches(path, local, delimiter), path)
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        reason = str(error).splitlines()[0]
        raise ListError(f"the blocklist {path} cannot be read as {kind}: {reason}") from error


def _check_no_image(path: str, local: str) -> None:
    with open(local, "rb") as file:
        kind = signature_format(file.read(64))
    if kind:
        raise ListError(f"{path} is an image, {kind}: to list it pass --blocklist=image:{path}")


def _opened(local: str) -> Any:
    """A file, decompressed by what it begins with."""
    with open(local, "rb") as file:
        start = file.read(4)
    for magic, codec in _MAGIC.items():
        if start.startswith(magic):
            return pa.CompressedInputStream(pa.OSFile(local), codec)
    return open(local, "rb")


def _read_lines(source: BinaryIO, path: str) -> Iterator[Entries]:
    rest, lines_before = source.read(3).removeprefix(b"\xef\xbb\xbf"), 0
    while piece := source.read(_PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        yield from _split_kinds(lines, lines_before, path)
        lines_before += len(lines)
        if len(rest) > _LONGEST_LINE:
            raise ListError(
                f"{path}, line {lines_before + 1:,}: {rest[:_SHOWN].decode('utf-8', 'replace')!r} "
                f"begins a line of more than {_LONGEST_LINE:,} bytes, which is not an entry"
            )
    yield from _split_kinds([rest], lines_before, path)


def _read_keys(source: BinaryIO, path: str) -> Iterator[Entries]:
    """Keys of pairs that are written as little-endian uint64."""
    rows_before = 0
    while piece := source.read(_PIECE):
        if len(piece) % 8:
            raise ListError(f"the blocklist {path} has not 8 bytes for each key: it is cut short")
        keys = key_column(np.frombuffer(piece, "<u8").astype(np.uint64))
        places = pa.array(np.arange(len(keys)) + rows_before + 1)
        rows_before += len(keys)
        yield Entries(KEY, keys, places, f"{path}, key")


def _split_kinds(lines: list[bytes], lines_before: int, path: str) -> Iterator[Entries]:
    """Entries by kind; lines_before: lines of the file before these."""
    try:
        text = pa.array(lines, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        text = pa.array([line.decode("utf-8", "replace") for line in lines], pa.string())
        is_broken = np.array(["\ufffd" in line for line in text.to_pylist()])
    else:
        is_broken = np.zeros(len(lines), np.bool_)
    places = pa.array(np.arange(len(lines)) + lines_before + 1)
    every = Entries("", pc.utf8_trim_whitespace(text), places, f"{path}, line")
    is_skipped = _marks(pc.or_(pc.equal(every.values, ""), pc.starts_with(every.values, "#")))
    lengths = np.fromiter(map(len, lines), np.int64, len(lines))
    every.refuse(lengths > _LONGEST_LINE, f"is longer than {_LONGEST_LINE:,} bytes")
    every.refuse(is_broken & ~is_skipped, "is not UTF-8; write it as UTF-8")
    every = every.filter(~is_skipped)
    for kind in KINDS:
        rows = _marks(pc.starts_with(every.values, f"{kind}:", ignore_case=True))
        entries, every = every.filter(rows), every.filter(~rows)
        values = pc.utf8_slice_codeunits(entries.values, len(kind) + 1)
        entries = entries._replace(kind=kind, values=pc.utf8_trim_whitespace(values))
        entries.refuse(_marks(pc.equal(entries.values, "")), f"has nothing behind {kind}:")
        if len(entries.values):
            yield entries
    message = f"does not begin with any of {NAMED}; images are given as --blocklist=image:PATH"
    every.refuse(np.ones(len(every.values), np.bool_), message)


def _marks(marks: pa.BooleanArray) -> Bools:
    return np.asarray(marks.to_numpy(zero_copy_only=False))


def _read_batches(batches: Iterator[pa.RecordBatch], path: str) -> Iterator[Entries]:
    rows_before = 0
    for batch in batches:
        places = pa.array(np.arange(len(batch)) + rows_before + 1)
        rows_before += len(batch)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            values = pc.utf8_trim_whitespace(pc.fill_null(_entry_strings(column), ""))
            entries = Entries(name.strip().lower(), values, places, f"{path}, row")
            entries = entries.filter(_marks(pc.not_equal(values, "")))
            if len(entries.values):
                yield entries


def _entry_strings(column: pa.Array) -> pa.StringArray:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_uint64(column.type):  # keys and perceptual hashes as numbers
        digits = key_column(pc.fill_null(column, 0).to_numpy())
        return pc.if_else(column.is_valid(), digits, pa.scalar(None, pa.string()))
    if pa.types.is_large_binary(column.type):
        column = column.cast(pa.binary())
    if pa.types.is_binary(column.type) or pa.types.is_fixed_size_binary(column.type):
        raw = column.to_pylist()  # digests as they are
        return pa.array([body if body is None else body.hex() for body in raw], pa.string())
    strings = column.cast(pa.string())
    strings.validate(full=True)  # a Parquet file may hold any bytes as a string
    return strings


def _list_columns(path: str, names: list[str]) -> list[str]:
    columns = [name for name in names if name.strip().lower() in KINDS]
    if not columns:
        examples = ", ".join(repr(name[:_SHOWN]) for name in names[:5]) or "none"
        raise ListError(
            f"the blocklist {path} has no column that is named {', '.join(KINDS)}; got {examples}"
        )
    return columns


def _csv_batches(path: str, local: str, delimiter: str) -> Iterator[pa.RecordBatch]:
    with _opened(local) as source:
        head = source.read(_LONGEST_LINE).removeprefix(b"\xef\xbb\xbf").splitlines() or [b""]
    names = next(
        csv.reader(io.StringIO(head[0].decode("utf-8", "replace")), delimiter=delimiter), []
    )
    columns = _list_columns(path, names)
    with _opened(local) as source:
        reader = pacsv.open_csv(
            source,
            pacsv.ReadOptions(block_size=_PIECE),
            pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=columns,
                strings_can_be_null=False,
            ),
        )
        yield from reader


_PLAIN_HOST = r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.[a-z_-][a-z0-9_-]*$"
_SCHEME = re.compile("[a-z][a-z0-9+.-]*://", re.I)
# No URL has a host with one of these, so such an entry would block nothing.
_WILD = re.compile(r"[*\x00-\x1f]")
_NO_HOST = (
    "is not a host: write a name or an address, without a scheme, a port, a path or an asterisk"
)
_TOO_WIDE = "is a public suffix and would block too much: name the domains"


def hashed(entries: Entries) -> UInt64s:
    """The hashes of hosts, domains, URLs or prefixes: uint64[n].

    Raises:
      ListError: one is not what its kind says, as in all functions here.
    """
    is_host = entries.kind in (k.HOST, k.DOMAIN)
    return string_hashes(_hosts(entries) if is_host else _targets(entries))


def phrases(entries: Entries) -> tuple[UInt64s, int]:
    """The hashes of words and phrases, uint64[n], and how many words the longest has."""
    hashes, words = phrase_hashes(entries.values)
    entries.refuse((words == 0) | (words > LONGEST), f"must have 1 to {LONGEST} words")
    return hashes, int(words.max(initial=0))


def digests(entries: Entries) -> UInt64s:
    """Values that are written as hex digits, by their last words: uint64[n, w].

    Perceptual hashes are whole, and of keys and digests of files the last word tells them apart.
    """
    size = k.DIGEST_BYTES[entries.kind]
    good = pc.match_substring_regex(entries.values, f"^[0-9a-fA-F]{{{2 * size}}}$")
    what = f"must have {2 * size} hex digits to be {entries.kind}"
    entries.refuse(~good.to_numpy(zero_copy_only=False), what)
    digits = "".join(entries.values.to_pylist())
    rows = np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(-1, size)
    words = size // 8 if entries.kind in k.OF_PICTURES else 1
    return np.ascontiguousarray(rows[:, -8 * words :]).view(">u8").astype(np.uint64)


def _targets(entries: Entries) -> pa.StringArray:
    values = [url_value(value) for value in entries.values.to_pylist()]
    entries.refuse(np.array([value is None for value in values]), "is not an http(s) URL")
    return pa.array(values, pa.string())


def url_value(value: str) -> str | None:
    """The target that a URL stands for, which may lack its scheme; None where it is none."""
    if value.startswith(("/", "\\")):
        return None
    target = target_of(value if _SCHEME.match(value) else f"http://{value}")
    if target is None or not target[0] or _WILD.search(target[0]):
        return None
    return "".join(target)


def host_value(value: str) -> str | None:
    """A host as targets have it; None where it is none."""
    if re.search(r"[/?#@\\\s%*\x00]", value) or (":" in value and not value.startswith("[")):
        return None
    target = target_of(f"http://{value}/")
    return target[0] if target and target[1] == "/" and target[0] else None


@lru_cache(maxsize=1)
def public_suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList  # of the extra blocklists

    return PublicSuffixList(only_icann=True)


def _hosts(entries: Entries) -> pa.StringArray:
    values = entries.values
    if entries.kind == k.DOMAIN:
        values = pc.replace_substring_regex(values, r"^\*?\.", "")
    plain = pc.match_substring_regex(values, _PLAIN_HOST).to_numpy(zero_copy_only=False)
    hosts = values.to_pylist()
    for row in np.flatnonzero(~plain):
        hosts[row] = host_value(hosts[row])
    entries.refuse(np.array([host is None for host in hosts]), _NO_HOST)
    if entries.kind == k.DOMAIN:
        # Public suffixes of ICANN's, such as com or co.uk.
        is_public = public_suffixes().is_public
        wide = [not host.startswith("[") and bool(is_public(host)) for host in hosts]
        entries.refuse(np.array(wide), _TOO_WIDE)
    return pa.array(hosts, pa.string())


_FORMAT = "3"  # of the arrays: a run that another version began has other files


@dataclass(frozen=True)
class CompiledList:
    """A list, and where its arrays are.

    Attributes:
      name: that the user gave, or `list_name`. sha256: of the file as it was given, in hex.
      entries: how many it has of each kind.
      stem: what the paths of the files of its arrays begin with; they end in the kind.
      longest_phrase: words. prefix_sizes: how many bytes prefixes have, ascending.
      files: the paths of images, of a list of these.
    """

    name: str
    sha256: str
    entries: dict[str, int] = field(hash=False)
    stem: str
    longest_phrase: int = 0
    prefix_sizes: tuple[int, ...] = ()
    files: tuple[str, ...] = ()

    def path(self, kind: str) -> str:
        """The path of an array."""
        return f"{self.stem}-{kind}.npy"

    def array(self, kind: str) -> Any:
        """One of its arrays, mapped: uint64[n], ascending; uint64[w, n] of perceptual hashes;
        uint8[n, 2, 64, 64] of images."""
        return np.load(local_copy(self.path(kind)), mmap_mode="r").view(np.ndarray)


def compile_list(path: str, folder: str) -> CompiledList:
    """Reads a list, checks each of its entries, and writes its arrays.

    Args:
      path: of the list, in a store too. folder: where the files of arrays go, which are named by
        the list's SHA-256.

    Raises:
      ListError: it is not a blocklist, or has no entry; says what to do.
      FileNotFoundError: it is not there.
    """
    local = local_copy(path)
    with Path(local).open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    parts: dict[str, list[UInt64s]] = {kind: [] for kind in k.KINDS}
    longest, sizes = 0, set[int]()
    for entries in read_entries(path, local):
        if entries.kind == k.TEXT:
            part, words = phrases(entries)
            longest = max(longest, words)
        elif entries.kind in k.DIGEST_BYTES:
            part = digests(entries)
        else:
            part = hashed(entries)
            if entries.kind == k.PREFIX:
                sizes.update(pc.binary_length(_targets(entries)).to_pylist())
        parts[entries.kind].append(part)
    counts = {kind: sum(map(len, some)) for kind, some in parts.items() if some}
    if not counts:
        raise ListError(f"the blocklist {path} has no entry: leave it out, or write some")
    arrays = {}
    for kind in counts:
        rows = np.concatenate(parts[kind])
        arrays[kind] = np.unique(rows, axis=0).T if kind in k.OF_PICTURES else np.unique(rows)
    stem = _write(arrays, folder, sha256)
    return CompiledList(list_name(sha256), sha256, counts, stem, longest, tuple(sorted(sizes)))


def compile_images(path: str, folder: str) -> CompiledList:
    """The same of an image, or of a folder of images.

    Raises:
      ListError: there is no image, or one cannot be decoded.
    """
    from alignset.transforms.blocklists.listed_images import (
        read_images,
    )  # decoders, for these alone

    paths, all_digests, thumbnails = read_images(path)
    members = np.unique(all_digests.view("S32").ravel())
    sha256, count = hashlib.sha256(members.tobytes()).hexdigest(), len(paths)
    words = all_digests[:, -8:].copy().view(">u8").astype(np.uint64)
    stem = _write({k.SHA256: np.unique(words), k.IMAGE: thumbnails}, folder, sha256)
    entries = {k.SHA256: count, k.IMAGE: count}
    return CompiledList(list_name(sha256), sha256, entries, stem, files=tuple(paths))


def list_name(sha256: str) -> str:
    """The name of a list whose user gave none. A dataset is published with it, and a file's name
    may be the very name that is to be forgotten."""
    return f"list-{sha256[:8]}"


def _write(arrays: Mapping[str, np.ndarray], folder: str, sha256: str) -> str:
    stem = f"{folder}/{_FORMAT}-{sha256[:32]}"
    for kind, array in arrays.items():
        write_atomically(f"{stem}-{kind}.npy", partial(np.save, arr=np.ascontiguousarray(array)))
    return stem
