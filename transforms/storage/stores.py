"""Files of object stores (`s3://`, `gs://`) and of the web (`https://`, `http://`, `hf://`).

An object is there whole or not at all, and its bytes are never decompressed on the way. Requests
that fail are tried again. A store's package takes 0.1 to 0.3 s to import.
"""

from __future__ import annotations

import fnmatch
import io
import logging
import os
import random
import re
import shutil
import socket
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast
from urllib.parse import quote, unquote

from alignset.extras import is_installed, missing_extra

LOG = logging.getLogger("alignset")
T = TypeVar("T")
WAITS_S = (0, 2, 4, 8, 16, 32, 60, 60, 60)  # between tries, each a half more or less
SILENCE_S = 20.0  # that a web host may take to connect, to answer, or between two parts of a file
SLOW_S, _SLOW = 60.0, 1 << 10  # after so long a file comes in so many bytes a second
_LONGEST_COPY = 1 << 35  # bytes, and half of the free disk, of a file that is sent only whole
_IN_MEMORY, _BUFFER = 1 << 26, 1 << 23
_MISSING, _REFUSED = (404, 410), (401, 403)
_PASSING = (408, 409, 429)  # 409: others write the same object
# Errors of boto3, requests, urllib3, http.client, httpx and google.auth: no answer, or half of one.
_UNANSWERED = {
    *("ConnectionError", "TimeoutError", "Timeout", "HTTPClientError", "TransportError"),
    *("IncompleteReadError", "ChunkedEncodingError", "ProtocolError", "IncompleteRead"),
    *("BadStatusLine", "RetryError", "URLError"),
}
_CLIENTS = ("botocore", "boto3", "google", "http", "httpx", "urllib")


class Remote(NamedTuple):
    """A file in a store: its size in bytes, and when it was written, in seconds since 1970."""

    path: str
    size: int
    modified_s: float = 0.0  # only a listing of s3:// and gs:// says it


class Answer(NamedTuple):
    """A file from some byte on, and the size of all of it where its host says it."""

    read: Callable[[int], bytes]
    close: Callable[[], object]
    size: int | None
    version: str
    has_ranges: bool = True  # or it is only sent from its first byte on


class RemoteError(OSError):
    """A store or a host refuses, or does not answer; `code` is HTTP's, or 0."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


def missing_packages(kind: str) -> str:
    """Says in one line what paths of a scheme need that is not installed; imports none of it."""
    if kind == "hf" and not is_installed("huggingface_hub"):
        return "hf:// needs huggingface_hub: pip install huggingface_hub"
    extra = {"s3": "aws", "gs": "gcp"}.get(kind)
    missing = extra and missing_extra(extra, f"{kind}://")
    return f"{missing}, or install requirements/{extra}.txt" if missing else ""


def scheme(path: str) -> str:
    """`s3` of `s3://bucket/object`; empty for a local path."""
    return path.partition("://")[0] if "://" in path else ""


def _status(error: BaseException) -> int:
    """HTTP's status in boto3's, Google's, httpx's or urllib's error, or 0."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    status = getattr(response, "status_code", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else 0


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if status := _status(error):
        return status >= 500 or status in _PASSING
    if isinstance(why := getattr(error, "reason", None), socket.gaierror):
        return why.errno == socket.EAI_AGAIN  # else there is no such host
    return any(kind.__name__ in _UNANSWERED for kind in type(error).__mro__)


def _patiently(path: str, request: Callable[..., T], *args: Any, waits_s: Any = WAITS_S) -> T:
    """Makes a request up to ten times within 5 minutes, or once where `waits_s` is empty.

    A client's error becomes one of a file.
    """
    waits, end_s = list(waits_s), time.monotonic() + sum(waits_s) * 1.25
    while True:
        try:
            return request(*args)
        except Exception as error:
            words = " ".join(str(error).split()) or type(error).__name__
            why = "".join(filter(str.isprintable, words))[:300]  # perhaps a host's own words
            status, passes = _status(error), may_pass(error)
            if not passes or not waits or time.monotonic() > end_s:
                if status in _MISSING:
                    raise FileNotFoundError(f"there is no {path}: {why}") from error
                if status == 416:  # it is shorter by now
                    raise RemoteError(f"{path} changed while it was read: run again") from error
                of_client = type(error).__module__.partition(".")[0] in _CLIENTS
                if of_client or isinstance(error, TimeoutError | ConnectionError | ValueError):
                    why += "; check the credentials" * (status in _REFUSED)
                    raise RemoteError(f"{path}: {why}", status or 503 * passes) from error
                raise
            wait_s = waits.pop(0) * random.uniform(0.5, 1.5)
            LOG.warning("%s: %s; trying again in %.0f s", path, why, wait_s)
        time.sleep(wait_s)


def _store(path: str, method: str) -> Callable[..., Any]:
    kind = scheme(path)
    if kind not in STORES:
        places = "a path of this machine, s3://, gs://, hf:// or https://"
        raise RemoteError(f"{path}: {kind}:// cannot be read here; pass {places}")
    if not hasattr(STORES[kind], method):
        raise RemoteError(f"{path}: {kind}:// can only be read")
    return cast("Callable[..., Any]", getattr(STORES[kind], method))


@lru_cache
def client(store: str) -> Any:
    """A client takes 100 ms to make; where its variables change, `cache_clear` it."""
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # of many threads
    if store == "s3":
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client("s3", config=Config(max_pool_connections=32))
    if store == "hf":
        from huggingface_hub import HfFileSystem

        return HfFileSystem()
    import google.cloud.storage  # such an import names the package that is missing

    return google.cloud.storage.Client()


os.register_at_fork(after_in_child=client.cache_clear)


def _place(path: str) -> dict[str, str]:
    bucket, _, key = path.partition("://")[2].partition("/")
    return {"Bucket": bucket, "Key": key}


class S3:
    """By boto3, which finds keys, the region and the server in its variables and files."""

    def open_at(self, path: str, start: int = 0) -> Answer:
        span = {"Range": f"bytes={start}-"} if start else {}
        answer = client("s3").get_object(**_place(path), **span)
        body, size = answer["Body"], start + answer["ContentLength"]
        return Answer(body.read, body.close, size, answer["ETag"])

    def list_all(self, prefix: str) -> list[Remote]:
        bucket, start = _place(prefix).values()
        pages = client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
        return [
            Remote(f"s3://{bucket}/{item['Key']}", item["Size"], item["LastModified"].timestamp())
            for page in pages
            for item in page.get("Contents", ())
        ]

    def put(self, path: str, file: BinaryIO) -> None:
        # boto3 closes what it was given, and this try may not be the last.
        with os.fdopen(os.dup(file.fileno()), "rb") as same:
            same.seek(0)
            client("s3").upload_fileobj(same, *_place(path).values())

    def copy(self, source: str, path: str) -> None:
        from boto3.s3.transfer import TransferConfig

        at_once = TransferConfig(multipart_threshold=5 << 30, multipart_chunksize=1 << 28)
        client("s3").copy(_place(source), *_place(path).values(), Config=at_once)

    def remove(self, paths: Sequence[str]) -> None:
        bucket = _place(paths[0])["Bucket"]
        for n in range(0, len(paths), 1000):
            keys = [{"Key": _place(path)["Key"]} for path in paths[n : n + 1000]]
            answer = client("s3").delete_objects(Bucket=bucket, Delete={"Objects": keys})
            for error in answer.get("Errors", ()):
                busy = error["Code"] in ("InternalError", "SlowDown", "ServiceUnavailable")
                path, why = f"s3://{bucket}/{error['Key']}", error["Code"]
                raise RemoteError(f"{path} is not removed: {why}", 503 * busy)

    def put_if(self, path: str, body: bytes, version: str | None) -> str:
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        answer = client("s3").put_object(**_place(path), Body=body, **condition)
        return cast("str", answer["ETag"])


class Google:
    """By google-cloud-storage, which itself tries again for two minutes."""

    def _blob(self, path: str) -> Any:
        bucket, name = _place(path).values()
        return client("gs").bucket(bucket).blob(name, chunk_size=1 << 24)

    def open_at(self, path: str, start: int = 0) -> Answer:
        from google.api_core.exceptions import from_http_response

        # The library reads into memory only. Without gzip the store unpacks some objects.
        url = f"{client('gs').api_endpoint}/download/storage/v1{self._blob(path).path}?alt=media"
        headers = {"Accept-Encoding": "gzip"} | ({"Range": f"bytes={start}-"} if start else {})
        answer = client("gs")._http.get(url, headers=headers, stream=True, timeout=60)
        if answer.status_code >= 400:
            raise from_http_response(answer)  # type: ignore[no-untyped-call]
        size, version = start + int(answer.headers["Content-Length"]), "X-Goog-Generation"
        return Answer(answer.raw.read, answer.close, size, answer.headers.get(version, ""))

    def list_all(self, prefix: str) -> list[Remote]:
        bucket, start = _place(prefix).values()
        fields = "items(name,size,updated),nextPageToken"
        return [
            Remote(f"gs://{bucket}/{blob.name}", blob.size, blob.updated.timestamp())
            for blob in client("gs").list_blobs(bucket, prefix=start, fields=fields)
        ]

    def put(self, path: str, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        self._blob(path).upload_from_file(file, rewind=True, size=size)

    def copy(self, source: str, path: str) -> None:
        token: Any = ()
        while token is not None:  # a large one, to another place, takes several requests
            token, _, _ = self._blob(path).rewrite(self._blob(source), token=token or None)

    def remove(self, paths: Sequence[str]) -> None:
        for n in range(0, len(paths), 100):  # as many as a batch may have
            with client("gs").batch(raise_exception=False) as batch:
                for path in paths[n : n + 100]:
                    self._blob(path).delete()
            for path, answer in zip(paths[n:], batch._responses, strict=False):
                if (status := answer.status_code) >= 400 and status not in _MISSING:
                    raise RemoteError(f"{path} is not removed: {answer.text}", status)

    def put_if(self, path: str, body: bytes, version: str | None) -> str:
        blob = self._blob(path)
        blob.upload_from_string(body, if_generation_match=int(version or 0))
        return str(blob.generation)


class Web:
    """By the standard library."""

    def open_at(self, path: str, start: int = 0) -> Answer:
        from urllib.error import HTTPError
        from urllib.request import Request, urlopen

        kind, _, rest = quote(path, safe="%/:=&?~#+!$,;'@()*[]").partition("://")
        host, slash, file = rest.partition("/")
        login, _, host = host.rpartition("@")
        host = unquote(host).encode("idna").decode()
        headers = {"User-Agent": "alignset", "Range": f"bytes={start}-"}
        request = Request(f"{kind}://{host}{slash}{file}", headers=headers)
        if login:
            words = b64encode(unquote(login).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {words}")
        try:
            answer = urlopen(request, timeout=SILENCE_S)
        except HTTPError as error:
            if error.code == 416 and start == 0:  # it is empty
                return Answer(io.BytesIO().read, io.BytesIO().close, 0, "")
            raise
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        first, _, size = answer.headers.get("Content-Range", "").rpartition("/")
        has_ranges = answer.status == 206 and first.startswith(f"bytes {start}-")
        if not has_ranges:
            size = answer.headers.get("Content-Length", "") if answer.status == 200 else ""
        known = int(size) if size.isdecimal() else None
        return Answer(answer.read1, answer.close, known, version, has_ranges)


class Hub:
    """By the Hugging Face Hub's own file system."""

    def open_at(self, path: str, start: int = 0) -> Answer:
        file = client("hf").open(path, "rb", cache_type="none")
        if file.details["type"] == "directory":
            raise FileNotFoundError(f"{path} is a folder")
        file.seek(start)
        return Answer(file.read, file.close, file.size, "")

    def list_all(self, prefix: str) -> list[Remote]:
        found = client("hf").find(prefix.rpartition("/")[0], detail=True)
        return [Remote(f"hf://{name}", file["size"]) for name, file in found.items()]


STORES: dict[str, Any] = {"s3": S3(), "gs": Google(), "http": Web(), "https": Web(), "hf": Hub()}


class RemoteFile(io.RawIOBase):
    """A file of a store: a request from each place to which one seeks, all of one version.

    Where its host sends it only from its first byte on, all before that place is read over.

    Attributes:
      size: bytes, or None where the host does not say.
      has_ranges: whether it is sent from any byte on.
    """

    def __init__(self, path: str, start: int = 0, waits_s: Sequence[float] = WAITS_S) -> None:
        self._path, self._place, self._answer_at = path, start, start
        answer = self._answer = _patiently(path, self._request, waits_s=waits_s)
        self.size, self.version, self.has_ranges = answer.size, answer.version, answer.has_ranges
        self._took_s, self._got = 0.0, 0  # by reading, of this answer

    def readable(self) -> bool:
        return True

    seekable = readable

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self.size or 0)[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self.size is not None:
            view = view[: max(0, self.size - self._place)]
        piece = _patiently(self._path, self._read_on, len(view)) if view else b""
        view[: len(piece)] = piece
        return len(piece)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(_BUFFER), b""))

    def close(self) -> None:
        self._answer.close()
        super().close()

    def _request(self) -> Answer:
        answer: Answer = _store(self._path, "open_at")(self._path, self._place)
        over = 0 if answer.has_ranges else self._place
        while over and (piece := answer.read(min(_BUFFER, over))):
            over -= len(piece)
        if over:
            raise ConnectionError(f"cut off after {self._place - over:,} bytes")
        return answer

    def _read_on(self, count: int) -> bytes:
        """Some bytes more, in one try."""
        if self._answer_at != self._place:  # after a seek, or a failure
            self._answer.close()
            self._answer = self._request()
            if self._answer[2:] != (self.size, self.version, self.has_ranges):
                raise RemoteError(f"{self._path} changed while it was read: run again")
            self._took_s, self._got = 0.0, 0
        self._answer_at, begun_s = -1, time.monotonic()
        piece = self._answer.read(count)
        if not piece and self.size not in (None, self._place):
            raise ConnectionError(f"cut off after {self._place:,} of {self.size:,} bytes")
        self._took_s += time.monotonic() - begun_s
        self._got += len(piece)
        if self._took_s > SLOW_S and self._got < self._took_s * _SLOW:
            raise RemoteError(f"{self._path} comes too slowly: download it, and pass the file")
        self._place += len(piece)
        self._answer_at = self._place
        return piece


def open_remote(path: str, waits_s: Sequence[float] = WAITS_S) -> BinaryIO:
    """Opens a file for reading at any place; one that its host sends only whole is copied first.

    Raises FileNotFoundError, or another OSError where the store refuses or does not answer.
    """
    file = RemoteFile(path, 0, waits_s)
    if file.has_ranges and file.size is not None:
        return io.BufferedReader(file, _BUFFER)
    # It may not end.
    most = min(_LONGEST_COPY, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    copy = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (the caller closes it)
    with file:
        while piece := file.read(1 << 20):
            copy.write(piece)
            if copy.tell() > most:
                raise RemoteError(
                    f"{path} has more than {most:,} bytes, and its host sends it only whole: "
                    "download it, and pass the file"
                )
    copy.seek(0)
    return cast("BinaryIO", copy)


def find_remote(path: str) -> list[Remote]:
    """The file with this very name, if there is one."""
    if path.count("/") < 3:  # a bucket
        return []
    waits_s = () if scheme(path).startswith("http") else WAITS_S  # a user waits for a web host
    with suppress(FileNotFoundError), RemoteFile(path, 0, waits_s) as file:
        if file.size is not None:
            if waits_s and file.size < 1 << 16:
                file.readall()  # else it would close the connection
            return [Remote(path, file.size)]
        with open_remote(path, waits_s) as copy:
            return [Remote(path, copy.seek(0, 2))]
    return []


def list_remote(pattern: str) -> list[Remote]:
    """The file of a name, or the files of a glob; a folder is one only as a glob.

    In a glob `*` stays within a folder, `**` does not; `?` and `[a-z]` are one character.
    """
    parts = re.split(r"(\*\*|\*|\?|\[!?\]?[^\]]*\])", pattern)
    if len(parts) == 1 or scheme(pattern) in ("http", "https"):  # a URL has no globs
        return find_remote(pattern)
    try:
        files = _patiently(pattern, _store(pattern, "list_all"), parts[0])
    except FileNotFoundError as error:
        bucket = "/".join(pattern.split("/")[:3])
        raise FileNotFoundError(f"there is no {bucket}: create it, or pass another") from error
    globs = {"**": ".*", "*": r"[^/\\]*"}
    parts[::2] = map(re.escape, parts[::2])
    parts[1::2] = [globs.get(p) or fnmatch.translate(p).removesuffix(r"\Z") for p in parts[1::2]]
    is_match = re.compile("".join(parts), re.DOTALL).fullmatch
    return [file for file in files if is_match(file.path)]


def put_file(file: BinaryIO, path: str) -> None:
    """Makes an object of a whole file, which is not seen before it is all there."""
    file.flush()
    _patiently(path, _store(path, "put"), path, file)


def copy_remote(source: str, path: str) -> None:
    """Copies within a store, not through this machine; FileNotFoundError where there is none."""
    _patiently(source, _store(path, "copy"), source, path)


def remove_remote(paths: Sequence[str]) -> None:
    """Removes objects of one bucket, many a request; some need not be there."""
    if paths:
        _patiently(paths[0], _store(paths[0], "remove"), paths)


def put_if(path: str, body: bytes, version: str | None) -> str | None:
    """Writes a small object if it is still what the caller knows; else returns None.

    Args:
      body: no other writer's: by it a writer whose answer was lost finds its own object.
      version: what this or `read_version` returned; None where there must be no such object.
    """
    try:
        return cast("str", _patiently(path, _store(path, "put_if"), path, body, version))
    except OSError as error:
        # A store answers 404 where a version is asked for, and the object no longer exists.
        if _status(error) != 412 and not (version and isinstance(error, FileNotFoundError)):
            raise
    body_there, version_there = read_version(path)
    return version_there if body_there == body else None


def read_version(path: str) -> tuple[bytes, str | None]:
    """A small object as it is now, and which of its versions this is; None where there is none."""
    with suppress(FileNotFoundError), RemoteFile(path) as file:
        return file.readall(), file.version
    return b"", None
