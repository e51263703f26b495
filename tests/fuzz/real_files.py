"""Real files of each format, small: what Pillow, pyarrow and this project write, what packages
ship, and a grid of tiles, which none of them writes."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import tempfile
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from alignset.transforms.blocklists.kinds import DIGEST_BYTES, KINDS
from tests.fuzz.pictures import TURNED
from tests.support import small_sets
from tests.support import stating_files as stating
from tests.support.avif_files import frame_file, grid
from tests.support.hostile_tars import HOSTILE, tar_of
from tests.support.page_archives import packed, page_record, record, response
from tests.support.picture_files import encoded, good_files, photograph, transparent
from tests.support.stating_files import superbox
from tests.support.train_shards import colour_files

LARGEST = 1 << 16  # bytes of a file that a package ships
PACKAGES = ("skimage", "matplotlib", "scipy", "pyarrow", "werkzeug", "networkx", "sklearn")
OTHER_NAMES = {"jpg": "jpeg", "tif": "tiff"}
NO_TRAINING = stating.cbor({"entries": {"c2pa.ai_training": {"use": "notAllowed"}}})
TEXTS = [
    "a red heart",
    "two blue stars, and a hat",
    'he said "no"',
    "",
    "漢字の犬",
    "a\tb  c &amp; d",
]
URL = "http://a.example/b/"
PAGE = """<!doctype html><html><head><title>A page</title><base href=/i/><meta charset=utf-8>
<meta name=robots content="index, follow"><link rel=canonical href=http://a.example/k></head><body>
<p>Text <a href=x rel=license>of words</a><img src="1.png" alt="picture 1" width=3>
<picture><source srcset="2.webp 1x, 2b.webp 2x"><img src=2.jpg alt='picture 2'></picture>
<script>document.write("<img src=x alt=no>")</script><svg><title>t</title><image href=3/></svg>
<!-- <img src=4 alt=no> --><img data-src=5.gif alt="&eacute;&#x41; five"></body></html>"""


@cache
def real_files() -> dict[str, list[tuple[str, bytes]]]:
    """By format, the files with their endings."""
    files: dict[str, list[tuple[str, bytes]]] = {}
    for ending, body in (*_pictures(), *_shipped(), *_tars(), *_tables(), *_archives()):
        files.setdefault(ending.partition(".")[0], []).append((ending, body))
    return files


def _pictures() -> Iterator[tuple[str, bytes]]:
    for name, body in good_files().items():
        yield name.split()[0], body
    picture, moving = photograph(), {"save_all": True, "append_images": [photograph(1)] * 2}
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield "tiff", encoded(picture, "TIFF", compression=compression)
    yield "tiff", encoded(picture.convert("CMYK"), "TIFF", **moving)
    yield "tiff", encoded(picture.convert("1"), "TIFF", compression="group4")
    store = superbox(b"c2pa", superbox(b"c2pa.training-mining", stating.box(b"cbor", NO_TRAINING)))
    for kind in ("jpeg", "png", "webp", "gif", "avif"):
        with_terms = getattr(stating, f"{kind}_with")
        yield kind, with_terms(good_files()[kind], stating.xmp(stating.PROHIBITED, URL, "a"), store)
    for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
        exif = b"Exif\0\0" + TURNED
        yield kind.lower(), encoded(picture, kind, exif=exif, icc_profile=b"acsp" * 99)
    yield "gif", encoded(transparent(), "GIF", disposal=2, comment=b"words" * 99, **moving)
    for rows, columns in ((1, 1), (2, 3)):
        yield "avif", grid([frame_file(64)], rows, columns, 64)


LARGE: dict[str, dict[str, object]] = {
    **{"png": {"compress_level": 9}, "gif": {}, "webp": {"lossless": True, "method": 0}},
    **{"jpeg": {"progressive": True}, "tiff": {"compression": "tiff_lzw"}, "avif": {"speed": 10}},
}


@cache
def large_file(kind: str, shape: str) -> bytes:
    """A file of some KB, for its many pixels of one colour: "square", or "strip" of two px, which
    is an AVIF of as many small tiles, each with the frame of the square.
    """
    if kind == "avif" and shape == "strip":
        return grid([frame_file(4000)], 16, 16, 64)
    width = 2 if shape == "strip" and kind in ("png", "tiff") else 4000
    height = 10_000_000 if width == 2 else 4000
    return encoded(Image.new("L", (width, height), 200), kind.upper(), **LARGE[kind])


def _shipped() -> Iterator[tuple[str, bytes]]:
    """Pictures, pages and tables that installed packages have among their files."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            paths = sorted(Path(folder).rglob("*.*"))
            for ending in ("png", "gif", "jpg", "tif", "tiff", "webp", "html", "parquet"):
                found = [p for p in paths if p.name.endswith(f".{ending}")]
                for path in [p for p in found if p.stat().st_size <= LARGEST][:12]:
                    yield OTHER_NAMES.get(ending, ending), path.read_bytes()


def _tars() -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        small_sets.put_shard(folder, 0, 4)
        yield "tar", Path(folder, "shards/00000.tar").read_bytes()
        yield "parquet", Path(folder, "shards/00000.parquet").read_bytes()
        small_sets.put_rejected(folder, "images-00000", [("too_small", None), ("blocked", "a:url")])
        yield "parquet", Path(folder, "rejected/images-00000.parquet").read_bytes()
    yield "tar", tar_of(colour_files(0, 4))
    yield "tar", tar_of(colour_files(0, 2) | {f"{'n' * 300}.txt": b"a long name"})
    yield "tar", tar_of(colour_files(0, 1)) + tar_of(colour_files(1, 1))
    for tar, _ in HOSTILE.values():
        if len(tar) < LARGEST:
            yield "tar", tar


def _tables() -> Iterator[tuple[str, bytes]]:
    rows = 60
    urls = [f"{URL}{n}.jpg" for n in range(rows)]
    table = pa.table(
        {
            "url": urls,
            "caption": [TEXTS[n % len(TEXTS)] for n in range(rows)],
            "number": pa.array([None, *range(1, rows)], pa.int64()),
            "when": pa.array(range(rows), pa.timestamp("ms")),
            "more": [{"a": n, "b": [str(n)] * (n % 3)} for n in range(rows)],
        }
    )
    for more in (
        {},
        {"compression": "zstd", "use_dictionary": False, "row_group_size": 20},
        {"compression": "none", "data_page_version": "2.0", "write_page_checksum": True},
        {"compression": "gzip", "data_page_size": 64, "write_page_index": True},
    ):
        sink = io.BytesIO()
        pq.write_table(table, sink, **more)
        yield "parquet", sink.getvalue()
    listed = {kind: ("5a" * DIGEST_BYTES.get(kind, 0) or "a.example/b") for kind in KINDS}
    listed |= {"host": "a.example", "domain": "*.b.example", "text": "two words"}
    sink = io.BytesIO()
    pq.write_table(pa.table({kind: [value] * 3 for kind, value in listed.items()}), sink)
    yield "parquet", sink.getvalue()
    lines = [*map(":".join, listed.items()), "", "# no entry", "url: http://é.example/a b?c#d"]
    for ending, body in (("txt", "\n".join(lines)), ("csv", "host,x,url\na.example,1,http://b/\n")):
        yield ending, body.encode()
        yield f"{ending}.gz", gzip.compress(body.encode(), mtime=0)
    pairs = [*zip(urls, TEXTS * 10, strict=True)]
    text = io.StringIO()
    csv.writer(text).writerows([("url", "caption"), *pairs])
    lines = [json.dumps({"url": url, "caption": text}) for url, text in pairs]
    for ending, body in (("csv", text.getvalue()), ("jsonl", "\n".join(lines))):
        yield ending, body.encode()
        yield f"{ending}.gz", gzip.compress(body.encode(), mtime=0)


def _archives() -> Iterator[tuple[str, bytes]]:
    yield "html", PAGE.encode()
    yield "html", PAGE.encode("utf-16")
    pages = [page_record(f"{URL}{n}", PAGE) for n in range(3)]
    squeezed = zlib.compress(PAGE.encode())
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(squeezed), squeezed)
    fields = ("Content-Encoding: deflate", "Transfer-Encoding: chunked", "X-Robots-Tag: all")
    pages.append(page_record(URL, chunked, *fields))
    pages.append(record(URL, response("no page", kind="text/plain")))
    links = [{"path": "IMG@/src", "url": f"{n}.png", "alt": f"picture {n}"} for n in range(3)] + [
        {"path": "A@/href", "url": "x"}
    ]
    head = {"Title": "A page", "Metas": [{"name": "robots", "content": "all"}]}
    answer = {
        "Response-Message": {"Status": "200"},
        "HTML-Metadata": {"Head": head, "Links": links},
    }
    fields_of_record = {"WARC-Type": "response", "WARC-Target-URI": URL}
    payload = {"HTTP-Response-Metadata": answer}
    envelope = {"WARC-Header-Metadata": fields_of_record, "Payload-Metadata": payload}
    block = json.dumps({"Container": {}, "Envelope": envelope}).encode()
    wats = [record(URL, block, kind="metadata", content="application/json")] * 3
    for name, records in (("warc", pages), ("wat", wats)):
        for kind in ("gz", "zst", ""):
            yield f"{name}.{kind}".strip("."), packed(records, kind)
