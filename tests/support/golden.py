"""The golden set: pairs made by hand for every reason and detail, with what must become of each."""

import io
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise, product
from typing import NamedTuple

import pyarrow as pa
import skimage.data
from PIL import Image as PillowImage

from tests.support.picture_files import encoded, good_files, photograph, png_that_says
from tests.support.small_web import SmallWeb

COLOURS = ("red", "green", "blue", "white", "black")
ANIMALS = ("dog", "cat", "horse", "bird", "car", "boat")
PLACES = ("garden", "street", "park", "kitchen", "house")
TEXTS = tuple(f"a photo of a {c} {a} in the {p}" for c, a, p in product(COLOURS, ANIMALS, PLACES))
TWENTY_WORDS = "a photo of a red dog in the garden and the white cat in the house in the green park"
NO_NAME = "http://nowhere.invalid/a.jpg"

# What the expected fates below hold for.
FLAGS = (
    "--allow_private_addresses",
    "--max_unsafe_score=1",  # it costs 10 ms an image; runs/test_unsafe.py is about it
    "--min_image_side=100",
    "--max_images_per_text=3",
    "--max_texts_per_image=3",
    "--samples_per_shard=50",
    "--retries=0",
    "--timeout_s=2",
    "--max_image_bytes=1000000",
    "--max_redirects=3",
)


class Fate(NamedTuple):
    """A pair as it is shown, and why it is dropped: None for both where it is kept."""

    url: str
    caption: str
    reason: str | None = None
    detail: str | None = None


def good_fates(web: SmallWeb) -> list[Fate]:
    """A pair of its own for each text: first a file of each kind, then photographs."""
    bodies = list(good_files().values())
    bodies += [encoded(photograph(100 + n), "JPEG") for n in range(len(TEXTS) - len(bodies))]
    return [_put(web, f"/good/{n}", bodies[n], text) for n, text in enumerate(TEXTS)]


def _put(
    web: SmallWeb, path: str, body: bytes, text: str, why: str | None = None, how: str | None = None
) -> Fate:
    web.files[path] = body
    return Fate(web.url + path, text, why, how)


def text_fates(web: SmallWeb) -> list[Fate]:
    """Pairs on both sides of each rule of the text stage."""
    where = [f"{web.url}/same?{n}" for n in range(40)]
    # One image in files of their own: one file at so many URLs would be a placeholder.
    same = photograph(1)
    web.files |= {f"/same?{n}": encoded(same, "JPEG", comment=f"{n}") for n in range(40)}
    fates = [
        Fate("", TEXTS[0], "malformed_pair", "no_url"),
        Fate("ftp://example.org/a.jpg", TEXTS[0], "malformed_pair", "not_http"),
        Fate("http://999.1.1.1/a.jpg", TEXTS[0], "malformed_pair", "not_http"),
        Fate(where[0], "", "malformed_pair", "no_text"),
        Fate(where[0], "caf\ufffd", "malformed_pair", "not_utf8"),
        Fate(where[1], "Ein rotes Auto steht vor dem Haus", "wrong_language", "de"),
        Fate(where[1], "un chat noir dort sur le canapé de la maison", "wrong_language", "fr"),
        Fate(where[2], "the garden", "too_few_words"),
        Fate(where[3], f"{TWENTY_WORDS} the", "too_many_words"),
        Fate(where[4], "a photo of a zyxwvut in the garden", "rare_token"),
        Fate(where[5], "a photo of a dog red in the garden", "rare_token"),  # by a bigram
    ]
    fates += [Fate(url, "the red dog") for url in where[10:13]]
    fates += [Fate(url, TWENTY_WORDS) for url in where[13:15]]
    fates += [Fate(where[15], text) for text in TEXTS[:3]]
    fates += [Fate(where[16], t, "image_with_too_many_texts") for t in TEXTS[3:7]]
    popular = "the white house in the green park"
    fates += [Fate(url, popular, "text_on_too_many_images") for url in where[20:24]]
    fates.append(Fate(where[10], "the red dog", "duplicate_pair"))
    return fates


def image_fates(web: SmallWeb, bad_url: str) -> list[Fate]:
    """Pairs on both sides of each rule of the image stage. The texts are common enough."""
    texts = iter(TEXTS[10:])
    failures = {
        f"{bad_url}/status/404": "http_404",
        f"{bad_url}/status/503": "http_503",
        f"{bad_url}/status/418": "http_4xx",
        f"{bad_url}/cut/": "cut_off",
        f"{bad_url}/reset/0": "reset",
        f"{bad_url}/garbage/": "bad_answer",
        f"{bad_url}/badgzip/": "bad_encoding",
        f"{bad_url}/announce/1000001": "too_large",
        f"{bad_url}/loop/4": "too_many_redirects",
        f"{bad_url}/to/ftp:%2F%2Fexample.org": "bad_redirect",
        f"{bad_url}/hang/3": "timeout",
        NO_NAME: "dns",
    }
    jpeg, png = encoded(photograph(2), "JPEG"), encoded(photograph(3), "PNG")
    unusable = {
        "/empty": (b"", "not_an_image", "empty"),
        "/page": (b"<!DOCTYPE html><html><body>no picture", "not_an_image", "html"),
        "/drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image", "svg"),
        "/data": (b'{"error": 1}', "not_an_image", "json"),
        "/paper": (b"%PDF-1.7 ...", "not_an_image", "pdf"),
        "/noise": (bytes(range(1, 200)), "not_an_image", "unknown"),
        "/cut_jpeg": (jpeg[: len(jpeg) // 2], "undecodable", "truncated"),
        "/cut_png": (png[: len(png) // 2], "undecodable", "truncated"),
        "/broken": (png[:60] + b"\xff" * 60 + png[120:], "undecodable", "broken"),
        "/bomb": (png_that_says(15_000, 15_000), "undecodable", "too_many_pixels"),
        "/small": (_jpeg(150, 100), "too_small", None),
        "/large_enough": (_jpeg(150, 101), None, None),
        "/long": (_jpeg(330, 110), "too_elongated", None),
        "/tall": (_jpeg(110, 330), "too_elongated", None),
        "/short_enough": (_jpeg(329, 110), None, None),
        "/pixel": (_jpeg(1, 1), "too_small", None),
        "/exam": (evaluation_copy(), "evaluation_overlap", None),
    }
    fates = [Fate(url, next(texts), "fetch_failed", detail) for url, detail in failures.items()]
    return fates + [
        _put(web, path, body, next(texts), *why) for path, (body, *why) in unusable.items()
    ]


def _jpeg(width: int, height: int) -> bytes:
    return encoded(photograph(4, width, height), "JPEG")


def evaluation_image() -> bytes:
    """A real photograph: copies are told by fine detail, which made ones lack."""
    return encoded(PillowImage.fromarray(skimage.data.chelsea()).resize((400, 300)), "PNG")


def evaluation_copy() -> bytes:
    """The evaluation image, smaller and badly compressed."""
    picture = PillowImage.open(io.BytesIO(evaluation_image())).resize((200, 150))
    return encoded(picture, "JPEG", quality=40)


def columns(fates: Iterable[Fate]) -> pa.Table:
    """The pairs as they are read: what is shown as U+FFFD was not UTF-8."""
    rows = list(fates)
    broken = "\ufffd".encode()
    urls = [fate.url.encode() for fate in rows]
    texts = [fate.caption.encode().replace(broken, b"\xe9") for fate in rows]
    return pa.table({"url": pa.array(urls, pa.binary()), "caption": pa.array(texts, pa.binary())})


def vocabulary_size(fates: Iterable[Fate]) -> int:
    """How many unigrams and bigrams stand in these texts more than once, where they count."""
    ngrams: Counter[str] = Counter()
    for fate in fates:
        if fate.reason not in ("malformed_pair", "wrong_language"):
            words = fate.caption.lower().split()
            ngrams.update(words + [f"{a} {b}" for a, b in pairwise(words)])
    return sum(count > 1 for count in ngrams.values())
