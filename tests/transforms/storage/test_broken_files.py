"""What of an error is a file's own fault, and what is not."""

import errno

import pyarrow as pa

from alignset.transforms.storage.broken_files import (
    MOST_NAMED,
    BrokenFile,
    BrokenFiles,
    FileFault,
    broken_file,
    sum_up,
)
from alignset.transforms.storage.stores import RemoteError

OF_THE_FILE = (
    (FileFault("wrong_format", "no tar"), "wrong_format", "no tar"),
    (OSError(errno.ENOENT, "No such file", "a"), "gone", "No such file or directory"),
    (OSError(errno.EACCES, "Permission denied", "a"), "no_access", "Permission denied"),
    (OSError(errno.EIO, "Input/output error", "a"), "damaged", "Input/output error"),
    (OSError("zlib inflate failed\nmore"), "damaged", "zlib inflate failed"),
    (EOFError(), "cut_short", "EOFError"),
    (pa.ArrowInvalid("x" * 500), "damaged", "x" * 200),
)
OF_OTHERS = (
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EMFILE, "Too many open files"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    *(TimeoutError(), RemoteError("a", 503), RemoteError("a", 400), RemoteError("no credentials")),
    RemoteError("a", 403),  # or a run whose credentials end would lose its input
    *(ValueError("of our own code"), KeyError("url")),
)


def test_what_is_the_fault_of_a_file() -> None:
    for error, detail, fault in OF_THE_FILE:
        assert broken_file("a", error) == BrokenFile("a", detail, fault)
    assert [error for error in OF_OTHERS if broken_file("a", error)] == []


def test_each_file_counts_once_and_the_first_by_path_are_named():
    files = [BrokenFile(f"{n:05d}", "gone", "x") for n in range(MOST_NAMED + 5)]
    again = [BrokenFile("00000", "damaged", "y"), BrokenFile("00000", "damaged", "x")]
    told = sum_up([*reversed(files), *again])
    assert told == sum_up([*again, *files])
    assert (told.broken, len(told.named)) == (MOST_NAMED + 5, MOST_NAMED)
    assert told.named[0] == BrokenFile("00000", "damaged", "x")
    assert told.details == {"damaged": 1, "gone": MOST_NAMED + 4}
    assert sum_up([]) == BrokenFiles()
