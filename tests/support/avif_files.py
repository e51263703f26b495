"""AVIF files that Pillow does not write: grids, tables of many items, headers that lie."""

from __future__ import annotations

import struct

from PIL import Image as PillowImage

from tests.support.picture_files import encoded


def frame_file(side: int, seed: int = 0) -> bytes:
    """An AVIF of one colour, side x side px: some hundred bytes, however large it is."""
    picture = PillowImage.new("RGB", (side, side), (seed % 256, 90, 30))
    return encoded(picture, "AVIF", speed=10)


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, version: int, *parts: bytes) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), *parts)


def find_box(file: bytes, kind: bytes) -> bytes:
    """The first box of a kind, wherever it is, with its header."""
    at = file.index(kind) - 4
    return file[at : at + int.from_bytes(file[at : at + 4], "big")]


def coded_frame(file: bytes) -> bytes:
    """The OBUs of the one image in an AVIF."""
    return find_box(file, b"mdat")[8:]


def grid(
    frames: list[bytes], rows: int, columns: int, tile: int, *, says: tuple[int, int] | None = None
) -> bytes:
    """A grid of tiles whose `ispe` says tile x tile px, whatever their frames have.

    Args:
      frames: AVIFs whose frames are its tiles, in turn. One stands for all, by the same bytes.
      says: (width, height) in px of the grid, its tiles' by default.
    """
    count = rows * columns
    width, height = says or (tile * columns, tile * rows)
    datas = [coded_frame(frame) for frame in frames]
    layout = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
    numbers = range(2, count + 2)
    properties = (
        full_box(b"ispe", 0, struct.pack(">II", width, height)),
        full_box(b"ispe", 0, struct.pack(">II", tile, tile)),
        find_box(frames[0], b"av1C"),
        find_box(frames[0], b"pixi"),
    )
    entries = b"\0\1\2\1\4" + b"".join(struct.pack(">H", n) + b"\3\2\x83\4" for n in numbers)
    offsets = [len(layout)]
    for data in datas:
        offsets.append(offsets[-1] + len(data))
    places = [(0, len(layout))]
    places += [(offsets[n % len(datas)], len(datas[n % len(datas)])) for n in range(count)]
    items = [(b"grid", 1), *((b"av01", n) for n in numbers)]
    derived = struct.pack(f">HH{count}H", 1, count, *numbers)
    boxes = [
        full_box(b"iref", 0, box(b"dimg", derived)),
        box(
            b"iprp",
            box(b"ipco", *properties),
            full_box(b"ipma", 0, struct.pack(">I", count + 1), entries),
        ),
    ]
    return file_of(items, places, boxes, layout + b"".join(datas))


def file_of(
    items: list[tuple[bytes, int]],
    places: list[tuple[int, int]],
    boxes: list[bytes],
    data: bytes,
    primary: int = 1,
) -> bytes:
    """A file of (type, number) and (offset in the data, length) of each item."""

    def meta(begin: int) -> bytes:
        extents = [
            struct.pack(">HHHHII", number, 0, 0, 1, begin + offset, length)
            for (_, number), (offset, length) in zip(items, places, strict=True)
        ]
        entries = [
            full_box(b"infe", 2, struct.pack(">HH4s", number, 0, kind), b"\0")
            for kind, number in items
        ]
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", primary)),
            full_box(b"iloc", 1, b"\x44\0", struct.pack(">H", len(items)), *extents),
            full_box(b"iinf", 0, struct.pack(">H", len(items)), *entries),
            *boxes,
        )

    brand = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")
    return brand + meta(len(brand) + len(meta(0)) + 8) + box(b"mdat", data)


def one_item(frame: bytes, data: bytes, size: tuple[int, int], *more: bytes) -> bytes:
    """One image of these OBUs whose `ispe` says a size.

    Args:
      frame: an AVIF that has the other properties. more: boxes of `meta`.
    """
    properties = (
        full_box(b"ispe", 0, struct.pack(">II", *size)),
        find_box(frame, b"av1C"),
        find_box(frame, b"pixi"),
    )
    entry = full_box(b"ipma", 0, struct.pack(">I", 1), b"\0\1\3\1\x82\3")
    boxes = [box(b"iprp", box(b"ipco", *properties), entry), *more]
    return file_of([(b"av01", 1)], [(0, len(data))], boxes, data)


def many_entries(table: bytes, count: int) -> bytes:
    """An image beside so many empty entries of one of its tables."""
    frame = frame_file(64)
    numbers = range(2, count + 2)
    if table == b"iref":
        refs = [box(b"cdsc", struct.pack(">HHH", n % 60_000, 1, 1)) for n in numbers]
        return one_item(frame, coded_frame(frame), (64, 64), full_box(b"iref", 0, *refs))
    items = [(b"av01", 1), *((b"Exif", n) for n in numbers)]
    places = [(0, len(coded_frame(frame))), *((0, 0) for _ in numbers)]
    whole = one_item(frame, coded_frame(frame), (64, 64))
    return file_of(items, places, [find_box(whole, b"iprp")], coded_frame(frame))
