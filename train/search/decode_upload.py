"""Strangers' images decoded in a process of their own, within bounds of pixels, memory and time.

`python -m alignset.train.search.decode_upload` decodes one image from standard input. A decoder
that fails takes that process with it alone, and one that takes too long is killed.
"""

import resource
import subprocess
import sys

from PIL import Image

from alignset.train.data.images import decode_image, open_image

MAX_PIXELS = 1 << 26  # 67 million: more than what phones take
MAX_SIDE = 1024  # px of the longer side of what is handed on: twice what the largest tower sees
CPU_S = 10  # of the decode itself
LIMIT_S = 60.0  # with the start of the process, which takes long on a busy machine
_MEMORY = 2 << 30  # bytes that the process may take beside those that it begins with
_COSTS = "the image takes too much time or memory to open: give a smaller one"
_REFUSED = 3  # exit status of the process, with the reason on standard error


class RefusedPicture(Exception):
    """The bytes are not an image, or one that would cost too much; the message says which."""


def decode_upload(data: bytes) -> Image.Image:
    """RGB, upright, its longer side at most MAX_SIDE.

    Raises:
      RefusedPicture: the bytes are not decoded.
    """
    # Its standard error is the reason; Pillow's warnings name files of this machine.
    command = [sys.executable, "-W", "ignore", "-m", "alignset.train.search.decode_upload"]
    try:
        process = subprocess.run(
            command, input=data, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RefusedPicture(_COSTS) from error
    if process.returncode:
        raise RefusedPicture(process.stderr.decode() if process.returncode == _REFUSED else _COSTS)
    size, _, pixels = process.stdout.partition(b"\n")
    width, height = map(int, size.split())
    return Image.frombytes("RGB", (width, height), pixels)


def decode_here(data: bytes) -> Image.Image:
    """The same in this process. Raises RefusedPicture."""
    try:
        with open_image(data) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
        picture = decode_image(data, draft_px=MAX_SIDE)
        shrink(picture)
    except (Image.DecompressionBombError, MemoryError) as error:
        raise RefusedPicture(_COSTS) from error
    except Exception as error:  # Pillow raises many kinds
        formats = "JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP"
        raise RefusedPicture(f"no image that can be opened: give a {formats}") from error
    return picture


def shrink(picture: Image.Image) -> None:
    """To MAX_SIDE px, in place."""
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)


def limit_process() -> None:
    """Bounds the CPU time and the memory of this process, for good."""
    begun_with_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S + round(begun_with_s), CPU_S + 60))
    with open("/proc/self/statm") as file:
        begun_with = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (begun_with + _MEMORY, hard))


def main() -> int:
    limit_process()
    try:
        picture = decode_here(sys.stdin.buffer.read())
    except RefusedPicture as error:
        sys.stderr.write(str(error))
        return _REFUSED
    sys.stdout.buffer.write(f"{picture.width} {picture.height}\n".encode() + picture.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
