"""What the page's server answers and refuses, and the server attacked."""

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from alignset.train.data.images import UPLOAD_PX, RefusedPicture, decode_upload
from alignset.train.search import serve
from alignset.train.search.__main__ import main
from alignset.train.search.index_files import ROWS
from alignset.train.search.query import OpenedIndex, SearchQuery
from alignset.transforms.images import decode
from alignset.transforms.workers.limited_process import Limits
from tests.support.colour_search import (
    answer,
    drawn,
    index_of,
    picture_bytes,
    picture_folder,
    serving,
)
from tests.support.nginx import nginx
from tests.support.picture_files import encoded, photograph, png_that_says
from tests.support.train_shards import COLOURS


def raw_answer(site: str, *pieces: str) -> bytes:
    """What answers a request that arrives in pieces and ends the connection."""
    host, port = site.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece.format(host=f"{host}:{port}").encode())
            time.sleep(0.2 if pieces[1:] else 0)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


QUERIES = {
    "": "the query is empty",
    "text=": "an empty text finds nothing",
    "text=+&text=red": "an empty text finds nothing",
    "text=red&text_weight=1&text_weight=2": "a text_weight for each text",
    "text=red&text_weight=many": "a text_weight for each text",
    "text=red&text_weight=nan": "a weight must be a number",
    "text=red&text_weight=0": "other than 0",
    "text=red&text=red&text_weight=1&text_weight=-1": "cancel each other out",
    "key=../../etc/passwd": "no image '../../etc/passwd'",
    "picture=abc": "no longer has this image: pass it again",
    "text=red&limit=0": "limit must be a whole number from 1 to 100",
    "text=red&limit=101": "limit must be a whole number from 1 to 100",
    "text=red&offset=1001": "offset must be",
    "text=red&offset=%D9%A1": "offset must be",
    "text=red&min_side=9&max_side=3": "max_side must be at least min_side",
    "text=red&fold=maybe": "fold must be true or false",
    "text=red&colour=blue": "there is no parameter 'colour'",
    "text=" + "a" * 1001: "at most 1000 characters",
    "&".join(["text=a"] * 17): "at most 16 terms",
    "text=red&host=" + "a" * 201: "host must have at most 200",
}


def test_wrong_queries_are_told(site: str) -> None:
    for query, text in QUERIES.items():
        status, told = answer(f"{site}/api/search?{query}")
        assert status == 400, query
        assert text in told["error"]


def test_pages_load_nothing_else_and_no_path_of_a_request_is_opened(site: str) -> None:
    traversals = [
        "/thumbnails/../../../../etc/passwd",
        "/thumbnails/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/thumbnails//etc/passwd",
        "/../index.html",
        "/page/index.html",
    ]
    for path in ("/", "/search.js", "/api/search", "/thumbnails/none", *traversals):
        reply = raw_answer(
            site, f"GET {path} HTTP/1.1\r\nHost: {{host}}\r\nConnection: close\r\n\r\n"
        )
        head, _, body = (part.decode() for part in reply.partition(b"\r\n\r\n"))
        assert " 404 " in head.partition("\r\n")[0] or path not in traversals
        lines = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:])
        assert "default-src 'none'" in lines["content-security-policy"]
        assert "unsafe" not in lines["content-security-policy"]
        assert lines["x-content-type-options"] == "nosniff"
        assert not {"access-control-allow-origin", "server"} & {*lines}
        assert "root:" not in body
        if path == "/":
            assert not any(part in body for part in ("<script>", "style=", "onclick"))


def test_another_hosts_name_is_refused_on_loopback(site: str, index: OpenedIndex) -> None:
    status, told = answer(f"{site}/api/index", headers={"Host": "evil.example"})
    assert status == 421
    assert "for its own machine" in told["error"]
    with serving(index, host="127.0.0.2") as other:
        assert answer(f"{other}/api/index")[0] == 200
        assert answer(f"{other}/api/index", headers={"Host": "evil.example"})[0] == 421


@pytest.mark.slow
def test_a_proxy_serves_under_its_own_name(site: str, tmp_path: Path) -> None:
    with nginx(tmp_path, before=site) as proxy:
        named = {"Host": "pictures.example"}
        assert answer(f"{proxy.url}/api/search?text=red", headers=named)[0] == 200
        picture = {"data": picture_bytes(drawn(COLOURS["red"], 5)), "method": "POST"}
        assert answer(f"{proxy.url}/api/pictures", headers=named, **picture)[0] == 200


def test_paths_of_a_proxy_odd_keys_and_an_index_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = picture_folder(tmp_path / "data", each=1)
    (data / "red/0.jpg").rename(data / "red/0\n1.jpg")
    index_of(data, tmp_path / "index")
    with serving(OpenedIndex(tmp_path / "index"), root_path="/pics") as below:
        for url in (below, below.removesuffix("/pics")):
            [first, *_] = answer(f"{url}/api/search?text=red")[1]["results"]
            assert first["key"] == "red/0\n1.jpg"
            assert urllib.request.urlopen(f"{url}/{first['thumbnail']}", timeout=60).status == 200
            assert b"search.js" in urllib.request.urlopen(f"{url}/", timeout=60).read()
        (tmp_path / "index" / ROWS).unlink()
        status, told = answer(f"{below}/api/search?text=red")
        assert status == 503
        assert str(tmp_path) not in told["error"]
    for path in ("pics", "/a b", "/pics?x", "//x"):
        assert main(["serve", str(tmp_path / "index"), f"--root_path={path}"]) == 2
        assert "root_path must be a path such as /pics" in capsys.readouterr().err


def test_a_request_whose_head_does_not_end_is_closed(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "HEAD_S", 0.3)
    address = urllib.parse.urlsplit(site)
    place = (address.hostname, address.port)
    whole = b"GET /icon.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for start in (b"", b"GET /", whole[:-2], whole + whole[:-2]):
        with socket.create_connection(place, timeout=60) as client:
            client.sendall(start)
            with contextlib.suppress(ConnectionError):
                for byte in b"X-Long: " + b"x" * 1000 if start else ():  # a byte now and then
                    client.sendall(bytes([byte]))
                    time.sleep(0.02)
                while client.recv(1 << 16):
                    pass
    with socket.create_connection(place, timeout=60) as client:  # between requests it may wait
        for _ in range(2):
            client.sendall(whole)
            said = b""
            while not said.endswith(b"</svg>\n"):
                said += client.recv(1 << 16)
            assert said.startswith(b"HTTP/1.1 200")
            time.sleep(0.5)


def test_what_the_paths_answer_with(site: str, index: OpenedIndex) -> None:
    """As docs/search.md has it; pages of results follow each other."""
    told = answer(f"{site}/api/index")[1]
    assert told.keys() == {"pictures", "model", "search", "recall_at_10", "sample"}
    assert (told["pictures"], told["search"]) == (99, "exact")
    told = answer(f"{site}/api/search?text=red&limit=60")[1]
    assert told.keys() == {"results", "next_offset", "took_ms"}
    names = "key score caption url host width height unsafe folded thumbnail"
    assert told["results"][0].keys() == set(names.split())
    pages = [answer(f"{site}/api/search?text=red&limit=20&offset={n}")[1] for n in (0, 20, 40)]
    assert [of["next_offset"] for of in pages] == [20, 40, 60]
    assert [of for page in pages for of in page["results"]] == told["results"]
    last = answer(f"{site}/api/search?text=red&limit=100&offset=90")[1]
    assert last["next_offset"] is None
    # Terms of all kinds with their weights, and filters.
    link = "text=red&text_weight=1&text=blue+%26+pink&text_weight=-0.5&key=red/0&key_weight=2"
    told = answer(f"{site}/api/search?{link}&caption=number+3&min_side=81&fold=false&limit=3")[1]
    assert told["results"][0]["caption"] == "a red picture, number 3"
    assert len(told["results"]) == 3
    assert all(of["folded"] == 0 and min(of["width"], of["height"]) >= 81 for of in told["results"])
    for filters, keys in (
        ("host=EXAMPLE.com.", ["x3"]),  # and hosts below it, of which it is not an end alone
        ("host=example.org&caption=RED", ["x2"]),
        ("host=ample.com", []),
        ("max_side=79", []),
    ):
        results = answer(f"{site}/api/search?text=pink&{filters}")[1]["results"]
        assert [of["key"] for of in results] == keys, filters
    unsafe = pa.array(~index.row_mask(SearchQuery(safe=True)))  # what has no score stays
    assert index.rows["key"].filter(unsafe).to_pylist() == ["x3"]


def test_hostile_uploads_are_refused(site: str) -> None:
    for data, status, text in (
        (b"", 400, "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415, "no image"),
        (png_that_says(9_000, 8_000), 415, "too much time or memory"),
        (png_that_says(70_000, 2), 415, "too much time or memory"),
        (b"\xff\xd8" + b"\xff\xe1\0\2" * 5000, 415, "too much time or memory"),
        (picture_bytes(drawn(COLOURS["red"], 5))[:900], 415, "no image that can be opened"),
    ):
        got, told = answer(f"{site}/api/pictures", data=data, method="POST")
        assert got == status
        assert text in told["error"]


def test_an_upload_without_an_end_is_cut_off(site: str) -> None:
    """A stream of 1 GB, chunk by chunk, without saying how long it is."""
    host, port = site.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            f"POST /api/pictures HTTP/1.1\r\nHost: {host}:{port}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        piece = b"100000\r\n" + b"\0" * (1 << 20) + b"\r\n"
        sent = 0
        with contextlib.suppress(OSError):
            for _ in range(1024):
                connection.sendall(piece)
                sent += 1
        assert sent < 100  # MiB; what the system's buffers took after the refusal among it
        with contextlib.suppress(OSError):
            head = connection.recv(1 << 16)
            assert not head or b" 413 " in head.partition(b"\r\n")[0]
    assert answer(f"{site}/api/search?text=red")[0] == 200


def test_many_uploads_leave_searches_their_threads(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()

    def held(data: bytes) -> Image.Image:
        may_go_on.wait(60)
        return Image.new("RGB", (32, 32))  # a process for each would take longer than a request may

    monkeypatch.setattr("alignset.train.search.serve.decode_upload", held)
    upload = picture_bytes(drawn(COLOURS["red"], 5))
    with ThreadPoolExecutor(60) as threads:
        uploads = [
            threads.submit(answer, f"{site}/api/pictures", data=upload + b"%d" % n, method="POST")
            for n in range(60)
        ]
        wait(uploads, timeout=0.5)
        try:
            assert answer(f"{site}/api/search?text=red")[0] == 200
            assert not any(one.done() for one in uploads)
        finally:
            may_go_on.set()
    assert {one.result()[0] for one in uploads} == {200}


def test_heads_that_are_odd_and_long(site: str) -> None:
    head = "POST /api/pictures HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n"
    body = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    assert b" 400 " in raw_answer(site, head + body).partition(b"\r\n")[0]
    terms = urllib.parse.urlencode([("text", letter * 1000) for letter in "犬猫鳥馬"])  # 36 KB
    end = " HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert b" 200 " in raw_answer(site, f"GET /api/search?{terms}", end).partition(b"\r\n")[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_pictures_are_decoded(kind: str) -> None:
    difference = np.asarray(decode_upload(encoded(photograph(3), kind)), float) - np.asarray(
        photograph(3), float
    )
    assert np.abs(difference).mean() < 12


def test_a_large_picture_is_made_small_and_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photograph(1).resize((3000, 1500)), "JPEG", exif=exif.tobytes())
    assert decode_upload(data).size == (UPLOAD_PX // 2, UPLOAD_PX)


def test_what_takes_too_long_or_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for limits in (Limits(1e-3, 2 << 30), Limits(10.0, 1 << 20)):
        monkeypatch.setattr(decode, "Limits", lambda *usual, limits=limits: limits)
        with pytest.raises(RefusedPicture, match="too much time or memory"):
            decode_upload(encoded(photograph().resize((4000, 3000)), "PNG"))
