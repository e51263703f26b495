"""Facts about the bytes of one file, without a decode: format, size, segments, and what is
wrong."""

from __future__ import annotations

from functools import cached_property

from alignset.transforms.images.avif_header import AvifHeader, avif_header
from alignset.transforms.images.file_formats import (
    GifBlocks,
    bmp_size,
    gif_blocks,
    gif_size,
    is_cut_bmp,
    is_cut_webp,
    png_fault,
    png_size,
    signature_format,
    webp_canvas,
)
from alignset.transforms.images.jpeg_header import (
    JpegHeader,
    Segments,
    has_too_many_scans,
    jpeg_header,
    jpeg_segments,
)

# Where Pillow begins to warn. Decoding that many takes up to 1.5 GB.
MAX_PIXELS = 89_478_485
# px of either side: Pillow holds 8 bytes for each row, and resizing makes long lines longer. No
# image of such a side passes `--max_image_aspect`.
MAX_SIDE = (1 << 16) - 1
_SIZES = {"png": png_size, "gif": gif_size, "bmp": bmp_size, "webp": webp_canvas}
_IS_CUT = {"webp": is_cut_webp, "bmp": is_cut_bmp}


class FileLook:
    """The bytes of one image, and what they say: found once, when it is first asked for.

    Attributes:
      body: the file.
      format: "jpeg", "png", "webp", "gif", "bmp" or "avif" by the file's signature, or None.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.format = signature_format(body)

    @cached_property
    def segments(self) -> Segments:
        """The segments of a JPEG before its first scan."""
        return jpeg_segments(self.body)

    @cached_property
    def jpeg(self) -> JpegHeader | None:
        """The header of a JPEG; None of other files, and where no scan follows one frame."""
        return jpeg_header(self.body, self.segments) if self.format == "jpeg" else None

    @cached_property
    def gif(self) -> GifBlocks:
        """Where the blocks of a GIF are."""
        return gif_blocks(self.body)

    @cached_property
    def avif(self) -> AvifHeader:
        """The boxes of an AVIF."""
        return avif_header(self.body)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) in px as the header has them; (0, 0) where it cannot be read."""
        if self.format == "jpeg":
            return (self.jpeg.width, self.jpeg.height) if self.jpeg else (0, 0)
        if self.format == "avif":
            return self.avif[:2]
        return _SIZES[self.format](self.body) if self.format else (0, 0)

    @cached_property
    def refusal(self) -> str | None:
        """Why no decoder is given the file, whole as it may be: it would take too long or too much
        memory. A detail of "undecodable", or None.

        The one check of this kind, for curation and for training.
        """
        width, height = self.size
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            return "too_many_pixels"
        if self.format == "avif" and self.avif.fault == "too_costly":
            return self.avif.fault
        if self.jpeg and has_too_many_scans(self.body, self.jpeg):
            return "too_many_scans"
        return None

    @cached_property
    def fault(self) -> str | None:
        """Why a file of a known format is not decoded, as a detail of "undecodable"; None where it
        looks whole.

        Decoders stop when they have their pixels, often of the first frame alone, and miss a lost
        end.
        """
        if self.format == "png":
            return png_fault(self.body)
        if self.format == "jpeg":
            return self._jpeg_fault()
        if self.format == "gif":
            return None if self.gif.ends else "truncated"
        if self.format == "avif":
            return self.avif.fault
        return "truncated" if self.format and _IS_CUT[self.format](self.body) else None

    def _jpeg_fault(self) -> str | None:
        header, scan = self.jpeg, self.segments.scan
        if header is None:  # no scan, or a thousand segments before it, which Pillow would join
            lacks_scan = scan < 0 and not self.segments.too_many
            return "truncated" if lacks_scan or self._lacks_end() else "broken"
        if header.fault:
            return header.fault
        return "truncated" if self._lacks_end() else None

    def _lacks_end(self) -> bool:
        """Whether no end marker follows the scan; a thumbnail's lies before it."""
        scan = self.segments.scan
        return scan >= 0 and self.body.rfind(b"\xff\xd9", scan) < 0
