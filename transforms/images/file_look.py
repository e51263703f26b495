"""Facts about the bytes of one file, without a decode: format, size, segments, and what is
wrong."""

from __future__ import annotations

from functools import cached_property

from alignset.transforms.images.file_formats import (
    GifBlocks,
    gif_blocks,
    is_cut_avif,
    is_cut_bmp,
    is_cut_webp,
    png_fault,
    signature_format,
)
from alignset.transforms.images.jpeg_header import (
    JpegHeader,
    Segments,
    has_too_many_scans,
    jpeg_header,
    jpeg_segments,
)

_IS_CUT = {"webp": is_cut_webp, "bmp": is_cut_bmp, "avif": is_cut_avif}


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
        return "truncated" if self.format and _IS_CUT[self.format](self.body) else None

    def _jpeg_fault(self) -> str | None:
        header, scan = self.jpeg, self.segments.scan
        if header is None:  # no scan, or a thousand segments before it, which Pillow would join
            lacks_scan = scan < 0 and not self.segments.too_many
            return "truncated" if lacks_scan or self._lacks_end() else "broken"
        if header.fault:
            return header.fault
        if has_too_many_scans(self.body, header):
            return "too_many_scans"
        return "truncated" if self._lacks_end() else None

    def _lacks_end(self) -> bool:
        """Whether no end marker follows the scan; a thumbnail's lies before it."""
        scan = self.segments.scan
        return scan >= 0 and self.body.rfind(b"\xff\xd9", scan) < 0
