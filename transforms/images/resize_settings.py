"""How shards keep images, what an image becomes by that, and how that fails."""

# No `from __future__ import annotations` here: options.py reads the fields' types.
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from alignset.settings import Checked, between, one_of, setting

_RESIZE_MODES = ("original", "no", "border", "keep_ratio", "keep_ratio_largest", "center_crop")
_INTERPOLATIONS = (
    *("nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4"),
)
# One name for every original, as img2dataset has it where it does not encode: `datasets` takes the
# fields of a dataset's first five samples for the fields of all samples. Decoders go by the bytes.
ANY = "jpg"
_QUALITIES = {"jpg": range(0, 101), "png": range(0, 10), "webp": range(1, 102)}


class EncodingError(ValueError):
    """An image could not be brought into the form in which a shard keeps it."""


# What encodes each image anew, and what gives it another size.
_encoding = partial(setting, step="images", needs="images encoding")
_sizing = partial(setting, step="images", needs="images encoding sizing")


@dataclass(frozen=True)
class ResizeSettings(Checked):
    """How shards keep images, in img2dataset's words. The command's flags derive from these."""

    resize_mode: str = setting(
        "original",
        "original keeps each file; no, border, keep_ratio, keep_ratio_largest and "
        "center_crop encode it anew, as img2dataset does",
        brief="how images are kept, such as keep_ratio",
        allowed=one_of(_RESIZE_MODES),
        step="images",
    )
    image_size: int = _sizing(256, "px, a side, to resize to", brief=True, allowed=between(1))
    encode_format: str = _encoding(
        "jpg", "jpg, png or webp: what resized images are encoded as", allowed=one_of(_QUALITIES)
    )
    encode_quality: int = _encoding(95, "quality of jpg or webp; of png the compression, 0 to 9")
    resize_only_if_bigger: bool = _sizing(
        False, "leave images smaller than image_size at their size"
    )
    upscale_interpolation: str = _sizing(
        "lanczos", "how smaller images are enlarged", allowed=one_of(_INTERPOLATIONS)
    )
    downscale_interpolation: str = _sizing(
        "area", "how larger images are reduced", allowed=one_of(_INTERPOLATIONS)
    )
    exact_resize: bool = _encoding(
        False,
        "resize by img2dataset's code, byte for byte: 1.5 times as long, with the extra "
        "img2dataset; otherwise photographs are as near as a PSNR of 40 dB",
    )
    blur_boxes: str = setting(
        "",
        "COLUMN of boxes to blur in the stored images, such as face_bboxes (docs/safety.md)",
        needs="images",  # and a reader that carries the column, which steps alone have not
    )

    def check(self) -> None:
        qualities = _QUALITIES[self.encode_format]
        if self.encode_quality not in qualities:
            raise ValueError(
                f"encode_quality must be {qualities[0]} to {qualities[-1]} for "
                f"{self.encode_format}; got {self.encode_quality}"
            )


class Encoded(NamedTuple):
    """An image's file, as a shard keeps it."""

    body: bytes
    extension: str
    width: int  # px, as stored in these bytes
    height: int  # px
