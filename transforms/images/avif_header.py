"""The part of an AVIF that stands before its pixels: its size, and whether a decode costs what
that size says.

libavif bounds neither. A grid may name one huge frame for each of its tiles, an item's `ispe` may
say 300 x 300 of a frame of 12000 x 12000, and tables of items are parsed in quadratic time.

Sources: ISO/IEC 14496-12 (boxes, tracks), ISO/IEC 23008-12 (items, grids), AV1 bitstream
specification 1.0.0, sections 5.3 to 5.5 (OBUs, sequence headers).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

MAX_ITEMS = 256  # a grid of 64 tiles with alpha, and what describes it
MAX_TILES = 64
MAX_SAMPLES = 10_000  # frames of an animation
_MAX_TRACKS = 16
# An item has one frame, or one for each of its layers: at most four. More would hide behind the one
# that is shown.
_MAX_FRAMES, _MAX_OBUS = 4, 1_000
_MAX_BOXES = 10_000  # of a file; a film that is sent in fragments has some thousands
_MAX_EXTENTS = 16 * MAX_ITEMS  # of all items, and as many properties
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_ITEM_BOXES = (b"pitm", b"iinf", b"iloc", b"iprp", b"idat", b"iref")
_LAYER_PROPERTIES = (b"lsel", b"a1lx", b"a1op")


class AvifError(ValueError):
    """The file is not decoded; the message is a detail of "undecodable"."""


class AvifHeader(NamedTuple):
    """Size in px, as stored in the file, and why it is not decoded: a detail or None."""

    width: int
    height: int
    fault: str | None


class _Box(NamedTuple):
    kind: bytes
    begin: int
    end: int


class _Item(NamedTuple):
    """An item of a `meta` box: its type, its bytes in the file, and its properties."""

    kind: bytes
    extents: list[tuple[int, int]]
    properties: list[_Box]


def avif_header(body: bytes) -> AvifHeader:
    """Reads the boxes of an AVIF, none of its pixels. Time is linear in the file.

    Returns:
      0 x 0 with the fault where no size can be read.
    """
    size, cut = (0, 0), None
    try:
        boxes: list[_Box] = []
        try:
            boxes.extend(_boxes(body, 0, len(body), _MAX_BOXES))
        except AvifError as error:  # behind what says the size, most often
            cut = error
        metas, movies = ([box for box in boxes if box.kind == kind] for kind in (b"meta", b"moov"))
        if len(metas) > 1 or len(movies) > 1:
            raise AvifError("broken")
        items = _Items(body, metas[0]) if metas else None
        tracks = _tracks(body, movies[0]) if movies else []
        # As libavif chooses: by the major brand.
        if tracks and (body[8:12] == b"avis" or items is None):
            size = tracks[0].size
        elif items:
            size = items.size()
        else:
            raise AvifError("broken")
        if cut:
            raise cut
        if items:
            items.check()
        for track in tracks:
            _check_track(body, track)
    except AvifError as error:
        return AvifHeader(*size, str(error))
    except (struct.error, IndexError, KeyError):
        return AvifHeader(*size, "broken")
    return AvifHeader(*size, None)


def _boxes(body: bytes, begin: int, end: int, most: int) -> Iterator[_Box]:
    """The boxes of a part of the file; the last one may be cut by the file's end, not by `end`."""
    count = 0
    while begin + 8 <= end:
        size, kind = struct.unpack_from(">I4s", body, begin)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", body, begin + 8)[0], 16
        elif size == 0:
            size = end - begin
        if size < head:
            raise AvifError("broken")
        if begin + size > end:
            raise AvifError("truncated" if begin + size > len(body) else "broken")
        count += 1
        if count > most:
            raise AvifError("too_costly")
        yield _Box(kind, begin + head, begin + size)
        begin += size


def _within(body: bytes, box: _Box, skip: int = 0, most: int = 4 * MAX_ITEMS) -> dict[bytes, _Box]:
    """The boxes in a box by kind, the first of each; `skip` bytes stand before them."""
    found: dict[bytes, _Box] = {}
    for inner in _boxes(body, box.begin + skip, box.end, most):
        found.setdefault(inner.kind, inner)
    return found


class Reader:
    """Big-endian numbers of a box, one behind the other."""

    def __init__(self, body: bytes, box: _Box) -> None:
        self._body, self._at, self._end = body, box.begin, box.end

    def number(self, size: int) -> int:
        """A number of so many bytes; 0 of none."""
        begin, self._at = self._at, self._at + size
        if self._at > self._end:
            raise AvifError("broken")
        return int.from_bytes(self._body[begin : self._at], "big")

    def version(self) -> tuple[int, int]:
        """Version and flags of a full box."""
        return self.number(1), self.number(3)

    def count(self, size: int, most: int) -> int:
        """A number of entries."""
        count = self.number(size)
        if count > most:
            raise AvifError("too_costly")
        return count


class _Items:
    """The items of a `meta` box."""

    def __init__(self, body: bytes, meta: _Box) -> None:
        self._body, self._found = body, dict[bytes, _Box]()
        for box in _boxes(body, meta.begin + 4, meta.end, MAX_ITEMS):
            if self._found.setdefault(box.kind, box) is not box and box.kind in _ITEM_BOXES:
                raise AvifError("broken")
        iinf, iloc, iprp, idat, iref = map(self._found.get, _ITEM_BOXES[1:])
        kinds = _item_kinds(body, iinf) if iinf else {}
        extents = _item_extents(body, iloc, idat) if iloc else {}
        properties = _item_properties(body, iprp) if iprp else {}
        self._tiles = _tiles(body, iref) if iref else {}
        self._items = {
            number: _Item(kind, extents.get(number, []), properties.get(number, []))
            for number, kind in kinds.items()
        }

    def size(self) -> tuple[int, int]:
        """(width, height) in px of the primary item."""
        pitm = Reader(self._body, self._found[b"pitm"])
        return _size(self._body, self._items[pitm.number(4 if pitm.version()[0] else 2)])

    def check(self) -> None:
        """Refuses coded items of another size than they say, and grids of too many tiles."""
        lengths = (length for item in self._items.values() for _, length in item.extents[1:])
        # Parts are joined to be read, and layers may share them.
        if sum(lengths) > 4 * len(self._body):
            raise AvifError("too_costly")
        for number, item in self._items.items():
            if item.kind == b"av01":
                layered = any(box.kind in _LAYER_PROPERTIES for box in item.properties)
                size = _size(self._body, item)
                _check_frames(_item_bytes(self._body, item), size, layered)
            elif item.kind == b"grid":
                tiles = [self._items[tile] for tile in self._tiles.get(number, [])]
                _check_grid(self._body, item, tiles)


def _item_kinds(body: bytes, iinf: _Box) -> dict[int, bytes]:
    reader = Reader(body, iinf)
    size = 4 if reader.version()[0] else 2
    reader.count(size, MAX_ITEMS)
    kinds: dict[int, bytes] = {}
    for box in _boxes(body, iinf.begin + 4 + size, iinf.end, MAX_ITEMS):
        entry = Reader(body, box)
        version = entry.version()[0]
        if box.kind == b"infe" and version in (2, 3):
            number = entry.number(2 * version - 2)
            entry.number(2)
            kinds[number] = entry.number(4).to_bytes(4, "big")
    return kinds


def _item_extents(body: bytes, iloc: _Box, idat: _Box | None) -> dict[int, list[tuple[int, int]]]:
    """(offset in the file, length) of the parts of each item."""
    reader = Reader(body, iloc)
    version = reader.version()[0]
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (
        sizes >> shift & 15 for shift in (12, 8, 4, 0)
    )
    found: dict[int, list[tuple[int, int]]] = {}
    total = 0
    for _ in range(reader.count(2 if version < 2 else 4, MAX_ITEMS)):
        number = reader.number(2 if version < 2 else 4)
        within_idat = version > 0 and reader.number(2) & 15 == 1
        reader.number(2)  # the file that the bytes are in: this one
        base = reader.number(base_size)
        if within_idat:
            base += idat.begin if idat else len(body)
        extents = []
        count = reader.number(2)
        total += count
        if total > _MAX_EXTENTS:
            raise AvifError("too_costly")
        for _ in range(count):
            reader.number(index_size if version else 0)
            offset, length = reader.number(offset_size), reader.number(length_size)
            offset += base
            extents.append((offset, length or max(0, len(body) - offset)))
        found[number] = extents
    return found


def _item_properties(body: bytes, iprp: _Box) -> dict[int, list[_Box]]:
    """The property boxes of each item."""
    inner = [*_boxes(body, iprp.begin, iprp.end, MAX_ITEMS)]
    all_properties = [
        box for ipco in inner[:1] for box in _boxes(body, ipco.begin, ipco.end, 2 * MAX_ITEMS)
    ]
    properties: dict[int, list[_Box]] = {}
    total = 0
    for ipma in inner[1:]:
        reader = Reader(body, ipma)
        version, flags = reader.version()
        for _ in range(reader.count(4, MAX_ITEMS)):
            own = properties.setdefault(reader.number(4 if version else 2), [])
            count = reader.number(1)
            total += count
            if total > _MAX_EXTENTS:
                raise AvifError("too_costly")
            for _ in range(count):
                index = reader.number(2) & 0x7FFF if flags & 1 else reader.number(1) & 0x7F
                if index:
                    own.append(all_properties[index - 1])
    return properties


def _tiles(body: bytes, iref: _Box) -> dict[int, list[int]]:
    """The items that each item is derived from."""
    tiles: dict[int, list[int]] = {}
    size = 4 if body[iref.begin] else 2
    total = 0
    for box in _boxes(body, iref.begin + 4, iref.end, 4 * MAX_ITEMS):
        reader = Reader(body, box)
        origin = reader.number(size)
        count = reader.number(2)
        total += count
        if total > 4 * MAX_ITEMS:
            raise AvifError("too_costly")
        numbers = [reader.number(size) for _ in range(count)]
        if box.kind == b"dimg":
            tiles.setdefault(origin, []).extend(numbers)
    return tiles


def _size(body: bytes, item: _Item) -> tuple[int, int]:
    """(width, height) in px that an item says it has."""
    ispe = next((box for box in item.properties if box.kind == b"ispe"), None)
    if ispe is None:
        raise AvifError("broken")
    width, height = struct.unpack_from(">II", body, ispe.begin + 4)
    return width, height


def _item_bytes(body: bytes, item: _Item) -> memoryview:
    """Bytes of an item, which are copied only where they lie in parts."""
    parts = [memoryview(body)[offset : offset + length] for offset, length in item.extents]
    if sum(map(len, parts)) < sum(length for _, length in item.extents):
        raise AvifError("truncated")
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def _check_grid(body: bytes, item: _Item, tiles: list[_Item]) -> None:
    """Refuses a grid of many tiles, or of tiles whose bytes are shared."""
    head = _item_bytes(body, item)
    flags, rows, columns = head[1], head[2] + 1, head[3] + 1
    width, height = struct.unpack_from(">II" if flags & 1 else ">HH", head, 4)
    if rows * columns > MAX_TILES:
        raise AvifError("too_costly")
    if rows * columns != len(tiles) or (width, height) != _size(body, item):
        raise AvifError("broken")
    places = sorted(place for tile in tiles for place in tile.extents)
    for (begin, length), (following, _) in pairwise(places):
        if begin + length > following:
            raise AvifError("too_costly")


def _check_frames(data: memoryview, size: tuple[int, int], layered: bool) -> None:
    """Refuses coded data whose sequence header has another size than is said, and data of many
    frames. Layers may be smaller than the frame."""
    at, frames, headers = 0, 0, 0
    for _ in range(_MAX_OBUS):
        if at >= len(data):
            break
        kind = data[at] >> 3 & 15
        has_extension, has_size = data[at] & 4, data[at] & 2
        at += 2 if has_extension else 1
        length, at = _leb128(data, at) if has_size else (len(data) - at, at)
        if kind == _SEQUENCE_HEADER:
            headers += 1
            frame = sequence_size(bytes(data[at : at + min(length, 1_024)]))
            if frame != size and not (layered and frame[0] * frame[1] <= 16 * size[0] * size[1]):
                raise AvifError("too_costly")
        frames += kind in (_FRAME_HEADER, _FRAME)
        at += length
    else:
        raise AvifError("too_costly")
    if frames > _MAX_FRAMES:
        raise AvifError("too_costly")
    if not headers:
        raise AvifError("broken")


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 56, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise AvifError("broken")


class _Bits:
    """Numbers of some bits of a sequence header."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise AvifError("broken")
        return self._value >> self._left & (1 << count) - 1


def sequence_size(data: bytes) -> tuple[int, int]:
    """(width, height) in px of the largest frame that an AV1 sequence header allows.

    Args:
      data: the OBU behind its header; 1 KiB is enough.

    Raises:
      AvifError: it ends before.
    """
    bits = _Bits(data)
    bits.read(4)  # profile, still_picture
    if bits.read(1):  # reduced_still_picture_header
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    """Passes over timing and operating points."""
    delay_bits = 0
    if bits.read(1):  # timing_info_present_flag
        bits.read(64)
        if bits.read(1):  # equal_picture_interval: a number in Exp-Golomb code
            zeros = 0
            while not bits.read(1):
                zeros += 1
            bits.read(min(zeros, 32))
        if bits.read(1):  # decoder_model_info_present_flag
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_delay and bits.read(1):
            bits.read(4)


class _Track(NamedTuple):
    """A track of AV1: its size in px, and its first frame's bytes in the file."""

    size: tuple[int, int]
    offset: int
    length: int


def _tracks(body: bytes, movie: _Box) -> list[_Track]:
    """The tracks of AV1."""
    tracks = []
    for box in _boxes(body, movie.begin, movie.end, _MAX_TRACKS):
        if box.kind == b"trak":
            inner = _within(body, box)
            table = _within(body, _within(body, _within(body, inner[b"mdia"])[b"minf"])[b"stbl"])
            entries = _within(body, table[b"stsd"], 8)
            if b"av01" in entries:
                tracks.append(_track(body, inner[b"tkhd"], table, entries[b"av01"]))
    return tracks


def _track(body: bytes, tkhd: _Box, table: dict[bytes, _Box], entry: _Box) -> _Track:
    counts = [struct.unpack_from(">I", body, table[b"stsz"].begin + 8)[0]]
    for kind in (b"stts", b"stsc", b"stco", b"co64", b"ctts", b"stss"):
        if kind in table:
            counts += struct.unpack_from(">I", body, table[kind].begin + 4)
    if max(counts) > MAX_SAMPLES:
        raise AvifError("too_costly")
    (length,) = struct.unpack_from(">I", body, table[b"stsz"].begin + 4)
    if not length:  # frames differ, and each has its own
        (length,) = struct.unpack_from(">I", body, table[b"stsz"].begin + 12)
    wide = b"stco" not in table
    chunks = table[b"co64" if wide else b"stco"]
    (offset,) = struct.unpack_from(">Q" if wide else ">I", body, chunks.begin + 8)
    width, height = struct.unpack_from(">HH", body, entry.begin + 24)
    if struct.unpack_from(">II", body, tkhd.end - 8) != (width << 16, height << 16):
        raise AvifError("too_costly")
    return _Track((width, height), offset, length)


def _check_track(body: bytes, track: _Track) -> None:
    """Refuses a track whose first frame has another size than it says."""
    data = memoryview(body)[track.offset : track.offset + track.length]
    if len(data) < track.length:
        raise AvifError("truncated")
    _check_frames(data, track.size, layered=False)
