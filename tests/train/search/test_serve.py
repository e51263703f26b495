"""The page in a real browser, and its server attacked."""

import contextlib
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.colour_search import (
    ColourModel,
    drawn,
    index_of,
    picture_bytes,
    picture_folder,
    serving,
)
from tests.support.train_shards import COLOURS, write_tar
from train.search.opened_index import OpenedIndex

expect.set_options(timeout=60_000)  # beside busy neighbours
PHONE, DESK, WIDE = (390, 844), (1280, 860), (2200, 1200)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> OpenedIndex:
    folder = tmp_path_factory.mktemp("search")
    data = picture_folder(folder / "data", each=12)
    red = picture_bytes(drawn(COLOURS["red"], 1))
    hostile = {
        "x1.jpg": picture_bytes(drawn(COLOURS["red"], 999)),
        "x1.txt": b"<img src=x onerror=alert(1)> red <script>document.title='owned'</script>",
        "x2.jpg": red,  # the same picture as red/1.jpg
        "x2.txt": b"a red picture, once more",
        "x3.jpg": picture_bytes(drawn(COLOURS["pink"], 998)),
        "x3.txt": b"pink and unsafe",
    }
    write_tar(folder / "shards" / "0.tar", hostile)
    rows = [
        {"key": "x1", "url": "javascript:alert(1)", "unsafe_score": 0.1},
        {"key": "x2", "url": "https://img.example.org/red.jpg", "unsafe_score": None},
        {"key": "x3", "url": "https://example.com/pink.jpg", "unsafe_score": 0.9},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "shards" / "0.parquet")
    index_of(data, folder / "index")
    index_of(folder / "shards", folder / "index")
    return OpenedIndex(folder / "index")


@pytest.fixture(scope="module")
def site(index: OpenedIndex) -> Iterator[str]:
    with serving(index) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        yield started
        started.close()


@contextlib.contextmanager
def opened(
    browser: Browser, url: str, size: tuple[int, int] = DESK, **options: Any
) -> Iterator[Page]:
    """A page, of which every request goes to its own server and no error is left in the console."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    site = "/".join(url.split("/")[:3])
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.goto(url)
    yield page
    foreign = [u for u in requests if not u.startswith((site, f"blob:{site}"))]
    assert foreign == []
    refused = [error for error in errors if "status of 4" not in error]  # what a test provokes
    assert refused == []
    context.close()


def captions(page: Page) -> list[str]:
    return page.locator("#results .caption").all_inner_texts()


def search(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")
    expect(page.locator("#status")).to_contain_text("pictures, in")


def answer(url: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one request."""
    request = urllib.request.Request(url, **options)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_typing_finds_and_scrolling_loads_more(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        search(page, "green")
        expect(page.locator("#results li").nth(23)).to_be_visible()
        assert all("green" in caption for caption in captions(page)[:12])
        assert "text=green" in page.url
        for _ in range(4):
            page.mouse.wheel(0, 20_000)
            page.wait_for_timeout(100)
        total = len(answer(f"{site}/api/search?text=green&limit=100")[1]["results"])
        assert total > 80
        expect(page.locator("#results li")).to_have_count(total)
        expect(page.locator("#status")).to_contain_text(f"{total} pictures")
        first = page.locator("#results img").first
        assert first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_the_page_has_no_axe_violations(browser: Browser, site: str) -> None:
    for size, scheme in ((DESK, "light"), (PHONE, "dark")):
        with opened(
            browser, f"{site}/?text=red&key=green/1.jpg", size, color_scheme=scheme
        ) as page:
            expect(page.locator("#status")).to_contain_text("pictures, in")
            page.locator("#filters summary").click()
            result = Axe().run(page)
            assert result.violations_count == 0, result.generate_report()
    with opened(browser, f"{site}/api") as page:
        result = Axe().run(page)
        assert result.violations_count == 0, result.generate_report()


def test_chips_add_and_take_away_with_weights(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        search(page, "red")
        page.fill("#refinement", "blue")
        page.click("#plus")
        expect(page.locator("#terms li")).to_have_count(1)
        expect(page.locator("#results li").first).to_be_visible()
        both = page.url
        assert "text=red" in both
        assert "text=blue" in both
        weight = page.get_by_label("Weight of blue")
        weight.fill("5")
        weight.press("Enter")
        expect(page.locator("#results .caption").first).to_contain_text("blue")
        page.fill("#refinement", "white")
        page.click("#minus")
        expect(page.locator("#terms li.away")).to_have_count(1)
        assert "text_weight=-1" in page.url
        page.get_by_label("Remove blue").click()
        expect(page.locator("#terms li")).to_have_count(1)
        page.go_back()
        expect(page.locator("#terms li")).to_have_count(2)
        weight = page.get_by_label("Weight of blue")
        weight.fill("0")
        weight.press("Enter")
        expect(page.locator("#status")).to_contain_text("other than 0")


def test_a_result_is_searched_from_and_a_link_brings_it_back(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        search(page, "yellow")
        page.locator(".picture").nth(3).click()
        page.wait_for_url("**/?key=*")
        expect(page.locator("#terms img")).to_have_count(1)
        expect(page.locator("#results .caption").first).to_contain_text("yellow")
        first, link = captions(page), page.url
    with opened(browser, link) as page:
        expect(page.locator("#results li").nth(3)).to_be_visible()
        assert captions(page)[:24] == first[:24]


def test_a_picture_is_uploaded_dropped_and_pasted(browser: Browser, site: str) -> None:
    blue = picture_bytes(drawn(COLOURS["blue"], 12345), "PNG")
    with opened(browser, site) as page:
        page.set_input_files("#file", {"name": "mine.png", "mimeType": "image/png", "buffer": blue})
        expect(page.locator("#results .caption").first).to_contain_text("blue")
        link = page.url
        for event in ("drop", "paste"):
            page.goto(site)
            page.evaluate(
                """([event, bytes]) => {
                  const data = new DataTransfer();
                  data.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
                  const options = {bubbles: true, cancelable: true};
                  dispatchEvent(event === "drop"
                    ? new DragEvent(event, {...options, dataTransfer: data})
                    : new ClipboardEvent(event, {...options, clipboardData: data}));
                }""",
                [event, list(blue)],
            )
            expect(page.locator("#results .caption").first).to_contain_text("blue")
            assert page.url == link  # the same picture, by its embedding
    with opened(browser, link) as page:  # with nothing kept of it on the server
        expect(page.locator("#results .caption").first).to_contain_text("blue")


def test_captions_and_urls_do_nothing(browser: Browser, site: str) -> None:
    with opened(browser, f"{site}/?text=red&caption=onerror") as page:
        expect(page.locator("#results li")).to_have_count(1)
        assert captions(page) == [
            "<img src=x onerror=alert(1)> red <script>document.title='owned'</script>"
        ]
        assert page.locator("#results a").count() == 0  # javascript: is no link
        assert "owned" not in page.title()


def test_duplicates_are_folded(browser: Browser, site: str) -> None:
    both = {"a red picture, number 1", "a red picture, once more"}
    with opened(browser, f"{site}/?key=red/1.jpg&caption=red+picture") as page:
        folded = page.locator("#results li", has_text="and 1 like it")
        expect(folded.first).to_be_visible()
        assert len(both & set(captions(page))) == 1
        page.check("#all")
        for caption in both:
            expect(page.get_by_text(caption, exact=True)).to_be_visible()
        expect(folded).to_have_count(0)


def test_a_picture_scored_unsafe_is_blurred_until_it_is_asked_for(
    browser: Browser, site: str
) -> None:
    with opened(browser, f"{site}/?text=pink&host=example.com") as page:
        picture = page.locator(".picture")
        expect(picture).to_have_class("picture unsafe")
        assert "blur" in picture.locator("img").evaluate("node => getComputedStyle(node).filter")
        picture.click()
        expect(picture).to_have_class("picture")
        assert "host=example.com" in page.url
        link = page.locator("#results a")
        assert link.get_attribute("rel") == "noopener noreferrer"


def test_keys_are_enough(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        assert page.evaluate("document.activeElement.id") == "text"
        page.keyboard.type("black")
        page.keyboard.press("Enter")
        expect(page.locator("#results li").nth(5)).to_be_visible()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.className") == "picture"
        page.keyboard.press("Enter")
        page.wait_for_url("**/?key=*")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "text"


@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "wide"])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, site: str, size: tuple[int, int]
) -> None:
    link = f"{site}/?text=red&text=a+quite+long+text+to+add+to+the+query&key=red/1.jpg"
    with opened(browser, link, size) as page:
        expect(page.locator("#results li").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert page.locator("#results li").first.bounding_box()["width"] >= 100


def test_the_page_tells_what_is_wrong(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        page.press("#text", "Enter")
        expect(page.locator("#status")).to_contain_text("The query is empty")
        svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
        page.set_input_files("#file", {"name": "a.svg", "mimeType": "image/svg+xml", "buffer": svg})
        expect(page.locator("#status")).to_contain_text("no picture that can be opened")
        page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"})
        expect(page.locator("#status")).to_contain_text("That is no picture")
        page.goto(f"{site}/?text=red&min_side=99999")
        expect(page.locator("#status")).to_contain_text("Nothing fits these filters")
        page.goto(f"{site}/?key=gone")
        expect(page.locator("#status")).to_contain_text("no picture 'gone'")


def test_every_answer_has_the_headers(site: str) -> None:
    for path in ("/", "/search.js", "/api", "/api/search", "/thumbnails/none", "/nothing"):
        request = urllib.request.Request(site + path)
        try:
            response = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            response = error
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in response.headers
        assert "server" not in response.headers
    page = urllib.request.urlopen(site, timeout=60).read().decode()
    assert "<script>" not in page
    assert "style=" not in page
    assert "onclick" not in page


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels, a thousandth of them in bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress(b"\0" * (side // 8 + 1) * side, 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


UPLOADS = {
    "nothing": (b"", 400, "is empty"),
    "text": (b"no picture at all", 415, "no picture that can be opened"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415, "no picture"),
    "bomb": (bomb(9_000), 415, "9000 x 9000 px: give a smaller one"),
    "bomb Pillow knows": (bomb(40_000), 415, "too long to open"),
    "cut JPEG": (picture_bytes(drawn(COLOURS["red"], 5))[:900], 415, "no picture"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "no picture"),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_hostile_uploads_are_refused(site: str, name: str) -> None:
    data, status, text = UPLOADS[name]
    got, told = answer(f"{site}/api/pictures", data=data, method="POST")
    assert got == status
    assert text in told["error"]


def test_an_upload_that_says_that_it_has_1_gb_is_refused_before_it_comes(site: str) -> None:
    host, port = site.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            f"POST /api/pictures HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Length: {1 << 30}\r\n\r\n".encode()
        )
        reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert b" 413 " in reply.partition(b"\r\n")[0]
    assert b"more than 16 MiB" in reply


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


def test_more_uploads_than_are_held_at_once_are_told_to_come_again(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = picture_bytes(drawn(COLOURS["red"], 5))
    host, port = site.removeprefix("http://").split(":")
    head = f"POST /api/pictures HTTP/1.1\r\nHost: {host}:{port}\r\n".encode()
    monkeypatch.setattr("train.search.app.MOST_HELD", 2 * len(picture) - 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % (len(picture) + 1) + picture)
        for _ in range(600):  # until the server has the bytes of the first, which lacks its last
            got, told = answer(f"{site}/api/pictures", data=picture, method="POST")
            if got == 503:
                break
            time.sleep(0.1)
        assert got == 503
        assert "too many pictures" in told["error"]
        connection.sendall(b"\0")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert answer(f"{site}/api/pictures", data=picture, method="POST")[0] == 200


QUERIES = {
    "": "the query is empty",
    "text=": "an empty text finds nothing",
    "text=+&text=red": "an empty text finds nothing",
    "text=red&text_weight=1&text_weight=2": "a text_weight for each text",
    "text=red&text_weight=many": "a text_weight for each text",
    "text=red&text_weight=nan": "a weight must be a number",
    "text=red&text_weight=0": "other than 0",
    "text=red&text=red&text_weight=1&text_weight=-1": "cancel each other out",
    "key=../../etc/passwd": "no picture '../../etc/passwd'",
    "picture=abc": "a picture of this link is none",
    "picture=00000000.AAAA": "a picture of this link is none",
    "picture=" + "ffffffff." + "A" * 43: "was for another model",
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


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:40])
def test_wrong_queries_are_told(site: str, query: str) -> None:
    status, told = answer(f"{site}/api/search?{query}")
    assert status == 400
    assert QUERIES[query] in told["error"]


def test_no_path_of_a_request_is_opened(site: str) -> None:
    host, port = site.removeprefix("http://").split(":")
    for path in (
        "/thumbnails/../../../../etc/passwd",
        "/thumbnails/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/thumbnails//etc/passwd",
        "/../index.html",
        "/page/index.html",
    ):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        assert b" 404 " in reply.partition(b"\r\n")[0], path
        assert b"root:" not in reply


def test_another_hosts_name_is_refused_on_loopback(site: str) -> None:
    status, told = answer(f"{site}/api/index", headers={"Host": "evil.example"})
    assert status == 421
    assert "for its own machine" in told["error"]


def test_too_many_requests_have_to_wait(index: OpenedIndex) -> None:
    with serving(index, requests_per_minute=12) as site:
        statuses = [answer(f"{site}/api/index")[0] for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert urllib.request.urlopen(site, timeout=60).status == 200  # the page itself


def test_many_at_once_are_answered_with_few_calls_of_the_model(index: OpenedIndex) -> None:
    with serving(index) as site:
        names = [f"{a} and {b}" for a in COLOURS for b in COLOURS]
        answers: list[tuple[int, dict[str, Any]]] = []

        def ask(texts: list[str]) -> None:
            for text in texts:
                parameters = urllib.parse.urlencode({"text": text})
                answers.append(answer(f"{site}/api/search?{parameters}"))

        threads = [threading.Thread(target=ask, args=(names[n::16],)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [status for status, _ in answers] == [200] * 64
    assert all(told["results"] for _, told in answers)


def test_pages_of_results_follow_each_other(site: str) -> None:
    whole = answer(f"{site}/api/search?text=red&limit=60")[1]["results"]
    pages, offset = [], 0
    while offset is not None and len(pages) < 60:
        told = answer(f"{site}/api/search?text=red&limit=20&offset={offset}")[1]
        pages += told["results"]
        offset = told["next_offset"]
    assert [result["key"] for result in pages[:60]] == [result["key"] for result in whole]
    last = answer(f"{site}/api/search?text=red&limit=100&offset=90")[1]
    assert last["next_offset"] is None


def test_the_api_is_described(site: str) -> None:
    status, document = answer(f"{site}/api/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    names = {of["name"] for of in document["paths"]["/api/search"]["get"]["parameters"]}
    for name in names - {"picture", "picture_weight", "text_weight", "key_weight"}:
        value = {"fold": "true", "key": "red/1.jpg"}.get(name, "1")
        also = "" if name in ("text", "key") else "text=red&"
        assert answer(f"{site}/api/search?{also}{name}={value}")[0] == 200, name


def test_an_uploaded_picture_is_as_near_as_its_own_vector(site: str, index: OpenedIndex) -> None:
    picture = drawn(COLOURS["green"], 4321, (3000, 1000))
    status, told = answer(f"{site}/api/pictures", data=picture_bytes(picture), method="POST")
    assert status == 200
    parameters = urllib.parse.urlencode({"picture": told["picture"], "limit": 50})
    results = answer(f"{site}/api/search?{parameters}")[1]["results"]
    vector = ColourModel().embed_images([picture])[0]
    for result in results[::10]:
        exact = float(index.vector_of(result["key"]) @ vector)
        assert result["score"] == pytest.approx(exact, abs=0.02)
