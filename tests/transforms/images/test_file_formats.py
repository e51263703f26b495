import pytest

from alignset.transforms.images.file_formats import (
    foreign_kind,
    is_cut_bmp,
    png_lacks_pixels,
    signature_format,
    webp_canvas,
)
from tests.support.picture_files import HEIGHT, WIDTH, good_files

GOOD = good_files()


@pytest.mark.parametrize("name", [name for name in GOOD if name.startswith("webp")])
def test_the_canvas_of_each_kind_of_webp(name: str) -> None:
    assert webp_canvas(GOOD[name]) == (WIDTH, HEIGHT)
    assert webp_canvas(GOOD[name][:25]) == (0, 0)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>no hotlinks</body></html>", "html"),
        (b"<!-- a comment --><script>1</script>", "html"),
        (b"<html><body><svg></svg></body></html>", "html"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><title>a</title></svg>", "svg"),
        (b"<?xml version='1.0'?><!-- drawn --><svg/>", "svg"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "xml"),
        (b'{"error": 404}', "json"),
        (b"%PDF-1.7", "pdf"),
        (b"II*\0" + bytes(40), "other_format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "other_format"),
        (b"RIFF\0\0\0\0WAVEfmt ", "other_format"),
        (b"Not Found", "unknown"),
        (b"BMW is a brand of cars, and this is no bitmap", "unknown"),
        (bytes(100), "unknown"),
    ],
)
def test_what_is_no_image(body: bytes, kind: str) -> None:
    assert signature_format(body) is None
    assert foreign_kind(body) == kind


@pytest.mark.parametrize("name", [name for name in GOOD if name.startswith("png")])
def test_a_png_has_just_the_pixels_that_its_header_promises(name: str) -> None:
    body = bytearray(GOOD[name])
    assert not png_lacks_pixels(bytes(body))
    body[20:24] = (HEIGHT + 1).to_bytes(4, "big")
    assert png_lacks_pixels(bytes(body))


def test_a_run_length_coded_bitmap_cannot_promise_more_than_its_bytes_can_hold() -> None:
    body = bytearray(GOOD["bmp run length"])
    body[18:22] = (128 * len(body) // HEIGHT).to_bytes(4, "little")
    assert not is_cut_bmp(bytes(body))
    body[18:22] = (128 * len(body) // HEIGHT + 1).to_bytes(4, "little")
    assert is_cut_bmp(bytes(body))
