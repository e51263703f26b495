"""Tar files by the standard library, which some of them make hang or raise what is no error of tar.

A header may have a negative size, so that the same member comes for ever (CVE-2025-8194), digits
that it reads in the square of their number (CVE-2024-6232: 1,000 s for 1 MB), or numbers that are
none; and of members that only name the next one it takes so many one within another.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

_LONGEST_NAME = 1 << 13  # bytes of what is told of the next member; a path has at most 4,096
_LARGEST = 1 << 62  # bytes of a member
_ABOUT_THE_NEXT = frozenset(b"xgXLK")


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        long = ord(member.type) in _ABOUT_THE_NEXT and member.size > _LONGEST_NAME
        if long or not 0 <= member.size < _LARGEST:
            raise tarfile.ReadError(f"a header tells of {member.size} bytes")
        return member


def tar_members(
    source: BinaryIO, mode: Literal["r:", "r|"]
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an uncompressed tar file, each with the file to extract it from.

    Args:
      mode: `r|` for a source that cannot seek.

    Raises:
      tarfile.TarError: it is none, is damaged, or ends before its end (only with `r:`).
    """
    try:
        with tarfile.open(fileobj=source, mode=mode, tarinfo=_Member) as tar:
            while member := tar.next():
                # Else all are kept, 1 KB for each 512 bytes of the file.
                tar.members.clear()  # type: ignore[attr-defined]
                if not 0 <= member.size < _LARGEST:
                    raise tarfile.ReadError(f"a header tells of {member.size} bytes")
                yield tar, member
            # It takes an end that comes between two files, or in a header, for the end.
            if mode == "r:":
                source.seek(tar.offset)
                if source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("it is cut off")
    except (ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise tarfile.ReadError("a header holds what is no tar") from error
