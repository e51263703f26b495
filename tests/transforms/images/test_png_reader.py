"""PNG files of every type of colour and depth: the samples that Pillow shows, or none at all."""

import itertools

import numpy as np
import pytest

from alignset.transforms.images import png_reader
from alignset.transforms.images.fast_decode import fast_grey, fast_pixels
from alignset.transforms.images.png_reader import png_samples
from tests.transforms.images.test_fast_decode import ADAM7, by_pillow, chunk, png

COLOURS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples of a pixel
KINDS = [
    *itertools.product((0,), (1, 2, 4, 8, 16)),
    *itertools.product((3,), (1, 2, 4, 8)),
    *itertools.product((2, 4, 6), (8, 16)),
]
RNG = np.random.default_rng(7)
PALETTE = RNG.integers(0, 256, 3 * 256, np.uint8).tobytes()
ALPHAS = RNG.integers(0, 256, 200, np.uint8).tobytes()


def filtered_rows(width: int, height: int, bits: int, filters: list[int]) -> bytes:
    """Noise and even parts, behind filters by turns."""
    length = (width * bits + 7) // 8
    rows = RNG.integers(0, 256, (height, 1 + length), np.uint8)
    rows[:, 1:] *= RNG.random((height, length)) < 0.4
    rows[:, 0] = np.resize(filters, height)
    return rows.tobytes()


def file_of(colour: int, depth: int, width: int, height: int, interlaced: int) -> bytes:
    bits = depth * COLOURS[colour]
    parts = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - left) // a), -(-(height - top) // d)) for left, top, a, d in parts]
    rows = [filtered_rows(*size, bits, [0, 1, 2, 3, 4, 4, 4]) for size in sizes if min(size) > 0]
    palette = [chunk(b"PLTE", PALETTE[: 3 << depth])] if colour == 3 else []
    form = {"depth": depth, "interlaced": interlaced}
    return png(width, height, colour, b"".join(rows), *palette, **form)


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("colour", "depth"), KINDS)
@pytest.mark.parametrize(("width", "height"), [(41, 37), (1, 9), (3, 2), (64, 3)])
def test_each_type(colour: int, depth: int, width: int, height: int, interlaced: int):
    body = file_of(colour, depth, width, height, interlaced)
    expected = by_pillow(body)
    assert np.array_equal(fast_pixels(body, "png"), np.asarray(expected))
    assert np.array_equal(fast_grey(body, "png"), np.asarray(expected.convert("L")))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("alphas", [1, 2, 200])
def test_palettes_with_alphas(depth: int, alphas: int):
    rows = filtered_rows(40, 30, depth, [0])
    chunks = [
        chunk(b"PLTE", PALETTE[: 3 << depth]),
        chunk(b"tRNS", ALPHAS[: min(alphas, 1 << depth)]),
    ]
    body = png(40, 30, 3, rows, *chunks, depth=depth)
    assert np.array_equal(fast_pixels(body, "png"), np.asarray(by_pillow(body)))


ROWS = filtered_rows(10, 10, 8, [0])
FEW = bytes(11 * 9) + b"\0" + bytes([0, 1, 2, 3, 4] * 2)
UNUSUAL = {
    "no palette": png(10, 10, 3, ROWS),
    "numbers without a colour": png(10, 10, 3, FEW, chunk(b"PLTE", PALETTE[: 3 * 4])),
    "a part of a colour": png(10, 10, 3, FEW, chunk(b"PLTE", PALETTE[:16])),
    "too many colours": png(10, 10, 3, FEW, chunk(b"PLTE", PALETTE + b"abc")),
    "more alphas than colours": png(
        10, 10, 3, FEW, chunk(b"PLTE", PALETTE[:15]), chunk(b"tRNS", ALPHAS[:6])
    ),
    "two palettes": png(10, 10, 3, ROWS, *[chunk(b"PLTE", PALETTE)] * 2),
    "alphas first": png(10, 10, 3, ROWS, chunk(b"tRNS", ALPHAS), chunk(b"PLTE", PALETTE)),
    "a wrong sum of a chunk that says nothing": png(
        10, 10, 0, ROWS, chunk(b"tIME", b"")[:-1] + b"?"
    ),
    "two headers": png(10, 10, 0, ROWS, png(10, 10, 0, ROWS)[8:33]),
    "pixels in two places": png(
        10, 10, 0, ROWS, chunk(b"IDAT", b""), chunk(b"tIME", b""), chunk(b"IDAT", b"")
    ),
    "a depth that there is not": png(10, 10, 2, ROWS, depth=4),
    "a colour that there is not": png(10, 10, 5, ROWS),
    "an order that there is not": png(10, 10, 0, ROWS, interlaced=2),
}


def test_a_palette_as_long_as_its_numbers_need():
    body = png(10, 10, 3, FEW, chunk(b"PLTE", PALETTE[:15]))
    assert np.array_equal(fast_pixels(body, "png"), np.asarray(by_pillow(body)))


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_left_to_another_decoder(kind: str):
    assert png_samples(UNUSUAL[kind]) is None


def test_rows_that_take_too_much_memory(monkeypatch: pytest.MonkeyPatch):
    body = file_of(2, 8, 10, 9, 0)
    for most in (9 * 31, 9 * 31 - 1):
        monkeypatch.setattr(png_reader, "MOST_BYTES", most)
        assert (png_samples(body) is not None) == (most == 9 * 31)


def test_what_stands_behind_the_end():
    body = file_of(2, 8, 10, 9, 0)
    assert np.array_equal(png_samples(body + chunk(b"eXIf", b"?") + b"junk"), png_samples(body))


def test_pixels_of_three_bytes_up_to_the_last():
    """Four bytes are read at once, of which the last pixel of a row has but three."""
    for width in range(1, 6):
        body = png(width, 4, 2, filtered_rows(width, 4, 24, [4]))
        assert np.array_equal(fast_pixels(body, "png"), np.asarray(by_pillow(body)))
