import contextlib
import io
from dataclasses import replace

import imagehash
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageFile, ImageOps

from alignset.transforms.images import decode
from alignset.transforms.images import examine as images
from alignset.transforms.images.decode import turn_of
from alignset.transforms.images.displayed_picture import displayed_picture
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.open_picture import open_picture
from alignset.transforms.workers.limited_process import (
    ChildError,
    CostlyError,
    CrashError,
    RaisedError,
)
from tests.fuzz.pictures import exif as exif_bomb
from tests.fuzz.pictures import png_chunk
from tests.support.picture_files import (
    HEIGHT,
    WIDTH,
    encoded,
    good_files,
    oversized,
    photograph,
    png_that_says,
    turned,
)

GOOD = good_files()
NOT_PLAIN = {name for name in GOOD if name.startswith(("gif", "bmp", "avif"))} | {"png 16 bit grey"}


def hash_of_what_is_shown(body: bytes) -> imagehash.ImageHash:
    """imagehash on the image as Pillow alone would show it: another way than the module's."""
    picture = ImageOps.exif_transpose(PillowImage.open(io.BytesIO(body)))
    if picture.mode == "I;16":
        picture = picture.point(lambda value: value / 256).convert("L")
    over = picture.convert("RGBA")
    white = PillowImage.new("RGBA", over.size, "white")
    return imagehash.phash(PillowImage.alpha_composite(white, over).convert("RGB"))


def distance(image: Image | Unusable, reference: imagehash.ImageHash) -> int:
    assert isinstance(image, Image)
    return (image.phash ^ int(str(reference), 16)).bit_count()


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_file(name: str) -> None:
    image = examine(GOOD[name])
    assert isinstance(image, Image)
    assert (image.format, image.width, image.height) == (name.split()[0], WIDTH, HEIGHT)
    assert image.plain == (name not in NOT_PLAIN)
    # JPEG is measured at a smaller scale, which moves a bit or two of the 64.
    assert distance(image, hash_of_what_is_shown(GOOD[name])) <= (2 if "jpeg" in name else 0)


@pytest.mark.parametrize("name", [name for name in GOOD if "one bit" not in name])
def test_the_same_picture_hashes_alike_in_each_format(name: str) -> None:
    like = "png rgba" if any(word in name for word in ("rgba", "transparent", "la")) else "png"
    assert distance(examine(GOOD[name]), hash_of_what_is_shown(GOOD[like])) <= 6
    assert distance(examine(GOOD[name]), imagehash.phash(photograph(1))) > 16


def test_without_a_hash_all_else_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = examine(GOOD["png"])
    assert isinstance(whole, Image)
    monkeypatch.delattr(images, "picture_hash")
    assert examine(GOOD["png"], hashed=False) == replace(whole, phash=0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_the_hash_and_not_the_size(kind: str, orientation: int) -> None:
    stored, exif = turned(orientation)
    body = encoded(stored, kind, exif=exif, quality=90)
    image = examine(body)
    assert isinstance(image, Image)
    # libavif stores the turned size: orientation is a property of the AVIF image itself.
    assert (image.width, image.height) == stored.size
    assert distance(image, imagehash.phash(photograph())) <= 4
    assert displayed_picture(open_picture(body, image.format)).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\0"])
def test_a_broken_exif_block_does_no_harm(exif: bytes) -> None:
    assert isinstance(examine(encoded(photograph(), "JPEG", exif=exif)), Image)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (31, 33), (64, 63), (1000, 40)])
def test_small_and_narrow_pictures(size: tuple[int, int]) -> None:
    for kind in ("JPEG", "PNG"):
        body = encoded(photograph(3, *size), kind, quality=95)
        image = examine(body)
        assert isinstance(image, Image)
        assert (image.width, image.height) == size
        assert distance(image, hash_of_what_is_shown(body)) <= 4


@pytest.mark.parametrize("name", GOOD)
def test_a_cut_file_is_never_a_picture(name: str) -> None:
    body = GOOD[name]
    lengths = {*range(0, len(body), max(1, len(body) // 30)), *range(len(body) - 20, len(body))}
    if name.startswith("bmp"):  # with the padding of the last row no pixels are lost
        lengths -= set(range(len(body) - 4, len(body)))
    for length in sorted(lengths):
        verdict = examine(body[:length])
        assert isinstance(verdict, Unusable), length
        assert verdict.reason == ("undecodable" if length > 40 else verdict.reason)


def test_a_file_cut_in_its_pixels_says_so_and_keeps_its_size() -> None:
    for name in ("jpeg", "jpeg progressive", "png", "webp", "gif", "bmp"):
        for part in (0.7, 0.99):
            verdict = examine(GOOD[name][: int(len(GOOD[name]) * part)])
            assert verdict == Unusable("undecodable", "truncated", WIDTH, HEIGHT)


@pytest.mark.parametrize("name", [name for name in GOOD if not name.startswith("avif")])
def test_what_follows_the_end_of_a_file_does_no_harm(name: str) -> None:
    assert examine(GOOD[name] + b"\r\n<!-- served in 3 ms -->") == examine(GOOD[name])


def test_a_black_png_is_whole() -> None:
    """Pillow leaves rows that are missing black, so black rows have to be looked at twice."""
    assert isinstance(examine(encoded(PillowImage.new("RGB", (60, 50)), "PNG")), Image)


@pytest.mark.parametrize("name", oversized())
def test_an_oversized_header_is_refused_before_any_decode(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("it was decoded")

    body = oversized()[name]
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    monkeypatch.setattr(images, "grey_plane", decoded)
    verdict = examine(body)
    assert isinstance(verdict, Unusable)
    assert (verdict.reason, verdict.detail) == ("undecodable", "too_many_pixels")


@pytest.mark.parametrize("name", GOOD)
def test_the_limits_themselves_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Unusable("undecodable", "too_many_pixels", WIDTH, HEIGHT)
    for limit, value in (("MAX_PIXELS", WIDTH * HEIGHT), ("MAX_SIDE", WIDTH)):
        with monkeypatch.context() as patched:
            patched.setattr(file_formats, limit, value)
            assert isinstance(examine(GOOD[name]), Image)
            patched.setattr(file_formats, limit, value - 1)
            assert examine(GOOD[name]) == refused


def test_a_png_whose_header_promises_more_rows_is_truncated() -> None:
    verdict = examine(png_that_says(WIDTH, HEIGHT + 1))
    assert verdict == Unusable("undecodable", "truncated", WIDTH, HEIGHT + 1)


@pytest.mark.parametrize(
    "signature", [b"", *(GOOD[name][:24] for name in ("jpeg", "png", "webp", "gif", "avif"))]
)
@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_after_a_signature(signature: bytes, body: bytes) -> None:
    assert isinstance(examine(signature + body), Unusable)


@given(st.sampled_from(sorted(GOOD)), st.data())
@settings(max_examples=150, deadline=None)
def test_real_files_with_flipped_and_lost_bytes(name: str, data: st.DataObject) -> None:
    body = bytearray(GOOD[name])
    places = st.integers(0, min(len(body) - 1, data.draw(st.sampled_from([60, len(body)]))))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        body[place] = value
    hole = data.draw(places)
    del body[hole : hole + data.draw(st.integers(0, 50))]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(file_formats, "MAX_PIXELS", 10**7)
        assert isinstance(examine(bytes(body)), Image | Unusable)


def test_whatever_our_code_raises_is_a_reason_of_the_image(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OverflowError("too large for an int64")

    monkeypatch.setattr(images, "plane_hash", fail)
    for _ in range(3):
        assert examine(GOOD["jpeg"]) == Unusable("undecodable", "unexpected")
    assert len(caplog.messages) == 1  # once a kind
    assert "OverflowError" in caplog.messages[0]


def test_comments_of_a_gif_are_not_given_to_pillow() -> None:
    """Which joins them in quadratic time: an hour for 20 MB."""
    body = GOOD["gif transparent"]
    header = 13 + 3 * 256
    comments = b"!\xfe" + b"\x01a" * 50_000 + b"\0" + b"!\xfe\x01a\0" * 50_000
    animation = b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"
    commented = body[:header] + comments + animation + body[header:]
    assert open_picture(commented, "gif").info.get("comment") is None
    assert examine(commented) == examine(body)
    for cut in range(header, header + 3000, 7):
        assert isinstance(examine(commented[:cut]), Unusable)


def with_exif(kind: str, exif: bytes) -> bytes:
    """A file with these very bytes for EXIF, which Pillow would not write."""
    if kind == "PNG":
        return GOOD["png"][:33] + png_chunk(b"eXIf", exif) + GOOD["png"][33:]
    honest = (b"MM\0*\0\0\0\x08" + bytes(6)).ljust(len(exif), b"Q")
    body = encoded(photograph(), kind, exif=b"Exif\0\0" + honest)
    assert honest in body
    return body.replace(honest, exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_that_refers_to_the_same_bytes_again_and_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would copy them for each of its values: 64 KiB took 350 MiB, 1 MiB takes all there
    is."""
    copied = []
    read = ImageFile._safe_read
    monkeypatch.setattr(
        ImageFile, "_safe_read", lambda fp, size: copied.append(size) or read(fp, size)
    )
    body = with_exif(kind, exif_bomb(60_000, 4000))
    if isinstance(said := examine(body), Image):
        assert (said.width, said.height) == (WIDTH, HEIGHT)
        with contextlib.suppress(ValueError):
            PillowImage.open(io.BytesIO(body)).getexif()
    assert sum(copied) < 30 * len(body)


def test_honest_exif_is_read_whatever_its_values() -> None:
    """Of a camera's some values are long, and damaged ones claim more than there is."""
    for size, entries in ((2000, 3), (70, 1), (60_000, 3)):
        exif = PillowImage.Exif()
        exif.load(exif_bomb(size, entries))
        assert len(dict(exif)) == entries


def test_many_pixels_wait_for_each_other() -> None:
    with turn_of(10**8):
        assert turn_of(10).__enter__() is None  # a small one does not
        lock = turn_of(10**8)
        assert not lock.acquire(blocking=False)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (CostlyError(), "too_costly"),
        (CrashError("Aborted"), "crashed_decoder"),
        (RaisedError("OSError", "image file is truncated"), "truncated"),
        (RaisedError("EOFError", ""), "truncated"),
        (RaisedError("SyntaxError", "bad header"), "broken"),
    ],
)
@pytest.mark.parametrize("name", ["webp", "avif", "bmp"])
def test_what_ends_a_decode_in_a_child_process_is_a_detail(
    name: str, error: Exception, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_it(*_: object) -> None:
        raise error

    monkeypatch.setattr(decode, "call_limited", raise_it)
    assert examine(GOOD[name]) == Unusable("undecodable", detail, WIDTH, HEIGHT)
    assert isinstance(examine(GOOD["png"]), Image)


def test_a_child_process_that_cannot_start_is_not_a_fault_of_an_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raise_it(*_: object) -> None:
        raise ChildError("no child process can be started")

    monkeypatch.setattr(decode, "call_limited", raise_it)
    with pytest.raises(ChildError):
        examine(GOOD["webp"])
