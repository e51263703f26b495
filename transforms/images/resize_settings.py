"""How shards keep images, what an image becomes by that, and how that fails."""

# No `from __future__ import annotations` here: options.py reads the fields' types.
from dataclasses import dataclass, field
from typing import NamedTuple

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


@dataclass(frozen=True)
class ResizeSettings:
    """How shards keep images, in img2dataset's words. The command's flags derive from these."""

    resize_mode: str = field(
        default="original",
        metadata={
            "help": "original keeps each file as it came; no, border, keep_ratio, "
            "keep_ratio_largest and center_crop encode it anew, as img2dataset does"
        },
    )
    image_size: int = field(default=256, metadata={"help": "px, a side, to resize to"})
    encode_format: str = field(
        default="jpg", metadata={"help": "jpg, png or webp: what resized images are encoded as"}
    )
    encode_quality: int = field(
        default=95, metadata={"help": "quality of jpg or webp; of png the compression, 0 to 9"}
    )
    resize_only_if_bigger: bool = field(
        default=False, metadata={"help": "leave images smaller than image_size at their size"}
    )
    upscale_interpolation: str = field(
        default="lanczos", metadata={"help": "how smaller images are enlarged"}
    )
    downscale_interpolation: str = field(
        default="area", metadata={"help": "how larger images are reduced"}
    )
    exact_resize: bool = field(
        default=False,
        metadata={
            "help": "resize by img2dataset's own code, byte for byte, which takes 1.5 times as "
            "long and needs the extra img2dataset; the default gives photographs that are 40 dB "
            "(PSNR) or nearer"
        },
    )

    def __post_init__(self) -> None:
        for name, values in (
            ("resize_mode", _RESIZE_MODES),
            ("encode_format", tuple(_QUALITIES)),
            ("upscale_interpolation", _INTERPOLATIONS),
            ("downscale_interpolation", _INTERPOLATIONS),
        ):
            if getattr(self, name) not in values:
                raise ValueError(
                    f"{name} must be one of {', '.join(values)}; got {getattr(self, name)!r}"
                )
        if self.image_size < 1:
            raise ValueError(f"image_size must be >= 1; got {self.image_size}")
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
