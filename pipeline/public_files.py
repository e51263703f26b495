"""The files of a dataset that may be published, and their copies in another folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from alignset.pipeline.datasets.funnel import FOLDER as HISTORY
from alignset.pipeline.datasets.set_files import read_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import TAKEN_DOWN_KEYS
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.transforms.corpus.corpus_documents import NAME as VOCABULARY
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.files import (
    PIECE,
    exists,
    is_local,
    match,
    open_to_read,
    remove,
    remove_leftovers,
    write_atomically,
)

MANIFEST = "manifest.json"
_PAGES = (
    *("README.md", "croissant.json", "funnel.svg", "funnel.json", "uids.npy"),
    *("summary-eu.md", "summary-eu-domains.csv"),
)
# What earlier versions published, and what `verify --sums` prints: a later copy has neither.
_NO_MORE = ("datasheet.md", "SHA256SUMS")
_TABLES = (VOCABULARY, TAKEN_DOWN_KEYS)
_DOCUMENTS = ("manifest.json", "funnel.json", "croissant.json")  # JSON, published without folders
_IN_FOLDERS = re.compile(
    r"pairs/\d{5,}\.parquet|changes/(joined|left)\.u64|(history/\d\d+/)+(manifest|funnel)\.json"
)
_IS_OURS = re.compile(
    r"(shards|holdout)/\d{5,}(\.tar|\.parquet|_stats\.json)"
    rf"|{_IN_FOLDERS.pattern}|{'|'.join(map(re.escape, (*_PAGES, *_TABLES, MANIFEST, *_NO_MORE)))}"
)
# In the target while it is not whole: which dataset it gets.
_UNFINISHED = ".publishing"


@dataclass(frozen=True)
class PublicFile:
    """A file to publish.

    Attributes:
      path: below the dataset. size: bytes, as it is published.
      body: where it is written anew. sha256: in hex, where the manifest has it.
    """

    path: str
    size: int
    body: bytes | None = None
    sha256: str | None = None


def public_files(out: str) -> list[PublicFile]:
    """What may be published of a finished dataset, the manifest last: what its manifest names and
    alignset wrote, without dropped pairs. JSON documents name files without their folders.

    Raises:
      UsageError: it is not finished, another command is under way in it, or a file is missing or
        is a link.
    """
    manifest, funnel = read_set(out)
    if funnel is None:
        raise UsageError(f"{out}/funnel.json is missing: the command that made it writes it")
    WorkFolder(f"{out}/_temporary").refuse_stopped(out)
    places, hashes = ShardPlaces(out), dict[str, str | None]()
    for number, shard in manifest.entries.items():
        files: dict[str, str | None] = {places.stats(number): None}
        if shard.pairs:
            files = {places.tar(number): shard.sha256, places.sidecar(number): None} | files
        hashes |= {path.removeprefix(f"{out}/"): digest for path, digest in files.items()}
    vocabulary = manifest.vocabulary.file
    names = [*_PAGES, TAKEN_DOWN_KEYS]
    names += [VOCABULARY] if vocabulary and vocabulary.path == VOCABULARY else []
    paths = [*hashes, *(name for name in names if exists(f"{out}/{name}"))]
    for folder in ("pairs", "changes", HISTORY):
        below = (path.removeprefix(f"{out}/") for path, _ in match(f"{out}/{folder}"))
        paths += filter(_IN_FOLDERS.fullmatch, below)
    return [_public_file(out, path, hashes.get(path)) for path in (*paths, MANIFEST)]


def _public_file(out: str, path: str, sha256: str | None) -> PublicFile:
    source_path = f"{out}/{path}"
    parts = path.split("/")
    for count in range(1, len(parts) + 1) if is_local(out) else ():
        link = f"{out}/{'/'.join(parts[:count])}"
        if os.path.islink(link):
            raise UsageError(f"{link} is a link, which may lead anywhere: put the file there")
    if not exists(source_path):
        raise UsageError(f"{source_path} is missing, which the manifest names: restore it")
    if parts[-1] in _DOCUMENTS:
        body = _strip_folders(source_path)
        return PublicFile(path, len(body), body)
    with open_to_read(source_path) as source:
        return PublicFile(path, source.seek(0, 2), None, sha256)


def _strip_folders(path: str) -> bytes:
    """A JSON document in which local files have no folders, and a Croissant file that does not name
    the dropped pairs."""
    with open_to_read(path) as source:
        try:
            document = json.loads(source.read())
        except ValueError as error:
            raise UsageError(f"{path} is not JSON: {error}; mend it") from error
    if path.endswith("croissant.json"):
        for kind, name in (("distribution", "rejected_files"), ("recordSet", "rejected")):
            document[kind] = [entry for entry in document.get(kind, []) if entry.get("@id") != name]
    return f"{json.dumps(_plain(document), indent=2)}\n".encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        plain = {name: _plain(entry) for name, entry in value.items()}
        if isinstance(path := value.get("path"), str) and is_local(path):
            plain["path"] = path.rpartition("/")[2]
        return plain
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return ",".join(map(_plain_part, value.split(","))) if isinstance(value, str) else value


def _plain_part(part: str) -> str:
    """A value of a flag, as PATH or NAME=PATH, with an absolute path's last name alone."""
    name, sign, path = part.rpartition("=")
    is_path = path.startswith("/") and "://" not in part
    return f"{name}{sign}{path.rstrip('/').rpartition('/')[2]}" if is_path else part


def publish(out: str, target: str) -> list[PublicFile]:
    """Copies what may be published to a local folder: a new one, or where it was published before,
    which then has what there is now.

    Raises:
      UsageError: as of `public_files`; or the folder holds anything else.
      RuntimeError: a tar is not as the manifest says, or the dataset has changed meanwhile.
    """
    files = public_files(out)
    identity = _identity(files[-1].body or b"")
    _check_target(out, target, identity)
    # From here on the folder is not whole, and a reader finds no manifest.
    write_atomically(f"{target}/{_UNFINISHED}", identity)
    remove(f"{target}/{MANIFEST}")
    remove_leftovers(target)
    names = {file.path for file in files}
    for path, _ in match(target, links=True):  # such as a shard that a takedown emptied
        if path.removeprefix(f"{target}/") not in names:
            remove(path)
    for file in files[:-1]:
        copy_file_to(f"{out}/{file.path}", f"{target}/{file.path}", file)
    if public_files(out)[-1] != files[-1]:
        raise RuntimeError(f"{out} has changed while it was copied; run the same command again")
    copy_file_to(f"{out}/{MANIFEST}", f"{target}/{MANIFEST}", files[-1])
    remove(f"{target}/{_UNFINISHED}")
    return files


def _identity(manifest: bytes) -> bytes:
    """The digest of what stays of a manifest, whatever is done to its dataset; b"" of none."""
    try:
        document = _plain(json.loads(manifest))  # one with folders was published before
        lasting = [document[name] for name in ("job", "rules", "input")]
    except (ValueError, TypeError, KeyError):
        return b""
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest().encode()


def _check_target(out: str, target: str, identity: bytes) -> None:
    if not is_local(target) or Path(target).is_file():
        raise UsageError(
            f"--output={target} is not a local folder: name one, which is then uploaded "
            "(docs/how_to/publish.md)"
        )
    if is_local(out):
        paths = [f"{Path(path).resolve()}/" for path in (out, target)]
        if paths[0].startswith(paths[1]) or paths[1].startswith(paths[0]):
            raise UsageError(f"--output={target} and {out} hold one another; name another folder")
    if not (files := match(target, links=True)):
        return
    unfinished, manifest = Path(target, _UNFINISHED), Path(target, MANIFEST)
    published = b""
    if unfinished.is_file():
        published = unfinished.read_bytes()
    elif manifest.is_file():
        published = _identity(manifest.read_bytes())
    if published != identity:
        raise UsageError(
            f"{target} holds files that are not of this dataset, such as {files[0][0]}; name a new "
            "folder"
        )
    for path, _ in files:
        if not _IS_OURS.fullmatch(path.removeprefix(f"{target}/")):
            raise UsageError(f"{path} was not published by this command; move it, or it would go")


def copy_file_to(source: str, target: str, file: PublicFile) -> None:
    """Copies a file, unless it is there already."""
    if file.body is not None:
        write_atomically(target, file.body)
        return
    digest = file.sha256 or sha256_of(source)
    if exists(target) and not os.path.islink(target) and sha256_of(target) == digest:
        return

    def copy(sink: BinaryIO) -> None:
        found = hashlib.sha256()
        with open_to_read(source) as opened:
            while piece := opened.read(PIECE):
                found.update(piece)
                sink.write(piece)
        if found.hexdigest() != digest:
            raise RuntimeError(
                f"{source} is not the file that the manifest names, or is being changed"
            )

    write_atomically(target, copy)


def sha256_of(path: str) -> str:
    """The SHA-256 of a file of any file system, in hex."""
    source: Any  # has `readinto`, which BinaryIO does not tell
    with open_to_read(path) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
