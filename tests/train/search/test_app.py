"""What the page's server answers, and the server attacked."""

import contextlib
import http.client
import logging
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alignset.train.search.blocklist import read_blocklist
from alignset.train.search.make_index import remove_rows
from alignset.train.search.opened_index import OpenedIndex
from tests.support.colour_search import (
    ColourModel,
    answer,
    drawn,
    index_of,
    picture_bytes,
    picture_folder,
    serving,
)
from tests.support.nginx import nginx
from tests.support.train_shards import COLOURS


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


def test_a_request_with_two_lengths_is_the_last_of_its_connection(site: str) -> None:
    host, port = site.removeprefix("http://").split(":")
    head = f"POST /api/pictures HTTP/1.1\r\nHost: {host}\r\n"
    body = "0\r\n\r\nGET /api/index HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        request = f"{head}Content-Length: {len(body)}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        connection.sendall(request.encode())
        reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b"and not both" in reply
    assert reply.count(b"HTTP/1.1 ") == 1


def test_another_hosts_name_is_refused_on_loopback(site: str, index: OpenedIndex) -> None:
    status, told = answer(f"{site}/api/index", headers={"Host": "evil.example"})
    assert status == 421
    assert "for its own machine" in told["error"]
    with serving(index, host="127.0.0.2") as other:
        assert answer(f"{other}/api/index")[0] == 200
        assert answer(f"{other}/api/index", headers={"Host": "evil.example"})[0] == 421


def test_users_behind_a_proxy_are_told_apart(index: OpenedIndex) -> None:
    def statuses(site: str, name: str, *addresses: str) -> list[int]:
        return [
            answer(f"{site}/api/index", headers={"Host": name, "X-Forwarded-For": address})[0]
            for address in addresses
        ]

    with serving(index, requests_per_minute=12, trusted_proxy="127.0.0.1") as site:
        assert statuses(site, "pictures.example", *["192.0.2.1"] * 3) == [200, 200, 429]
        assert statuses(site, "pictures.example", "192.0.2.2", "192.0.2.3") == [200, 200]
        # What a user says of itself before the proxy's own word counts for nothing.
        assert statuses(site, "pictures.example", "192.0.2.9, 192.0.2.1") == [429]
    with serving(index, requests_per_minute=12) as site:  # nobody's word is trusted
        name = site.removeprefix("http://")
        assert statuses(site, name, "192.0.2.1", "192.0.2.2", "192.0.2.3") == [200, 200, 429]


@pytest.mark.slow
def test_users_behind_a_real_proxy_are_told_apart(index: OpenedIndex, tmp_path: Path) -> None:
    def status(port: int, user: str, said: str = "") -> int:
        """Of a request from an address of this machine's loopback network."""
        connection = http.client.HTTPConnection("127.0.0.1", port, source_address=(user, 0))
        named = {"Host": "pictures.example"} | ({"X-Forwarded-For": said} if said else {})
        connection.request("GET", "/api/index", headers=named)
        with contextlib.closing(connection):
            return connection.getresponse().status

    with (
        serving(index, requests_per_minute=12, trusted_proxy="127.0.0.1") as site,
        nginx(tmp_path, before=site) as proxy,
    ):
        port = int(proxy.url.rpartition(":")[2])
        assert [status(port, "127.0.0.2") for _ in range(3)] == [200, 200, 429]
        assert status(port, "127.0.0.3") == 200
        # The proxy's word replaces what a user says of itself.
        assert status(port, "127.0.0.2", said="127.0.0.9") == 429


def test_what_is_removed_is_gone_from_a_server_that_runs(tmp_path: Path) -> None:
    index_of(picture_folder(tmp_path / "data", each=2), tmp_path / "index")
    blocklist = tmp_path / "blocklist"
    blocklist.write_text("key:red/0.jpg\n")
    with serving(OpenedIndex(tmp_path / "index")) as site:
        query = f"{site}/api/search?text=red"
        before = answer(query)[1]["results"]
        assert before[0]["key"].startswith("red/")
        removed = remove_rows(
            tmp_path / "index", read_blocklist(blocklist), dry_run=False, say=lambda line: None
        )
        assert removed.keys == ["red/0.jpg"]
        after = answer(query)[1]["results"]
        assert [of["key"] for of in after] == [
            of["key"] for of in before if of["key"] != "red/0.jpg"
        ]
        told = answer(f"{site}/api/index")[1]
        assert told["pictures"] == len(before) - 1
        for result in after:
            assert urllib.request.urlopen(site + result["thumbnail"], timeout=60).status == 200
        assert answer(f"{site}/thumbnails/red%2F0.jpg")[0] == 404
        (tmp_path / "index" / "index.json").unlink()
        status, told = answer(query)
        assert status == 503
        assert str(tmp_path) not in told["error"]


def test_pictures_that_wait_are_few_and_no_text_waits_for_them(
    index: OpenedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = threading.Event()

    class Slow(ColourModel):
        def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            begin.wait()
            return super().embed_images(images)

    picture = picture_bytes(drawn(COLOURS["red"], 5))
    statuses: list[int] = []
    monkeypatch.setattr("alignset.train.search.app.MOST_PICTURES", 3)
    with serving(index, model=Slow) as site:

        def upload() -> None:
            statuses.append(answer(f"{site}/api/pictures", data=picture, method="POST")[0])

        threads = [threading.Thread(target=upload) for _ in range(8)]
        for thread in threads:
            thread.start()
        while len(statuses) < 5:
            time.sleep(0.01)
        assert statuses == [503] * 5  # at once, while three wait
        begin.set()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200] * 3 + [503] * 5
        begin.clear()
        monkeypatch.setattr("alignset.train.search.app.PICTURE_S", 0.2)
        assert answer(f"{site}/api/pictures", data=picture, method="POST")[0] == 503
        begin.set()
        assert answer(f"{site}/api/search?text=red+and+blue")[0] == 200


def test_a_server_leaves_the_log_of_its_process_as_it_is(index: OpenedIndex) -> None:
    """absl's handler closes standard error, where a test has another in its place."""
    closed: list[str] = []
    handler = logging.Handler()
    handler.close = lambda: closed.append("by the server")  # type: ignore[method-assign]
    with serving(index):
        assert closed == []


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


KINDS = {
    **{"string": str, "integer": int, "number": int | float, "boolean": bool, "null": type(None)},
    **{"array": list, "object": dict},
}


def check_as_described(value: Any, schema: dict[str, Any]) -> None:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(isinstance(value, KINDS[kind]) for kind in kinds), (value, kinds)
    assert isinstance(value, bool) == ("boolean" in kinds)
    if isinstance(value, dict):
        assert value.keys() == schema["properties"].keys() == set(schema["required"])
        for name, of in value.items():
            check_as_described(of, schema["properties"][name])
    for of in value if isinstance(value, list) else ():
        check_as_described(of, schema["items"])


def test_answers_are_as_described(site: str) -> None:
    paths = answer(f"{site}/api/openapi.json")[1]["paths"]
    page = urllib.request.urlopen(f"{site}/api", timeout=60).read().decode()
    picture = {"data": picture_bytes(drawn(COLOURS["green"], 1)), "method": "POST"}
    for path, asked, options in (
        ("/api/index", "", {}),
        ("/api/search", "?text=red&limit=3", {}),
        ("/api/search", "?text=red&limit=100&offset=99", {}),
        ("/api/pictures", "", picture),
    ):
        (operation,) = paths[path].values()
        schemas = {
            int(status): of["content"]["application/json"]["schema"]
            for status, of in operation["responses"].items()
        }
        status, told = answer(f"{site}{path}{asked}", **options)
        assert status == 200
        check_as_described(told, schemas[200])
        assert all(f"<code>{name}</code>" in page for name in told)
    status, told = answer(f"{site}/api/search")
    assert status == 400
    check_as_described(told, schemas[400])
    assert "<code>results[].thumbnail</code></th><td>string</td><td>the path of" in page
    assert "<code>sample[].score</code></th><td>null</td>" in page
    assert "<code>415</code></th><td>it is no picture" in page


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
