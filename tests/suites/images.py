"""Images: the images of Pillow's and Go's own tests, PngSuite among them. Pillow decodes each in
full, and its format, size, fate and perceptual hash must be ours; of a JPEG to two bits.

Some files kill a decoder, so a process of its own looks at them and says which it looks at.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import imagehash
from PIL import Image as PillowImage
from PIL import ImageOps

from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_formats import signature_format
from tests.suites.case import Case
from tests.suites.packages import FOLDER, unpacked

_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".avif", ".mpo"}
_LONGEST_S = 300
_JPEG_BITS = 2


def pictures() -> list[Path]:
    """Lists files of the formats that are read, by their names and by their signatures."""
    roots = (
        unpacked("pillow") / "Tests",
        unpacked("golang-1.19-src") / "usr" / "share" / "go-1.19" / "src" / "image",
    )
    files = (file for root in roots for file in sorted(root.rglob("*")) if file.is_file())
    return [
        file
        for file in files
        if file.suffix.lower() in _SUFFIXES or signature_format(file.read_bytes()) is not None
    ]


def cases() -> Iterator[Case]:
    """Yields cases for each image: whole, and cut at three quarters."""
    waiting = pictures()
    while waiting:
        asked = json.dumps([str(file) for file in waiting])
        child = [sys.executable, "-m", "tests.suites.images"]
        done = subprocess.run(child, input=asked, stdout=subprocess.PIPE, text=True, check=False)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        for file, (whole, cut) in zip(waiting, answers, strict=False):
            name = str(file.relative_to(FOLDER))
            yield Case(f"full {name}", whole["pillow"], whole["ours"])
            yield Case(f"cut {name}", ["refused"], cut)
        waiting = waiting[len(answers) :]
        if waiting:
            killed = f"killed the process ({done.returncode})"
            yield Case(str(waiting.pop(0).relative_to(FOLDER)), "lives", killed)


def _pillow(body: bytes) -> list[object]:
    """What Pillow finds: a format with size and hash, or that it refuses the file."""
    try:
        with PillowImage.open(io.BytesIO(body), formats=_FORMATS) as picture:
            picture.load()
            size, name = picture.size, picture.format or ""
            upright = ImageOps.exif_transpose(picture) if name not in ("GIF", "BMP") else picture
            if upright.mode.startswith("I"):
                upright = upright.point(lambda sample: sample / 256).convert("L")
            elif upright.has_transparency_data:
                over = upright.convert("RGBA")
                white = PillowImage.new("RGBA", over.size, "white")
                upright = PillowImage.alpha_composite(white, over).convert("RGB")
            elif upright.mode not in ("1", "L"):
                upright = upright.convert("RGB")
            kind = {"MPO": "jpeg", "JPEG": "jpeg"}.get(name, name.lower())
            return [kind, *size, str(imagehash.phash(upright))]
    except Exception:  # of some ten kinds
        return ["refused"]


_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")


def _ours(found: Image | Unusable) -> list[object]:
    if isinstance(found, Unusable):
        return ["refused"]
    return [found.format, found.width, found.height, format(found.phash, "016x")]


def _looks(body: bytes) -> dict[str, list[object]]:
    theirs, ours = _pillow(body), _ours(examine(body))
    if theirs[0] == ours[0] == "jpeg":
        off = int(str(theirs[3]), 16) ^ int(str(ours[3]), 16)
        ours[3] = theirs[3] if off.bit_count() <= _JPEG_BITS else ours[3]
    return {"pillow": theirs, "ours": ours}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for path in json.load(sys.stdin):
        content = Path(path).read_bytes()
        cut = _ours(examine(content[: len(content) * 3 // 4]))
        print(json.dumps([_looks(content), cut]), flush=True)
