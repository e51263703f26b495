"""Files that cannot be read, or not to their end: what is wrong, of a closed set, and in words.

Only faults of the file itself are here. A full disk, too many open files and a store that does not
answer are not faults of a file: their errors end the run.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from alignset.transforms.storage.stores import RemoteError, may_pass

CUT_SHORT, DAMAGED, WRONG_FORMAT = "cut_short", "damaged", "wrong_format"
NO_ACCESS, GONE, UNFINISHED = "no_access", "gone", "unfinished"
_OF_THE_FILE = (
    *(errno.EIO, errno.ESTALE, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
    errno.EINVAL,
)
MOST_NAMED = 1000  # broken files in a document
_LONGEST = 200  # characters in which it is told


class FileFault(ValueError):
    """A fault in the bytes of a file.

    Args:
      detail: CUT_SHORT, DAMAGED or WRONG_FORMAT.
      fault: the same in words, and where.
    """

    def __init__(self, detail: str, fault: str) -> None:
        super().__init__(detail, fault)
        self.detail, self.fault = detail, fault

    def __str__(self) -> str:
        return self.fault


@dataclass(frozen=True, order=True)
class BrokenFile:
    """A file that cannot be read to its end.

    Attributes:
      detail: one of `reasons.INPUT_FAULTS`. fault: the same in words.
    """

    path: str
    detail: str
    fault: str


class BrokenInputError(RuntimeError):
    """Input is broken, and the run must end; says what to do."""

    @classmethod
    def not_skipped(cls, file: BrokenFile) -> BrokenInputError:
        """The fault of a file that may not be left out."""
        return cls(
            f"cannot read {file.path} to its end: {file.fault}; replace the file, leave it out of "
            "--input, or pass --on_broken_input=skip, each with another --output"
        )


@dataclass(frozen=True)
class BrokenFiles:
    """How many files are broken, by detail too, and the first of them by path."""

    broken: int = 0
    details: dict[str, int] = field(default_factory=dict)
    named: list[BrokenFile] = field(default_factory=list)


def sum_up(files: Iterable[BrokenFile]) -> BrokenFiles:
    """Counts each file once: one of Parquet may be broken in several row groups."""
    first: dict[str, BrokenFile] = {}
    for file in files:
        first[file.path] = min(file, first.get(file.path, file))
    details = Counter(file.detail for file in first.values())
    first_files = sorted(first.values())[:MOST_NAMED]
    return BrokenFiles(len(first), dict(sorted(details.items())), first_files)


def broken_file(path: str, error: BaseException) -> BrokenFile | None:
    """The fault of the file that an error describes; None for other errors."""
    detail = _detail(error)
    if detail is None:
        return None
    message = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    if isinstance(error, UnicodeDecodeError):  # in a footer of Parquet
        message = "a name in it is not UTF-8"
    lines = (message or type(error).__name__).splitlines() or [detail]
    return BrokenFile(path, detail, lines[0][:_LONGEST])


def _detail(error: BaseException) -> str | None:
    if isinstance(error, FileFault):
        return error.detail
    if may_pass(error) or isinstance(error, pa.ArrowCancelled):
        return None
    if isinstance(error, FileNotFoundError):
        return GONE
    if isinstance(error, PermissionError):
        return NO_ACCESS
    if isinstance(error, RemoteError):
        return None  # a store that refuses may refuse all, as when a run's credentials end
    if isinstance(error, EOFError):
        return CUT_SHORT
    if isinstance(error, OSError):  # Arrow's of bytes that it cannot unpack have no number
        return DAMAGED if error.errno is None or error.errno in _OF_THE_FILE else None
    return DAMAGED if isinstance(error, pa.ArrowException | UnicodeDecodeError) else None
