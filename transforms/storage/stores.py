"""Files of object stores (`s3://`, `gs://`) and of the web (`https://`, `http://`, `hf://`).

An object is there whole or not at all. Its bytes are never decompressed on the way. Requests that
fail are tried again. A store's package is imported where the store is used: it takes 0.1 to 0.3 s.
"""

from __future__ import annotations

import io
import logging
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, cast
from urllib.parse import quote

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LOG = logging.getLogger("alignset")
T = TypeVar("T")
WAITS_S = (2, 4, 8, 16, 32, 60, 60, 60)  # between tries, beside the quick ones of a store's client
_PATIENCE_S = 300.0  # after so long nothing is tried again
_BUFFER = 1 << 23
SILENCE_S = 20.0  # that a web host may take to connect, to answer, or between two parts of a file
SLOW_S, _SLOW = 60.0, 1 << 10  # after so long a host sends so many bytes a second
_LONGEST_COPY = 1 << 35  # bytes, and half of the free disk, of a file that is sent only whole
_IN_MEMORY = 1 << 26  # bytes of such a file
_MISSING, _REFUSED = (404, 410), (409, 412)  # the latter: a condition does not hold
# Errors of boto3, requests, urllib3, http.client, httpx and google.auth: no answer, or half of one.
_PASSING = {
    *("ConnectionError", "TimeoutError", "Timeout", "HTTPClientError", "TransportError"),
    *("IncompleteReadError", "IncompleteRead", "ChunkedEncodingError", "ProtocolError"),
    *("BadStatusLine", "RetryError"),
}
_OF_CLIENTS = ("botocore", "boto3", "google", "requests", "urllib3", "http", "httpx")


class Remote(NamedTuple):
    """A file in a store: its size in bytes, and when it was written, in seconds since 1970."""

    path: str
    size: int
    modified_s: float


class Versioned(NamedTuple):
    """A small object, and which of its versions this is."""

    body: bytes
    version: str


class Answer(NamedTuple):
    """The bytes of a file from some place on.

    Attributes:
      stream: has `read(count)` and `close()`. size: bytes of the whole file, None where its host
        does not say. version: empty where it has none. ranges: whether any place can be asked for.
    """

    stream: Any
    size: int | None
    version: str
    ranges: bool = True


class RemoteError(OSError):
    """A store or a host refuses, or does not answer.

    Args:
      passing: whether the same request may succeed later.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


def scheme(path: str) -> str:
    """`s3` of `s3://bucket/object`; empty for a local path."""
    return path.partition("://")[0] if "://" in path else ""


def _http_status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # boto3's
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for status in (getattr(response, "status_code", None), getattr(error, "code", None)):
        if isinstance(status, int):
            return status
    return None


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, RemoteError):
        return error.passing
    status = _http_status(error)
    if status is not None:
        return status >= 500 or status in (408, 429)
    return any(kind.__name__ in _PASSING for kind in type(error).__mro__)


def _explain(path: str, error: Exception) -> Exception:
    """The error of a client as one of a file."""
    status, kind = _http_status(error), scheme(path)
    why = str(error).strip() or type(error).__name__
    if status in _MISSING or isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"there is no {path}" + f": {why}" * (kind in ("s3", "gs")))
    if isinstance(error, RemoteError):
        return error
    if kind.startswith("http"):
        if status:
            circles = "infinite loop" in why
            why = "redirects in circles" if circles else why.replace("HTTP Error", "answers", 1)
            why = f"its host {why.replace(':', '', 1)}".rstrip()
        elif isinstance(error, TimeoutError):
            why = f"its host does not answer within {SILENCE_S:g} s"
        why = f"{path} cannot be read: {why}"
    elif type(error).__module__.partition(".")[0] not in _OF_CLIENTS and kind != "hf":
        return error
    else:
        why = f"{path}: {why}"
    return RemoteError(why, passing=may_pass(error))


def _ask(path: str, request: Callable[[Store], T], waits_s: Sequence[float] | None = None) -> T:
    """What a store answers; asked up to nine times within 5 minutes."""
    store = STORES.get(scheme(path))
    if store is None:
        known = ", ".join(f"{name}://" for name in STORES)
        raise RemoteError(f"{path}: {scheme(path)}:// is not one of {known}")
    end_s = time.monotonic() + _PATIENCE_S
    for wait_s in (*(WAITS_S if waits_s is None else waits_s), None):
        try:
            return request(store)
        except Exception as error:
            if wait_s is None or not may_pass(error) or time.monotonic() + wait_s > end_s:
                explained = _explain(path, error)
                raise explained from (None if explained is error else error)
            wait_s *= random.uniform(0.5, 1.5)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            LOG.warning("%s; trying again in %.0f s", reason, wait_s)
        time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def _glob(pattern: str) -> re.Pattern[str]:
    """`*` is all within a folder, `**` all, `?` a character, `[a-z]` and `[!a-z]` one of some."""
    found = {"**": ".*", "*": r"[^/\\]*", "?": "."}
    parts = re.split(r"(\*\*|\*|\?|\[!?\]?[^\]]*\])", pattern)
    for n, part in enumerate(parts):
        if n % 2 and part.startswith("["):
            inner = part[1:-1].replace("\\", "\\\\")
            first = {"!": "^", "^": "\\^"}.get(inner[0], inner[0])
            parts[n] = f"[{first}{inner[1:]}]"
        else:
            parts[n] = found[part] if n % 2 else re.escape(part)
    return re.compile("".join(parts), re.DOTALL)


class Store:
    """What all stores have; each request is one try. Here one that can only be read."""

    def stat(self, path: str) -> Remote:
        raise NotImplementedError

    def open_at(self, path: str, start: int, version: str) -> Answer:
        """Begins to read at a byte; raises RemoteError where the file is not `version` any more."""
        raise NotImplementedError

    def list_page(self, prefix: str, token: str | None) -> tuple[list[Remote], str | None]:
        """Some of the objects whose paths begin so, and where to go on."""
        raise NotImplementedError

    def match(self, pattern: str) -> list[Remote]:
        """The object of a name, or the objects of a glob; asks patiently."""
        prefix = re.split(r"[\[*?]", pattern, maxsplit=1)[0]
        if prefix == pattern:
            return [_ask(pattern, lambda store: store.stat(pattern))]
        files, token, is_matching = list[Remote](), None, _glob(pattern).fullmatch
        while True:
            page, token = _ask(pattern, lambda store, t=token: store.list_page(prefix, t))
            files += [file for file in page if is_matching(file.path)]
            if not token:
                return files

    def put(self, file: BinaryIO, path: str) -> None:
        raise RemoteError(f"{path} cannot be written: {scheme(path)}:// can only be read")

    def copy(self, source: str, path: str) -> None:
        raise RemoteError(f"{path} cannot be written: {scheme(path)}:// can only be read")

    def remove(self, paths: Sequence[str]) -> None:
        raise RemoteError(f"{paths[0]} cannot be removed: {scheme(paths[0])}:// can only be read")

    def put_if(self, path: str, body: bytes, version: str | None) -> str:
        """Returns the object's new version; a status of 409 or 412 refuses it."""
        raise RemoteError(f"{path} cannot be written: {scheme(path)}:// can only be read")


def _changed(path: str) -> RemoteError:
    return RemoteError(f"{path} changed while it was read: run again when it stays as it is")


@lru_cache
def _boto3(pid: int, *server: str | None) -> Any:
    """A client takes 100 ms; a fork has its own."""
    import boto3.session

    return boto3.session.Session().client("s3")


class S3(Store):
    """By boto3, which finds keys, the region and the server in its own variables and files."""

    @staticmethod
    def _client() -> Any:
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID")
        return _boto3(os.getpid(), *map(os.environ.get, names))

    @staticmethod
    def _place(path: str) -> dict[str, str]:
        bucket, _, key = path.removeprefix("s3://").partition("/")
        return {"Bucket": bucket, "Key": key}

    def stat(self, path: str) -> Remote:
        head = self._client().head_object(**self._place(path))
        return Remote(path, head["ContentLength"], head["LastModified"].timestamp())

    def open_at(self, path: str, start: int, version: str) -> Answer:
        wanted = {"Range": f"bytes={start}-", "IfMatch": version} if version else {}
        try:
            answer = self._client().get_object(**self._place(path), **wanted)
        except Exception as error:
            if version and _http_status(error) in (412, 416):
                raise _changed(path) from error
            raise
        return Answer(answer["Body"], start + answer["ContentLength"], answer["ETag"])

    def list_page(self, prefix: str, token: str | None) -> tuple[list[Remote], str | None]:
        place = self._place(prefix)
        asked = {"Bucket": place["Bucket"], "Prefix": place["Key"]}
        asked |= {"ContinuationToken": token} if token else {}
        page = self._client().list_objects_v2(**asked)
        files = [
            Remote(f"s3://{place['Bucket']}/{e['Key']}", e["Size"], e["LastModified"].timestamp())
            for e in page.get("Contents", ())
        ]
        return files, page.get("NextContinuationToken")

    def put(self, file: BinaryIO, path: str) -> None:
        place = self._place(path)
        # boto3 closes what it was given, and this try may not be the last.
        with os.fdopen(os.dup(file.fileno()), "rb") as same:
            self._client().upload_fileobj(same, place["Bucket"], place["Key"])

    def copy(self, source: str, path: str) -> None:
        from boto3.s3.transfer import TransferConfig

        place = self._place(path)
        at_once = TransferConfig(multipart_threshold=5 << 30, multipart_chunksize=1 << 28)
        self._client().copy(self._place(source), place["Bucket"], place["Key"], Config=at_once)

    def remove(self, paths: Sequence[str]) -> None:
        bucket = self._place(paths[0])["Bucket"]
        for n in range(0, len(paths), 1000):
            keys = [{"Key": self._place(path)["Key"]} for path in paths[n : n + 1000]]
            answer = self._client().delete_objects(
                Bucket=bucket, Delete={"Objects": keys, "Quiet": True}
            )
            for error in answer.get("Errors", ()):
                said = f"{error['Code']}: {error.get('Message', '')}"
                passing = error["Code"] in ("InternalError", "SlowDown", "ServiceUnavailable")
                raise RemoteError(f"s3://{bucket}/{error['Key']}: {said}", passing=passing)

    def put_if(self, path: str, body: bytes, version: str | None) -> str:
        wanted = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        return self._client().put_object(**self._place(path), Body=body, **wanted)["ETag"]


@lru_cache
def _google(pid: int, server: str | None) -> Any:
    from google.cloud import storage

    return storage.Client()


class Google(Store):
    """By google-cloud-storage; for `_RETRY_S` it tries again by itself."""

    @staticmethod
    def _client() -> Any:
        return _google(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST"))

    def _blob(self, path: str) -> Any:
        bucket, _, name = path.removeprefix("gs://").partition("/")
        return self._client().bucket(bucket).blob(name, chunk_size=1 << 24)

    @property
    def _quick(self) -> dict[str, Any]:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return {"retry": DEFAULT_RETRY.with_timeout(15.0)}  # beside our own

    def stat(self, path: str) -> Remote:
        blob = self._blob(path)
        blob.reload(**self._quick)
        return Remote(path, blob.size, blob.updated.timestamp())

    def open_at(self, path: str, start: int, version: str) -> Answer:
        from google.api_core.exceptions import from_http_response

        blob, client = self._blob(path), self._client()
        answer = client._http.get(  # the library itself reads ranges into memory, not streams
            f"{client.api_endpoint}/download/storage/v1{blob.path}",
            params={"alt": "media", **({"ifGenerationMatch": version} if version else {})},
            # Without gzip the store would unpack what was uploaded as such.
            headers={"Accept-Encoding": "gzip", **({"Range": f"bytes={start}-"} if start else {})},
            stream=True,
            timeout=60,
        )
        if answer.status_code >= 400:
            if version and answer.status_code in (412, 416):
                raise _changed(path)
            raise from_http_response(answer)
        size = start + int(answer.headers["Content-Length"])
        return Answer(answer.raw, size, answer.headers.get("X-Goog-Generation", ""))

    def list_page(self, prefix: str, token: str | None) -> tuple[list[Remote], str | None]:
        bucket, _, start = prefix.removeprefix("gs://").partition("/")
        fields = "items(name,size,updated),nextPageToken"
        found = self._client().list_blobs(
            bucket, prefix=start, page_token=token, fields=fields, **self._quick
        )
        page = [
            Remote(f"gs://{bucket}/{blob.name}", blob.size, blob.updated.timestamp())
            for blob in next(found.pages, ())
        ]
        return page, found.next_page_token

    def put(self, file: BinaryIO, path: str) -> None:
        size = os.fstat(file.fileno()).st_size
        self._blob(path).upload_from_file(file, size=size, **self._quick)

    def copy(self, source: str, path: str) -> None:
        target, token = self._blob(path), None
        while True:
            token, *_ = target.rewrite(self._blob(source), token=token, **self._quick)
            if token is None:
                return

    def remove(self, paths: Sequence[str]) -> None:
        client = self._client()
        for n in range(0, len(paths), 100):  # as many as a batch may have
            with client.batch(raise_exception=False) as batch:
                for path in paths[n : n + 100]:
                    self._blob(path).delete()
            for path, answer in zip(paths[n:], batch._responses, strict=False):
                if answer.status_code >= 400 and answer.status_code not in _MISSING:
                    passing = answer.status_code >= 500 or answer.status_code in (408, 429)
                    raise RemoteError(f"{path}: {answer.status_code}", passing=passing)

    def put_if(self, path: str, body: bytes, version: str | None) -> str:
        blob = self._blob(path)
        blob.upload_from_string(body, if_generation_match=int(version or 0), **self._quick)
        return str(blob.generation)


class Web(Store):
    """Hosts of the web, by the standard library; their URLs have no globs."""

    def match(self, pattern: str) -> list[Remote]:
        return [_ask(pattern, lambda store: store.stat(pattern), ())]  # a user waits for it

    def stat(self, path: str) -> Remote:
        answer = self._request(path, "bytes=0-0")
        answer.stream.close()
        if answer.size is None:
            with open_remote(path) as file:
                return Remote(path, file.seek(0, 2), 0.0)
        return Remote(path, answer.size, 0.0)

    def open_at(self, path: str, start: int, version: str) -> Answer:
        answer = self._request(path, f"bytes={start}-")
        if start and (answer.version != version or not answer.ranges):
            answer.stream.close()
            raise _changed(path)
        return answer

    @staticmethod
    def _request(path: str, wanted: str) -> Answer:
        from urllib.error import HTTPError, URLError
        from urllib.request import Request, urlopen

        # Such a URL is sent as it is, but for what no URL may have.
        url = quote(path, safe="%/:=&?~#+!$,;'@()*[]")
        request = Request(url, headers={"User-Agent": "alignset", "Range": wanted})
        try:
            answer = urlopen(request, timeout=SILENCE_S)
        except HTTPError as error:
            if error.code == 416 and error.headers.get("Content-Range") == "bytes */0":
                return Answer(io.BytesIO(), 0, "")
            raise
        except URLError as error:
            raise error.reason if isinstance(error.reason, Exception) else error from error
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        first, _, size = (answer.headers.get("Content-Range") or "").rpartition("/")
        if answer.status == 206 and size.isdigit():
            if not first.startswith(f"bytes {wanted[6:].partition('-')[0]}-"):
                answer.close()
                raise RemoteError(f"{path} cannot be read: its host sends {first}, not {wanted}")
            return Answer(_Timed(answer, path), int(size), version)
        length = answer.headers.get("Content-Length")
        return Answer(_Timed(answer, path), int(length) if length else None, version, ranges=False)


class _Timed:
    """An answer that may not trickle; the time between its reads does not count."""

    def __init__(self, answer: Any, path: str) -> None:
        self._answer, self._path, self._took_s, self._size = answer, path, 0.0, 0
        self.close = answer.close

    def read(self, count: int) -> bytes:
        begun_s = time.monotonic()
        piece: bytes = self._answer.read1(count)
        self._took_s += time.monotonic() - begun_s
        self._size += len(piece)
        if self._took_s > SLOW_S and self._size < self._took_s * _SLOW:
            raise RemoteError(f"{self._path} comes too slowly: download it, and pass the file")
        return piece


class Hub(Store):
    """The Hugging Face Hub, by its own file system."""

    @staticmethod
    def _system() -> Any:
        from huggingface_hub import HfFileSystem

        return HfFileSystem()

    def match(self, pattern: str) -> list[Remote]:
        try:
            files = self._system().glob(pattern, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:  # of several packages; few of them name the host
            raise RemoteError(f"{pattern}: {error}") from error
        found = [(name, details["size"]) for name, details in files.items()]
        return [Remote(f"hf://{name}", size, 0.0) for name, size in found if size]

    def stat(self, path: str) -> Remote:
        info = self._system().info(path)
        if info["type"] != "file":
            raise FileNotFoundError(f"there is no file {path}")
        return Remote(path, info["size"], 0.0)

    def open_at(self, path: str, start: int, version: str) -> Answer:
        file = self._system().open(path, "rb", cache_type="none")
        file.seek(start)
        return Answer(file, file.size, "")


STORES: dict[str, Store] = {
    **{"s3": S3(), "gs": Google(), "hf": Hub()},
    **dict.fromkeys(("http", "https"), Web()),
}


class RemoteFile(io.RawIOBase):
    """A file of a store: a request from each place to which one seeks, and all of one version."""

    def __init__(self, path: str, answer: Answer) -> None:
        assert answer.size is not None
        self._path, self._size, self._version = path, answer.size, answer.version
        self._place, self._stream, self._at = 0, answer.stream, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), self._size - self._place)
        if count <= 0:
            return 0
        try:
            piece = self._read(STORES[scheme(self._path)], count)
        except Exception as error:
            if not may_pass(error):
                raise _explain(self._path, error) from error
            # Whoever reads with pauses finds a connection closed; only a new one is waited for.
            piece = _ask(self._path, lambda store: self._read(store, count))
        view[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(_BUFFER), b""))

    def _read(self, store: Store, count: int) -> bytes:
        if self._stream is None or self._at != self._place:
            self._drop()
            self._stream = store.open_at(self._path, self._place, self._version).stream
            self._at = self._place
        try:
            piece: bytes = self._stream.read(count)
            if not piece:
                at = f"{self._place:,} of {self._size:,} bytes"
                raise RemoteError(f"{self._path} was cut off after {at}", passing=True)
        except BaseException:
            self._drop()
            raise
        self._at += len(piece)
        return piece

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        self._drop()
        super().close()


def begin_remote(path: str) -> Answer:
    """Begins to read a file; raises as `open_remote` does."""
    return _ask(path, lambda store: store.open_at(path, 0, ""))


def open_remote(path: str) -> BinaryIO:
    """Opens a file for reading at any place; one that its host sends only whole is copied first.

    Raises:
      FileNotFoundError: there is none.
      RemoteError: the store, or the host, refuses or does not answer.
    """
    answer = begin_remote(path)
    if answer.ranges:
        return io.BufferedReader(RemoteFile(path, answer), _BUFFER)
    answer.stream.close()
    return _ask(path, lambda store: _copy_whole(path, store.open_at(path, 0, "")))


def _copy_whole(path: str, answer: Answer) -> BinaryIO:
    """A copy on this machine of a file that may not end."""
    most = min(_LONGEST_COPY, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    copy, size = tempfile.SpooledTemporaryFile(_IN_MEMORY), 0  # noqa: SIM115 (the caller closes it)
    try:
        while piece := answer.stream.read(1 << 20):
            size += len(piece)
            if size > most:
                raise RemoteError(
                    f"{path} has more than {most:,} bytes, and its host sends it only whole: "
                    "download it, and pass the file"
                )
            copy.write(piece)
        if answer.size not in (None, size):
            said = f"{size:,} of {answer.size:,} bytes"
            raise RemoteError(f"{path} cannot be read: cut off after {said}", passing=True)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    finally:
        answer.stream.close()
    return cast("BinaryIO", copy)


def list_remote(pattern: str) -> list[Remote]:
    """The file of a name, or the files of a glob; a folder is one only as a glob.

    Raises:
      RemoteError: the store, or the host, refuses or does not answer.
    """
    try:
        return STORES[scheme(pattern)].match(pattern)
    except FileNotFoundError:
        return []


def remote_exists(path: str) -> bool:
    """Whether there is a file with this very name."""
    waits_s = () if scheme(path).startswith("http") else None
    try:
        _ask(path, lambda store: store.stat(path), waits_s)
    except FileNotFoundError:
        return False
    return True


def put_file(file: BinaryIO, path: str) -> None:
    """Makes an object of a whole file, which is not seen before it is all there."""

    def put(store: Store) -> None:
        file.seek(0)  # also hands on what was written to it
        store.put(file, path)

    _ask(path, put)


def copy_remote(source: str, path: str) -> None:
    """Copies within a store; nothing comes through this machine.

    Raises:
      FileNotFoundError: there is no such object.
    """
    _ask(source, lambda store: store.copy(source, path))


def remove_remote(paths: Sequence[str]) -> None:
    """Removes objects of one bucket, many a request, those that are there."""
    if paths:
        _ask(paths[0], lambda store: store.remove(paths))


def put_if(path: str, body: bytes, version: str | None) -> str | None:
    """Writes a small object if it is still what the caller knows.

    Args:
      body: no other writer's: by it a writer whose answer was lost finds its own object.
      version: what `put_if` or `read_version` gave; None where there must be no such object.

    Returns:
      The object's new version, or None: it is another by now.
    """

    def put(store: Store) -> str | None:
        try:
            return store.put_if(path, body, version)
        except Exception as error:
            # Of an object that is gone a store says 404 where a version was asked for.
            if _http_status(error) not in (*_REFUSED, *(_MISSING if version else ())):
                raise
            there = read_version(path)
            if there and there.body == body:
                return there.version
            if (there and there.version) == version:
                raise RemoteError(f"{path} is being written by others", passing=True) from error
            return None

    return _ask(path, put)


def read_version(path: str) -> Versioned | None:
    """A small object as it is now, or None where there is none."""

    def read(store: Store) -> Versioned:
        answer = store.open_at(path, 0, "")
        with closing(answer.stream) as stream:
            return Versioned(stream.read(answer.size or 0), answer.version)

    try:
        return _ask(path, read)
    except FileNotFoundError:
        return None
