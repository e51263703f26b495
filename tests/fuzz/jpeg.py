"""JPEGs whose segments are lost, doubled, swapped, split, damaged or followed by decoys."""

from __future__ import annotations

import functools
import struct
from random import Random

from alignset.transforms.images.examine import examine
from tests.support.jpeg_frames import ALL_FRAMES, lossless
from tests.support.picture_files import encoded, photograph

SIZES = ((640, 480), (96, 80), (129, 111), (33, 250), (17, 16))
# By marker: what stands in header segments, beside what good files have there.
DATA = (
    *((0xDB, bytes([n]) + bytes(64)) for n in (0x70, 0xF1, 0x13, 0x04, 0x00, 0x11)),
    *((0xDB, data) for data in (b"", b"\0", bytes([0]) + b"\1" * 64, bytes([0x10]) + b"\1" * 128)),
    *((0xC4, bytes([n, *[0] * 16])) for n in (0x00, 0x10, 0x04, 0x20, 0xFF)),
    *((0xC4, data) for data in (b"", bytes([0, 255, *[0] * 15]) + bytes(255), b"\0")),
    *((0xDD, data) for data in (b"\0\0", b"\0\1", b"\0", b"\0\0\0", b"")),
    *((0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([n])) for n in (0, 1, 2)),
    *((n, data) for n in (0xE0, 0xE1, 0xFE, 0xD8, 0x02, 0xC8, 0xDC) for data in (b"", b"JFIF\0")),
    *((0xE0, b"JFIF\0" + data) for data in (b"\2\0\0\0\1\0\1\0\0", b"\1\2", b"\1\2\0\0\1\0\1\5\5")),
    *((0xE0, data) for data in (b"JFXX\0\x10", b"JFXX\0\0", b"AVI1\0\0\0\0\0")),
    *((0xE2, b"ICC_PROFILE\0" + n + bytes(9)) for n in (b"\1\1", b"\2\1", b"\0\0", b"\1\2", b"")),
    *((n, b"") for n in range(0xE3, 0xF0)),
    (0xED, b"Photoshop 3.0\0008BIM\4\4\0\0\0\0\0\1"),
    (0xE1, b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
)
ALONE = (b"\xff\xd0", b"\xff\x01", b"\xff", b"\xff\0", b"\0", b"\xff\xd8", b"\xff\xd9", b"junk")


@functools.cache
def good_jpegs() -> tuple[bytes, ...]:
    kinds: tuple[dict[str, object], ...] = (
        *({"quality": q, "subsampling": n} for q in (1, 75, 100) for n in (0, 1, 2)),
        {"optimize": True},
        {"progressive": True},
        {"restart_marker_rows": 1},
    )
    colour = [encoded(photograph(1, *size), "JPEG", **k) for size in SIZES for k in kinds]
    grey = [encoded(photograph(1, *size).convert("L"), "JPEG") for size in SIZES]
    cmyk = encoded(photograph().convert("CMYK"), "JPEG")
    return (*colour, *grey, cmyk, *(lossless(512, 512, n, restart_rows=9) for n in (1, 1, 1, 3)))


def split(body: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """(marker, data) of each segment of a good file, up to the scan's own; and what follows."""
    at, segments = 2, []
    while not segments or segments[-1][0] != 0xDA:
        size = int.from_bytes(body[at + 2 : at + 4], "big")
        segments.append((body[at + 1], body[at + 4 : at + 2 + size]))
        at += 2 + size
    return segments, body[at:]


def segment(marker: int, data: bytes, random: Random | None = None) -> bytes:
    size = len(data) + 2
    if random and random.random() < 0.05:
        size = random.choice((0, 1, 2, size - 1, size + 1, 65_535))
    return b"\xff" + bytes([marker]) + struct.pack(">H", max(0, size)) + data


def changed(data: bytes, random: Random) -> bytes:
    changing = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        if changing:
            changing[random.randrange(len(changing))] = random.choice((0, 1, 3, 0x11, 0x22, 255))
    return bytes(changing)


def hostile_jpeg(random: Random) -> bytes:
    segments, scan = split(random.choice(good_jpegs()))
    others, _ = split(random.choice(good_jpegs()))
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        at = random.randrange(len(segments))
        marker, data = segments[at]
        way = random.randrange(9)
        if way == 0:
            segments.insert(at, random.choice(DATA))
        elif way == 1:
            segments.insert(at, random.choice(others[:-1]))
        elif way == 2:
            segments[at] = marker, changed(data, random)
        elif way == 3 and len(segments) > 1 and marker != 0xDA:
            del segments[at]
        elif way == 4:
            cut = random.randrange(len(data) + 1)
            segments[at : at + 1] = [(marker, data[:cut]), (marker, data[cut:])]
        elif way == 5:
            swapped = random.randrange(len(segments))
            segments[at], segments[swapped] = segments[swapped], segments[at]
        elif way == 6:
            segments[at] = random.choice((*ALL_FRAMES, 0xDB, 0xC4, 0xFE)), data
        elif way == 7:
            segments.insert(at, (-1, decoy(others, random)))
        else:
            segments.insert(at, (-1, random.choice(ALONE)))
    head = b"".join(data if m < 0 else segment(m, data, random) for m, data in segments)
    return b"\xff\xd8" + head + hostile_scan(scan, random)


def decoy(others: list[tuple[int, bytes]], random: Random) -> bytes:
    """Segments of another file behind a marker that has no length for decoders, as if it had one;
    and within a comment."""
    hidden = b"".join(segment(*parts) for parts in random.sample(others, min(3, len(others))))
    marker = random.choice((0xD0, 0xD7, 0x01, 0xFE, 0xD8, 0x00))
    return segment(marker, hidden[: random.choice((0, 10, 5000))]) + hidden


def hostile_scan(scan: bytes, random: Random) -> bytes:
    way = random.randrange(8)
    if way == 0:
        return scan[: random.randrange(len(scan))] + random.choice((b"", b"\xff\xd9"))
    if way == 1:
        return changed(scan, random)
    if way == 2:
        at, size = random.randrange(len(scan)), random.choice((1, 2, 30))
        return scan[:at] + scan[at + size :]
    if way == 3:
        at = random.randrange(len(scan))
        return scan[:at] + random.choice((b"\xff", b"\xff\xd0", b"\xff\0", bytes(9))) + scan[at:]
    return scan


def _with_segments(head: bytes) -> bytes:
    body = good_jpegs()[1]
    return body[:2] + head + body[2:]


GROWTH = {
    "segments": (
        lambda head: examine(_with_segments(head)),
        (
            *(segment(marker, data) for marker, data in DATA[::3]),
            *ALONE,
            segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
            segment(0xE2, b"ICC_PROFILE\0\1\1"),
        ),
    ),
    "scan": (lambda scan: examine(good_jpegs()[1][:-2] + scan + b"\xff\xd9"), ALONE),
}
