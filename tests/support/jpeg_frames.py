"""JPEGs of every coding: the lossless family, hidden frames, and what each entrance makes of them.

A scaled decode of a lossless JPEG corrupts memory, and so the entrances are run in a process of
their own: `tests.support.forks.start("tests.support.jpeg_frames:curation")`, and `:training`.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from tests.support.forks import start
from tests.support.picture_files import encoded, photograph

LARGE = (512, 512)
ALL_FRAMES = sorted({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def frame(marker: int, width: int, height: int, components: int = 1, bits: int = 8) -> bytes:
    names = b"".join(bytes((n + 1, 0x11, 0)) for n in range(components))
    return segment(marker, struct.pack(">BHHB", bits, height, width, components) + names)


def lossless(
    width: int,
    height: int,
    components: int = 1,
    *,
    bits: int = 8,
    predictor: int = 1,
    restart_rows: int = 0,
    head: bytes | None = None,
) -> bytes:
    """A lossless JPEG of one grey, whose differences are all zero: a bit a sample.

    Args:
      head: stands before the scan in place of the frame and the code's table.
    """
    if head is None:
        head = frame(0xC3, width, height, components, bits) + TABLE
    if restart_rows:
        head += segment(0xDD, struct.pack(">H", restart_rows * width))
    names = b"".join(bytes((n + 1, 0)) for n in range(components))
    head += segment(0xDA, bytes([components]) + names + bytes((predictor, 0, 0)))
    rows = restart_rows or height
    parts = [min(rows, height - row) * width * components for row in range(0, height, rows)]
    scan = b""
    for n, size in enumerate(parts):  # filled with ones to a byte
        scan += bytes(size // 8) + (bytes((0xFF >> size % 8,)) if size % 8 else b"")
        scan += bytes((0xFF, 0xD0 + n % 8)) if n + 1 < len(parts) else b""
    return b"\xff\xd8" + head + scan + b"\xff\xd9"


TABLE = segment(0xC4, bytes((0, 1, 1, *[0] * 14, 0, 1)))  # "0" is not a difference, "10" of one bit
SIDES = (*range(1, 9), 109, 110, 111, 512)


@cache
def family() -> dict[str, bytes]:
    """Lossless JPEGs that differ in size, components, depth, predictor and restarts."""
    sizes = [(side, side) for side in SIDES] + [(1, 700), (700, 1), (4000, 3000)]
    files = {
        f"{width}x{height}, {components}": lossless(width, height, components)
        for width, height in sizes
        for components in (1, 3)
    }
    for components in (1, 3):
        for bits in (2, 8, 12, 16):
            files[f"{bits} bits, {components}"] = lossless(200, 150, components, bits=bits)
        for predictor in range(1, 8):
            for rows in (0, 1, 7):
                files[f"predictor {predictor}, {components}, restarts {rows}"] = lossless(
                    200, 150, components, predictor=predictor, restart_rows=rows
                )
    files["cmyk"] = lossless(200, 150, 4)
    files["cut"] = lossless(*LARGE)[:-9000]
    return files


@cache
def hidden() -> dict[str, tuple[bytes, str]]:
    """Lossless JPEGs whose frame is not where one looks first, and the detail of `undecodable`."""
    sof, small = frame(0xC3, *LARGE), frame(0xC0, 8, 8)
    thumbnail = b"Exif\0\0" + encoded(photograph(0, 40, 30), "JPEG")
    before = {
        "fill bytes": b"\xff" * 5,
        "junk": segment(0xFE, b"") + b"junk\xff\0",
        "markers without a length": b"\xff\x01\xff\xd0\xff\xd7",
        "a comment of length 0": b"\xff\xfe\0\0",
        "a comment of length 1": b"\xff\xfe\0\1",
        "a thumbnail": segment(0xE1, thumbnail),
        "a frame in a comment": segment(0xFE, small),
        "a frame behind a false length": b"\xff\xd0\0\x0d" + segment(0xFE, small),
        "DNL": segment(0xDC, b"\0\x08"),
        "DRI": segment(0xDD, b"\0\0"),
        "a table of quanta": segment(0xDB, bytes(1) + b"\1" * 64),
        "an Adobe segment": segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"),
        "900 segments": segment(0xFE, b"") * 900,
    }
    files = {
        f"behind {name}": (lossless(*LARGE, head=odd + sof + TABLE), "lossless")
        for name, odd in before.items()
    }
    others = {
        "behind its table": (TABLE + sof, "lossless"),
        "hierarchical": (frame(0xDE, *LARGE) + sof + TABLE, "lossless"),
        "no height": (frame(0xC3, 512, 0) + TABLE, "lossless"),
        "before a baseline frame": (sof + small + TABLE, "broken"),
        "behind a baseline frame": (small + sof + TABLE, "broken"),
        "twice": (sof + sof + TABLE, "broken"),
        "behind 1000 segments": (segment(0xFE, b"") * 1000 + sof + TABLE, "broken"),
    }
    files |= {name: (lossless(*LARGE, head=head), why) for name, (head, why) in others.items()}
    cut_frame = b"\xff\xd8" + sof[:8]
    return files | {"cut in its frame": (cut_frame, "truncated")}


@cache
def patched() -> dict[int, bytes]:
    """A photograph of 512x512 px whose frame has another marker."""
    body = encoded(photograph(4, *LARGE), "JPEG", quality=85)
    at = body.index(b"\xff\xc0") + 1
    return {marker: body[:at] + bytes([marker]) + body[at + 1 :] for marker in ALL_FRAMES}


@cache
def innocent() -> dict[str, bytes]:
    """Photographs in whose files lossless frames stand where no decoder reads them."""
    body, bad = encoded(photograph(4, *LARGE), "JPEG", quality=85), lossless(*LARGE)
    mpo = io.BytesIO()
    photograph(4, *LARGE).save(mpo, "MPO", save_all=True, append_images=[photograph(5, *LARGE)])
    at = mpo.getvalue().rindex(b"\xff\xc0") + 1
    return {
        "in a comment": body[:2] + segment(0xFE, bad[:6000]) + body[2:],
        "as a thumbnail": body[:2] + segment(0xE1, b"Exif\0\0" + bad[:6000]) + body[2:],
        "behind the end": body + bad,
        "second of two images": mpo.getvalue()[:at] + b"\xc3" + mpo.getvalue()[at + 1 :],
        "extended": patched()[0xC1],
        "progressive": encoded(photograph(4, *LARGE), "JPEG", progressive=True),
    }


def fates_by(main: str) -> dict[str, dict[str, str]]:
    """What each entrance made of each file, by the file's name, in a process of its own."""
    forked = start(f"tests.support.jpeg_frames:{main}")
    out, err = forked.communicate()
    fates: dict[str, dict[str, str]] = {}
    for name, entrance, fate in map(json.loads, out.splitlines()):
        fates.setdefault(name, {})[entrance] = fate
    assert forked.wait() == 0, (list(fates)[-1:], err)
    return fates


def all_files() -> dict[str, bytes]:
    return {
        **{f"family: {name}": body for name, body in family().items()},
        **{f"hidden: {name}": body for name, (body, _) in hidden().items()},
        **{f"frame: {marker:x}": body for marker, body in patched().items()},
        **{f"innocent: {name}": body for name, body in innocent().items()},
    }


def curation(_: list[str]) -> int:
    """Print what each entrance of a run, and of `look`, makes of each file."""
    from alignset.pipeline.datasets.stored_images import shown_picture
    from alignset.transforms.images.examine import Unusable, examine

    def said(verdict: Any) -> str:
        return verdict.detail if isinstance(verdict, Unusable) else "image"

    def shown(body: bytes) -> str:
        picture = shown_picture(body)
        return picture if isinstance(picture, str) else "image"

    return _print_fates({"examine": lambda body: said(examine(body)), "look": shown})


def training(_: list[str]) -> int:
    """Print what each decode of `train` makes of each file."""
    from alignset.train.data.images import decode_image, decode_square, decode_upload, header_pixels

    return _print_fates(
        {
            "decode_image": lambda body: str(decode_image(body).size),
            "draft": lambda body: str(decode_image(body, draft_px=40).size),
            "decode_square": lambda body: str(decode_square(body, 40).shape),
            "header_pixels": lambda body: str(header_pixels(body)),
            "upload": lambda body: str(decode_upload(body).size),
        }
    )


def _print_fates(entrances: dict[str, Callable[[bytes], str]]) -> int:
    for name, body in all_files().items():
        for entrance, fate in entrances.items():
            try:
                told = fate(body)
            except Exception as error:  # of any kind: that it is raised is what is asked
                told = f"raises {type(error).__name__}: {error}"
            print(json.dumps([name, entrance, told]), flush=True)
    return 0
