"""Pairs whose image decides: photographs, failing fetches, broken files, odd sizes, copies."""

import io
from collections.abc import Iterator

from PIL import Image

from alignset.demo.hashes import BITS_OF_COPY, BITS_OF_OTHER, bits_to_nearest, perceptual_hash
from alignset.demo.photos import PHOTOS, VARIANTS, fitted, variants, views
from alignset.demo.scenes import encode
from alignset.demo.site import Site, WebPair

_HTML = b"<!DOCTYPE html><html><title>Sign in</title><body><p>Please sign in.</p></body></html>"
_SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="300">'
    b'<circle cx="200" cy="150" r="99" fill="red"/></svg>'
)
# Width, height and why it falls: both sides of each limit.
_SIZES = (
    (1, 1, "too_small"),
    (468, 60, "too_small"),
    (728, 90, "too_small"),
    (200, 300, "too_small"),
    (320, 200, "too_small"),
    (600, 200, "too_small"),
    (970, 250, "too_elongated"),
    (603, 201, "too_elongated"),
    (201, 603, "too_elongated"),
    (602, 201, None),
    (201, 602, None),
    (201, 300, None),
    (320, 201, None),
)


def add_photos(site: Site) -> None:
    """Each photograph in half of the encodings; its two texts share two of those images."""
    photos = PHOTOS[: site.plan.photos]
    kinds = [(index, name) for index in range(len(photos)) for name in variants(index)]
    files = dict(zip(kinds, site.pool.map(_variant, kinds, chunksize=4), strict=True))
    for index, photo in enumerate(photos):
        names = variants(index)
        for i, name in enumerate(names):
            path = site.write(f"photos/{photo.name}/{name}", files[index, name])
            if i < len(names) // 2 + 1:
                site.add(path, photo.texts[0])
            if i >= len(names) // 2 - 1:
                site.add(path, photo.texts[1])


def _variant(kind: tuple[int, str]) -> bytes:
    index, name = kind
    return VARIANTS[name](PHOTOS[index].open())


def add_failing_fetches(site: Site) -> None:
    """Addresses that never answer with an image."""
    failing = {
        "status/403/private/{}.jpg": "http_403",
        "status/500/always/{}.jpg": "http_500",
        "status/410/gone/{}.jpg": "http_410",
        "cut/{}": "cut_off",
        "loop/around/{}.jpg": "too_many_redirects",
        "missing/{}.jpg": "http_404",
        "old-shop/{}/front.png": "http_404",
        "tmp/{}.webp": "http_404",
    }
    for pattern, detail in failing.items():
        for number in range(site.plan.odd):
            path, text = site.next_scene()
            place = path if pattern == "cut/{}" else number
            site.add(pattern.format(place), text, "fetch_failed", detail)
    for route in ("slow", "trickle"):
        for _ in range(min(site.plan.odd, 4)):
            path, text = site.next_scene()
            site.add(f"{route}/{path}", text, "fetch_failed", "timeout")
    for number in range(min(site.plan.odd, 4)):
        nobody = f"http://127.0.0.1:2/{number}.jpg"
        site.rows.append(WebPair(nobody, site.next_text(), "fetch_failed", "refused"))


def add_detours(site: Site) -> None:
    """Images that come: at the second try, after a redirect, in chunks, by the host's name."""
    for route in ("flaky", "moved", "chunked"):
        for _ in range(site.plan.odd):
            path, text = site.next_scene()
            site.add(f"{route}/{path}", text)
    for _ in range(site.plan.odd):
        path, text = site.next_scene()
        site.rows.append(WebPair(site.url(path, host="localhost"), text))


def _broken_files(site: Site, number: int) -> Iterator[tuple[str, bytes, str]]:
    """(name, content, reason) of one file of each kind."""
    photo = fitted(number % site.plan.photos, (360, 300))
    whole = encode(photo)
    yield "cut.jpg", whole[: len(whole) * 3 // 5], "undecodable"
    whole = encode(photo, progressive=True)
    yield "cut-progressive.jpg", whole[: len(whole) // 2], "undecodable"
    whole = encode(photo, "PNG")
    yield "cut.png", whole[: len(whole) // 2], "undecodable"
    whole = encode(photo.resize((150, 100)))
    yield "cut-small.jpg", whole[: len(whole) * 3 // 5], "undecodable"
    yield "page.jpg", _HTML, "not_an_image"
    yield "drawing.svg", _SVG, "not_an_image"
    yield "manual.pdf.jpg", b"%PDF-1.4\n%%EOF\n" + bytes(range(256)), "not_an_image"
    yield "notes.png", b"This was a picture once. " * 40, "not_an_image"


def add_broken_files(site: Site) -> None:
    for number in range(site.plan.odd):
        for name, data, reason in _broken_files(site, number):
            site.add(site.write(f"broken/{number}/{name}", data), site.next_text(), reason)


def add_odd_sizes(site: Site) -> None:
    sized = [
        ((number + i) % site.plan.photos, size[:2], ("JPEG", "PNG", "GIF")[number % 3])
        for number in range(site.plan.odd)
        for i, size in enumerate(_SIZES)
    ]
    files = iter(zip(sized, site.pool.map(_sized, sized, chunksize=4), strict=True))
    for number in range(site.plan.odd):
        for width, height, reason in _SIZES:
            (index, _, kind), data = next(files)
            path = site.write(f"sizes/{number}/{width}x{height}.{kind.lower()}", data)
            text = site.next_text() if reason else PHOTOS[index].texts[number % 2]
            site.add(path, text, reason)


def _sized(sized: tuple[int, tuple[int, int], str]) -> bytes:
    index, size, kind = sized
    return encode(fitted(index, size), kind)


def _copies(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(file ending, content) of copies as the web makes them, the surest first."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = picture.size
    yield "png", encode(picture, "PNG")
    yield (
        "jpg",
        encode(picture.resize((width * 2, height * 2), Image.Resampling.BICUBIC), quality=70),
    )
    yield "webp", encode(picture, "WEBP", quality=60)
    yield "jpg", encode(picture, quality=45)
    yield "bmp", encode(picture.resize((width * 3 // 2, height * 3 // 2)), "BMP")


def add_near_copies(site: Site) -> None:
    """Copies of evaluation images under their own texts; two of each, so that no word is rare."""
    added = 0
    for number, (scene, data) in enumerate(site.evaluation):
        copies = [copy for copy in _copies(data) if _bits(site, copy[1]) <= BITS_OF_COPY]
        if len(copies) < 2:
            continue
        first = number % len(copies)
        chosen = (copies[first], copies[first - 1])
        for i, (ending, content) in enumerate(chosen):
            path = site.write(f"reposts/{number}-{i}.{ending}", content)
            site.add(path, scene.text, "evaluation_overlap")
        added += 1
        if added == 4 * site.plan.odd:
            return


def _bits(site: Site, data: bytes) -> int:
    return min(
        bits_to_nearest(perceptual_hash(view), site.evaluation_hashes) for view in views(data)
    )


def check_distances(site: Site) -> None:
    """Raises where an image that is neither a scene nor a copy comes near an evaluation image."""
    for folder in ("photos", "sizes", "popular"):
        for file in sorted((site.root / "site" / folder).rglob("*.*")):
            bits = _bits(site, file.read_bytes())
            if bits < BITS_OF_OTHER:
                raise ValueError(
                    f"{file} is {bits} bits from an evaluation image: take another seed"
                )
