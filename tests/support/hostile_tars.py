"""Tars that were made to hurt whoever reads them, header by header."""

import io
import tarfile
from pathlib import Path

END = bytes(1024)
Members = list[tuple[str, int, bool]]  # name, size, plain


def tar_of(files: dict[str, bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these names and bytes, in this order."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tar_format) as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return made.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    """Writes such a tar; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_of(files))
    return path


def header(
    name: bytes, size: int | bytes, kind: bytes = b"0", more: dict[int, bytes] | None = None
) -> bytes:
    """A header with a right sum.

    Args:
      size: or the very bytes of its field. more: bytes by their place.
    """
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = (b"%011o\0" % size if isinstance(size, int) else size).ljust(12, b"\0")
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    for at, value in (more or {}).items():
        block[at : at + len(value)] = value
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    return bytes(block)


def padded(body: bytes) -> bytes:
    return body + bytes(-len(body) % 512)


def pax(body: bytes) -> bytes:
    return header(b"x", len(body), b"x") + padded(body)


def records(*pairs: tuple[bytes, bytes]) -> bytes:
    """POSIX's records: their length, which counts itself, a key and a value."""
    made = b""
    for key, value in pairs:
        rest = b" %s=%s\n" % (key, value)
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        made += b"%d%s" % (length, rest)
    return made


def binary(size: int) -> bytes:
    """GNU's field of a size, with the sign bit that it leaves room for."""
    return b"\x80" + size.to_bytes(11, "big", signed=True)


def shared(body: bytes) -> bytes:
    """Records that hold for all members behind them."""
    return header(b"g", len(body), b"g") + padded(body)


def old_folder(size: int) -> bytes:
    """A folder as it was written before POSIX."""
    return header(b"d/", size, b"\0", {257: bytes(8)})


FILE = header(b"a.txt", 3) + padded(b"abc")
OTHER = header(b"b.txt", 3) + padded(b"xyz")
BOTH: Members = [("a.txt", 3, True), ("b.txt", 3, True)]
SPARSE = {386: b"%011o\0%011o\0" % (8 << 30, 0), 483: b"%011o\0" % (8 << 30)}
NO_SIZE, NO_HEADER, CUT = "without a size", "no tar header", "it is cut off"

# The tar, and what it holds, or why it is broken.
HOSTILE: dict[str, tuple[bytes, Members | str]] = {
    "nothing": (b"", CUT),
    "only an end": (END, []),
    "an end of one block": (FILE + bytes(512), [("a.txt", 3, True)]),
    "a lone block of zeros": (FILE + bytes(512) + OTHER + END, BOTH[:1]),
    "a lone block of zeros first": (bytes(512) + FILE + END, []),
    "a shared path": (
        shared(records((b"path", b"p.txt"))) + FILE + OTHER + END,
        [("p.txt", 3, True)] * 2,
    ),
    "a shared path, and another": (
        shared(records((b"path", b"p.txt"))) + FILE + shared(records((b"path", b"q"))) + OTHER,
        [("p.txt", 3, True), ("q", 3, True)],
    ),
    "a shared path, and one's own": (
        shared(records((b"path", b"p.txt"))) + pax(records((b"path", b"q"))) + FILE + OTHER + END,
        [("q", 3, True), ("p.txt", 3, True)],
    ),
    "one's own path, and a shared comment": (
        pax(records((b"path", b"q"))) + shared(records((b"comment", b"x"))) + FILE + OTHER + END,
        [("q", 3, True), BOTH[1]],
    ),
    "a shared path, and a long name": (
        shared(records((b"path", b"p"))) + header(b"l", 2, b"L") + padded(b"n\0") + FILE + OTHER,
        [("n", 3, True), ("p", 3, True)],
    ),
    "a shared path that is taken back": (
        shared(records((b"path", b"p"))) + pax(records((b"path", b""))) + FILE + OTHER + END,
        [("a.txt", 3, True), ("p", 3, True)],
    ),
    "a shared size": (
        shared(records((b"size", b"3"))) + header(b"a.txt", 0) + padded(b"abc") + OTHER + END,
        BOTH,
    ),
    "a shared comment": (shared(records((b"comment", b"x"))) + FILE + END, BOTH[:1]),
    "shared records and no member": (shared(records((b"path", b"p"))), []),
    "a shared record without an end": (shared(b"99 path=a\n") + FILE, "no header's record"),
    "shared records longer than memory": (header(b"g", binary(1 << 50), b"g"), "of 1,125,899,906"),
    **{
        f"a record's size {size!r}": (
            pax(records((b"size", size))) + header(b"a.txt", 0) + padded(b"abc") + OTHER + END,
            BOTH,
        )
        for size in (b"0" * 40 + b"3", b" 3", b"3 ", b"03")
    },
    **{
        f"a record's size {size!r}": (pax(records((b"size", size))) + FILE + END, NO_SIZE)
        for size in (b"3x", b"+3", b"3 3", b"0x3", b" ", b"1" * 20, b"\xb2")
    },
    "a record's size of nothing": (pax(records((b"size", b""))) + FILE + OTHER + END, BOTH),
    **{
        f"a size {field!r}": (header(b"a.txt", field) + padded(b"abc") + OTHER + END, BOTH)
        for field in (
            *(b"\x000000000003\0", b"\0" * 10 + b"3\0", b"\0 \0  03 \0", b" " * 11 + b"3"),
            *(b"   3        ", b"000000000003", b"3\0zzzz", binary(3)),
        )
    },
    **{
        f"a size {field!r}": (header(b"a.txt", field) + OTHER + END, [("a.txt", 0, True), BOTH[1]])
        for field in (bytes(12), b" " * 12, b"\0zz", b"\x009", b"0")
    },
    **{
        f"a size {field!r}": (header(b"a.txt", field) + OTHER + END, NO_SIZE)
        for field in (b"8", b"zz", b"\x81" + bytes(10) + b"\3", b"+3", b"3z")
    },
    "an old folder": (old_folder(0) + FILE + END, BOTH[:1]),
    "an old folder with a size": (old_folder(1 << 30) + FILE + END, BOTH[:1]),
    "an old folder by a record": (
        pax(records((b"path", b"d/"))) + header(b"x", 0, b"\0") + FILE + END,
        BOTH[:1],
    ),
    "a file that is named as a folder": (header(b"d/", 0) + FILE, [("d/", 0, True), *BOTH[:1]]),
    "a size below zero": (header(b"a.txt", b"-0000001000") + FILE + END, NO_SIZE),
    "a size below zero, binary": (header(b"a.txt", b"\xff" * 12) + FILE + END, NO_SIZE),
    "a size that leads back": (FILE + header(b"b.txt", binary(-512)) + END, NO_SIZE),
    "a size that is no number": (header(b"a.txt", b"12x4") + END, NO_SIZE),
    "a size of all the disks": (header(b"a.jpg", b"77777777777\0") + FILE + END, CUT),
    "a size beyond all disks": (header(b"a.jpg", binary(1 << 70)) + FILE + END, NO_SIZE),
    "a binary size": (header(b"a.txt", binary(3)) + padded(b"abc") + END, [("a.txt", 3, True)]),
    "a sum below zero": (FILE[:148] + b"-006173\0" + FILE[156:], NO_HEADER),
    "a name longer than memory": (header(b"l", b"77777777777", b"L") + END, "of 8,589,934,591 by"),
    "records longer than memory": (header(b"x", binary(1 << 50), b"x") + END, "of 1,125,899,906"),
    "a chain of long names": (
        (header(b"l", 2, b"L") + padded(b"n\0")) * 20_000 + FILE + END,
        [("n", 3, True)],
    ),
    "a chain of records": (pax(records((b"path", b"p"))) * 20_000 + FILE + END, [("p", 3, True)]),
    "a record of length zero": (pax(b"0 path=a\n") + FILE + END, "no header's record"),
    "a record of length one": (pax(b"1 path=a\n") + FILE + END, "no header's record"),
    "a record below zero": (pax(b"-9 path=a\n") + FILE + END, "no header's record"),
    "a record without an end": (pax(b"99 path=a\n") + FILE + END, "no header's record"),
    "a record of digits alone": (pax(b"1" * (1 << 20)) + FILE + END, "no header's record"),
    "records of nothing": (pax(b"4 =\n" * (1 << 18)) + FILE + END, [("a.txt", 3, True)]),
    "a record's size": (
        pax(records((b"size", b"3"))) + header(b"a.txt", 0) + padded(b"abc") + FILE + END,
        [("a.txt", 3, True)] * 2,
    ),
    "a record's size below zero": (pax(records((b"size", b"-512"))) + FILE + END, NO_SIZE),
    "a record's size of many digits": (pax(records((b"size", b"9" * 5000))) + FILE, NO_SIZE),
    "a name that is no UTF-8": (
        pax(records((b"path", b"\xe9.txt"))) + FILE + header(b"\xff.txt", 0) + END,
        [("\udce9.txt", 3, True), ("\udcff.txt", 0, True)],
    ),
    "a sparse file of 8 GB": (
        header(b"a.jpg", 0, b"S", SPARSE) + FILE + END,
        [("a.jpg", 0, False), ("a.txt", 3, True)],
    ),
    "a sparse file with a longer map": (
        header(b"a.jpg", 3, b"S", {482: b"\1"})
        + (bytes(504) + b"\1" + bytes(7)) * 3
        + (b"1" * 504 + bytes(8))
        + padded(b"abc")
        + FILE
        + END,
        [("a.jpg", 3, False), ("a.txt", 3, True)],
    ),
    "a map of holes without an end": (
        header(b"a.jpg", 3, b"S", {482: b"\1"}) + (bytes(504) + b"\1" + bytes(7)) * 1000,
        CUT,
    ),
    "POSIX's sparse file of 8 GB": (
        pax(
            records(
                *((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")),
                *((b"GNU.sparse.name", b"a.jpg"), (b"GNU.sparse.realsize", b"8589934592")),
            )
        )
        + header(b"GNUSparseFile.1/a.jpg", 512)
        + padded(b"0\n")
        + FILE
        + END,
        [("a.jpg", 512, False), ("a.txt", 3, True)],
    ),
    "a link with a size": (
        header(b"a.jpg", 1 << 30, b"2", {157: b"/etc/passwd"}) + FILE + END,
        [("a.jpg", 1 << 30, False), ("a.txt", 3, True)],
    ),
    "a folder with a size": (header(b"a.jpg", 1 << 30, b"5") + FILE + END, [("a.txt", 3, True)]),
    "a kind that nobody knows": (
        header(b"a.jpg", 3, b"\xfe") + padded(b"abc") + FILE + END,
        [("a.jpg", 3, False), ("a.txt", 3, True)],
    ),
    "a long name and no member": (header(b"l", 2, b"L") + padded(b"n\0") + END, []),
    "a header of bytes beyond ASCII, by an old writer": (
        (
            b"\xe9.txt".ljust(148, b"\0")
            + b"%06o\0 " % (0xE9 - 256 + sum(b".txt") + 256)
            + bytes(356)
        )
        + END,
        [("\udce9.txt", 0, True)],
    ),
}
