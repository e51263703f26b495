"""Objects of a store (`s3://`, `gs://`, …): whole or not there, tried again where it fails.

For S3 Beam makes a client for each call, drops errors of a copy and cannot write an empty object,
so there all is asked of one client of boto3 (a client takes 100 to 280 ms of CPU).
"""

from __future__ import annotations

import copy as copies
import logging
import os
import re
import shutil
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, ParamSpec, TypeVar

from alignset.transforms.storage import web_files

if TYPE_CHECKING:
    from apache_beam.io.filesystem import FileMetadata

LOG = logging.getLogger("alignset")
P = ParamSpec("P")
T = TypeVar("T")
# Of boto3, requests and google.auth: no answer, or half of one.
PASSING = {
    *("ConnectionError", "TimeoutError", "Timeout", "HTTPClientError", "TransportError"),
    *("IncompleteReadError", "ChunkedEncodingError"),
}
REFUSED = (409, 412)  # a condition does not hold
_TRIES_TO_READ = 20  # of an object that others replace meanwhile


def scheme(path: str) -> str:
    """`s3` of `s3://bucket/object`; empty for a local path."""
    return path.partition("://")[0] if "://" in path else ""


def http_status(error: BaseException) -> int | None:
    """The HTTP status of boto3's, Google's or Beam's error."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def is_beams(error: Any) -> bool:
    """Whether Beam's file systems raised this: a BeamIOError, told without importing Beam."""
    return any(kind.__name__ == "BeamIOError" for kind in type(error).__mro__)


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if is_beams(error):
        causes = getattr(error, "exception_details", None) or {}
        return any(may_pass(cause) for cause in causes.values())
    status = http_status(error)
    if status is not None:
        return status >= 500 or status in (408, 429)
    return any(kind.__name__ in PASSING for kind in type(error).__mro__)


def _say(_: str, wait_s: float, name: str, error: str, *rest: object) -> None:
    reason = (error.strip().splitlines() or [name])[-1]
    LOG.warning("%s; trying again in %.0f s", reason, wait_s)


def _shorten(record: logging.LogRecord) -> bool:
    """Beam's own retries log a traceback each."""
    if record.args and len(record.args) == 4:
        _say("", *record.args)
        return False
    return True


logging.getLogger("apache_beam.utils.retry").addFilter(_shorten)


def _file_systems() -> Any:
    """Beam's file systems. Here and below Beam is imported where a store is used: it takes half a
    second, and most commands are on local files."""
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def patiently(function: Callable[P, T]) -> Callable[P, T]:
    """Nine tries within 5 minutes, beside the client's own: as long as Beam is patient in what it
    does."""

    @wraps(function)
    def patient(*args: P.args, **kwargs: P.kwargs) -> T:
        from apache_beam.utils import retry

        retrying = retry.with_exponential_backoff(
            num_retries=8,
            initial_delay_secs=2.0,
            max_delay_secs=60.0,
            retry_filter=may_pass,
            logger=_say,
        )
        result: T = retrying(function)(*args, **kwargs)
        return result

    return patient


_UNCOMPRESSED = "uncompressed"  # as Beam's CompressionTypes has it
_NO_OPTIONS: dict[str, Any] = {}
_s3_made: tuple[int, Any, Any] | None = None


def _s3(path: str) -> Any:
    """Beam's client over one client of boto3 a process: to make one takes 100 ms."""
    global _s3_made
    from apache_beam.io.aws.clients.s3.boto3_client import Client

    # Workers of a pool are not told the options: there boto3 finds all in the environment.
    options = getattr(_file_systems().get_filesystem(path), "_options", None) or _NO_OPTIONS
    if _s3_made is None or _s3_made[0] != os.getpid() or _s3_made[1] is not options:
        _s3_made = os.getpid(), options, Client(options)
    return copies.copy(_s3_made[2])  # it holds the state of one download


def _s3_place(path: str) -> dict[str, str]:
    bucket, _, key = path.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def _gs_blob(path: str) -> Any:
    from apache_beam.io.gcp.gcsio import GcsIO

    options = getattr(_file_systems().get_filesystem(path), "_pipeline_options", None)
    bucket, _, name = path.removeprefix("gs://").partition("/")
    return GcsIO(pipeline_options=options).client.bucket(bucket).blob(name)


def open_object(path: str) -> BinaryIO:
    """Opens an object as it is: its bytes are never decompressed on the way.

    Raises:
      FileNotFoundError: there is none.
    """
    if scheme(path) in web_files.SCHEMES:
        return web_files.open_web_file(path)
    if scheme(path) == "s3":
        from apache_beam.io.aws.s3io import S3IO

        return S3IO(client=_s3(path)).open(path)
    try:
        return _file_systems().open(path, compression_type=_UNCOMPRESSED)
    except Exception as error:
        if http_status(error) != 404:
            raise
        raise FileNotFoundError(f"there is no object {path}") from error


def object_exists(path: str) -> bool:
    """Whether there is an object with this very name."""
    if scheme(path) in web_files.SCHEMES:
        return web_files.web_file_exists(path)
    return _head(path) is not None if scheme(path) == "s3" else _exists(path)


@patiently
def _exists(path: str) -> bool:
    return bool(_file_systems().exists(path))


@patiently
def _head(path: str) -> dict[str, Any] | None:
    """S3's description of an object, or None where there is none."""
    try:
        answer: dict[str, Any] = _s3(path).client.head_object(**_s3_place(path))
    except Exception as error:
        if http_status(error) != 404:
            raise
        return None
    return answer


@patiently
def upload(source: BinaryIO, path: str) -> None:
    """Makes an object of a whole file, which is not seen before it is all there."""
    source.seek(0)  # also hands on what was written to it
    if scheme(path) == "s3":
        place = _s3_place(path)
        # boto3 closes what it was given, and this try may not be the last.
        with os.fdopen(os.dup(source.fileno()), "rb") as same:
            same.seek(0)
            _s3(path).client.upload_fileobj(same, place["Bucket"], place["Key"])
        return
    with _file_systems().create(path, compression_type=_UNCOMPRESSED) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


@patiently
def copy_object(source: str, path: str) -> None:
    """Copies within a store; nothing comes through this machine."""
    if scheme(source) == "s3":
        place = _s3_place(path)
        _s3(source).client.copy(_s3_place(source), place["Bucket"], place["Key"])
    else:
        _file_systems().copy([source], [path])


@patiently
def remove_object(path: str) -> None:
    """Removes an object, if it is there."""
    if scheme(path) == "s3":
        _s3(path).client.delete_object(**_s3_place(path))
    elif _file_systems().exists(path):
        _file_systems().delete([path])


@patiently
def remove_objects(paths: list[str]) -> None:
    """Removes objects of one store, many a request."""
    if not paths or scheme(paths[0]) != "s3":
        _file_systems().delete(paths)
        return
    from apache_beam.io.aws.s3io import S3IO

    ends = S3IO(client=_s3(paths[0])).delete_paths(paths)
    if errors := {path: error for path, error in ends.items() if error is not None}:
        from apache_beam.io.filesystem import BeamIOError

        raise BeamIOError("Delete operation failed", errors)


def match_objects(pattern: str) -> list[FileMetadata]:
    """The object of a name, or the objects of a glob as Beam reads it; a folder is one only as a
    glob.

    Raises:
      BeamIOError, OSError: the store, or the host, refuses or does not answer.
    """
    if scheme(pattern) in web_files.SCHEMES:
        from apache_beam.io.filesystem import FileMetadata

        try:
            return [FileMetadata(*file) for file in web_files.match_web_files(pattern)]
        except Exception as error:  # of several packages; few of them name the host
            raise OSError(f"{pattern}: {error}") from error
    if scheme(pattern) != "s3":
        return _file_systems().match([pattern])[0].metadata_list
    try:
        return _match_s3(pattern)
    except Exception as error:
        from apache_beam.io.filesystem import BeamIOError

        raise BeamIOError("Match operation failed", {pattern: error}) from error


def _match_s3(pattern: str) -> list[FileMetadata]:
    from apache_beam.io.aws.s3io import S3IO
    from apache_beam.io.filesystem import FileMetadata

    before_globs = re.split(r"[\[*?]", pattern, maxsplit=1)[0]
    if before_globs == pattern:
        head = _head(pattern)
        if head is None:
            return []
        return [FileMetadata(pattern, head["ContentLength"], head["LastModified"].timestamp())]
    objects = S3IO(client=_s3(pattern)).list_files(before_globs, with_metadata=True)
    files = [FileMetadata(path, size, time_s) for path, (size, time_s) in objects]
    return list(_file_systems().get_filesystem(pattern).match_files(files, pattern))


def has_conditions(path: str) -> bool:
    """Whether `put_if` works in this store."""
    return scheme(path) in ("s3", "gs")


@patiently
def put_if(path: str, body: bytes, version: str | None) -> str | None:
    """Writes a small object if it is still what the caller knows.

    Args:
      version: what `put_if` or `read_version` gave; None where there must be no such object.

    Returns:
      The object's new version, or None: it is another by now.
    """
    try:
        if scheme(path) == "s3":
            condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
            response = _s3(path).client.put_object(**_s3_place(path), Body=body, **condition)
            return response["ETag"]
        blob = _gs_blob(path)
        blob.upload_from_string(body, if_generation_match=int(version or 0))
        return str(blob.generation)
    except Exception as error:
        # Of an object that is gone a store says 404 where a version was asked for.
        if http_status(error) in REFUSED or (version and http_status(error) == 404):
            return None
        raise


class Versioned(NamedTuple):
    """A small object, and which of its versions this is."""

    body: bytes
    version: str


@patiently
def read_version(path: str) -> Versioned | None:
    """A small object as it is now, or None where there is none."""
    try:
        if scheme(path) == "s3":
            answer = _s3(path).client.get_object(**_s3_place(path))
            return Versioned(answer["Body"].read(), answer["ETag"])
        return _read_gs_version(path)
    except Exception as error:
        if http_status(error) == 404:
            return None
        raise


def _read_gs_version(path: str, tries: int = _TRIES_TO_READ) -> Versioned:
    blob = _gs_blob(path)
    blob.reload()
    version = blob.generation  # a download sets it to what the answer's headers say, or to None
    try:
        return Versioned(blob.download_as_bytes(if_generation_match=version), str(version))
    except Exception as error:
        if tries > 1 and http_status(error) == 412:  # replaced between the two
            return _read_gs_version(path, tries - 1)
        raise
