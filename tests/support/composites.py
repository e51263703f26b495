"""Cut-outs with alpha pasted on photographs: pictures whose masks are exact.

The cut-outs are Debian's tuxpaint-stamps-default, the photographs scikit-image's.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

STAMPS = Path("/usr/share/tuxpaint/stamps")
_PX = 260


def photographs() -> list[Image.Image]:
    """Of a wall, gravel, grass and other things that are everywhere alike."""
    names = ("brick", "gravel", "grass")
    return [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in names]


def composites(folder: Path, classes: Sequence[tuple[str, Sequence[str]]], seed: int = 1) -> None:
    """Writes images/ and masks/: each cut-out, large, on a photograph. The background is class 0,
    those of `classes` 1 and so on.

    Args:
      classes: a name, and the stamps that are of it, by their paths below STAMPS.
    """
    rng = np.random.default_rng(seed)
    grounds = photographs()
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, (_, stamps) in enumerate(classes, 1):
        for stamp in stamps:
            cut_out = Image.open(STAMPS / stamp).convert("RGBA")
            cut_out.thumbnail((170, 170))
            left, top = (int(rng.integers(0, _PX - side + 1)) for side in cut_out.size)
            picture = grounds[int(rng.integers(len(grounds)))].resize((_PX, _PX)).copy()
            picture.paste(cut_out, (left, top), cut_out)
            mask = Image.new("L", (_PX, _PX))
            mask.paste(
                number, (left, top), cut_out.getchannel("A").point(lambda a: 255 * (a > 127))
            )
            name = f"{number}-{Path(stamp).stem}.png"
            picture.save(folder / "images" / name)
            mask.save(folder / "masks" / name)
