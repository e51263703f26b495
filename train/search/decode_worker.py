"""What a process of the decode pool does: bytes in, pixels or a refusal out, until the pipe ends.

Its imports are those of a decoder alone: the pool's processes should be small.
"""

import io
import resource
from multiprocessing.connection import Connection

from PIL import Image

from alignset.train.data.image_limits import check_decodable
from alignset.train.data.images import FORMATS, decode_image

MAX_PIXELS = 1 << 26  # 67 million: more than what phones take
MAX_SIDE = 1024  # px that are left of the longer side: twice what the largest tower looks at
_MEMORY = 2 << 30  # bytes that the process may take beside those that it begins with


def work(pipe: Connection) -> None:
    """Answers each message: ("picture", (width, height), RGB bytes) or ("refused", None, why)."""
    _limit_memory()
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(decoded(data))


def decoded(data: bytes) -> tuple[str, tuple[int, int] | None, bytes | str]:
    """What becomes of the bytes of an upload."""
    try:
        check_decodable(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
        if width * height > MAX_PIXELS:
            return "refused", None, f"the picture has {width} x {height} px: give a smaller one"
        picture = decode_image(data, draft_px=MAX_SIDE)
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return "picture", picture.size, picture.tobytes()
    except Image.DecompressionBombError:
        return "refused", None, "the picture would take too long to open: give a smaller one"
    except MemoryError:
        return "refused", None, "the picture takes too much memory to open: give a smaller one"
    except Exception:  # Pillow raises many kinds
        known = "JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP"
        return "refused", None, f"this is no picture that can be opened: give a {known}"


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        begun_with = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (begun_with + _MEMORY, hard))
