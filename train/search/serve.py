"""`alignset search serve INDEX`: the page, and what its paths answer."""

import argparse
import asyncio
import functools
import ipaddress
import json
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from importlib import resources
from urllib.parse import quote

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from alignset.train.errors import SettingsError, TrainingError, counted
from alignset.train.model.embed import DualEmbedder
from alignset.train.search.commands import open_model
from alignset.train.search.decode_upload import RefusedPicture, decode_upload
from alignset.train.search.find_results import (
    MAX_RESULTS,
    Result,
    find_results,
    query_vector,
    sample_results,
)
from alignset.train.search.guard import Guard, HeadDeadline
from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.request_query import parse_query, picture_name

_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/search.js": ("search.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MAX_UPLOAD = 16 << 20  # bytes
MAX_UPLOADS, UPLOAD_S = 8, 30.0  # at once, others wait; and for the bytes of one to arrive
# Of a request's line and headers: 16 terms that are images take 30 KB.
_MAX_HEAD = 64 << 10
_SAMPLE = 24  # images that are shown before there is a query
_FEW_RESULTS = 100  # that are searched for at once: 1,000 take ten times as long


class SearchApp:
    """Answers from one index by one model.

    Args:
      root_path: the path below which a proxy has the page, such as /pics; empty for the root.

    Attributes:
      asgi: the application.
    """

    def __init__(self, index: OpenedIndex, model: DualEmbedder, root_path: str = ""):
        self._index, self._model = index, model
        self._reopening, self._embedding = threading.Lock(), threading.Lock()
        self._decoding = threading.Lock()
        # Each has a thread while it is decoded, and there are 40 for all requests.
        self._uploads = asyncio.Semaphore(MAX_UPLOADS)
        # Each page of results asks for the same texts.
        self._text_vector = functools.lru_cache(1024)(self._embed_text)
        routes: list[Route | Mount] = [
            *(Route(path, _page_file(*file)) for path, file in _PAGE.items()),
            Route("/api/index", self._describe),
            Route("/api/search", self._search),
            Route("/api/pictures", self._name_picture, methods=["POST"]),
            Route("/thumbnails/{key:path}", self._thumbnail),
        ]
        if root_path:  # a proxy may leave it in the path, or take it away
            routes = [Mount(root_path, routes=routes), *routes]
        for route in routes:  # a key may have a line break
            route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
        kinds = (SettingsError, RefusedPicture, TrainingError, ClientDisconnect, HTTPException)
        handlers = dict.fromkeys((*kinds, Exception), _error_response)
        self.asgi = Starlette(routes=routes, exception_handlers=handlers)

    def _live_index(self) -> OpenedIndex:
        """The index as it is now: `index` may have changed it, or a takedown its dataset.

        Raises:
          TrainingError: it is of another model now, is gone, or cannot be read.
        """
        with self._reopening:
            if self._index.has_changed():
                try:
                    index = OpenedIndex(self._index.folder)
                except SettingsError as error:
                    raise TrainingError(str(error)) from error
                if index.document.digest != self._index.document.digest:
                    raise TrainingError("the index is of another model now: start the server again")
                _print_notes(note for note in index.notes if note not in self._index.notes)
                self._index = index
            return self._index

    def _embed_text(self, text: str) -> np.ndarray:
        with self._embedding:
            vector: np.ndarray = self._model.embed_texts([text])[0]
        return vector

    def _describe(self, request: Request) -> Response:
        index = self._live_index()
        document = index.document
        return JSONResponse(
            {
                "pictures": index.pictures,
                "model": os.path.basename(document.model.rstrip("/")),
                "search": document.kind,
                "recall_at_10": document.recall,
                "sample": [_entry(of) | {"score": None} for of in sample_results(index, _SAMPLE)],
            }
        )

    def _search(self, request: Request) -> Response:
        start = time.perf_counter()
        index = self._live_index()
        digest, dimensions = index.document.digest, index.document.dimensions
        query, offset, limit = parse_query(request.query_params, digest, dimensions)
        least = min(offset + limit + 1, MAX_RESULTS)  # one more: whether there is another page
        vector = query_vector(
            query, index, lambda texts: np.stack([*map(self._text_vector, texts)])
        )
        count = _FEW_RESULTS if least <= _FEW_RESULTS else MAX_RESULTS
        results = find_results(vector, query, index, count)
        page = results[offset : offset + limit]
        end = offset + len(page)
        return JSONResponse(
            {
                "results": [_entry(result) for result in page],
                "next_offset": end if end < min(len(results), MAX_RESULTS) else None,
                "took_ms": round(1000 * (time.perf_counter() - start), 1),
            }
        )

    async def _name_picture(self, request: Request) -> Response:
        async with self._uploads:
            try:
                async with asyncio.timeout(UPLOAD_S):
                    data = await _body(request)
            except TimeoutError as error:
                raise _refusal(408, f"the image did not come within {UPLOAD_S:g} s") from error
            return await run_in_threadpool(self._name_of, data)

    def _name_of(self, data: bytes) -> Response:
        with self._decoding:
            image = decode_upload(data)
        with self._embedding:
            vector = self._model.embed_images([image])[0]
        return JSONResponse({"picture": picture_name(vector, self._live_index().document.digest)})

    def _thumbnail(self, request: Request) -> Response:
        index = self._live_index()
        row = index.row_of(request.path_params["key"])
        if row is None:
            raise HTTPException(404, "the index has no such image")
        # An hour, since an image may be taken out of its dataset.
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(index.thumbnail(row), media_type="image/webp", headers=headers)


async def _body(request: Request) -> bytes:
    """The image that a request sends."""
    data = bytearray()
    async for part in request.stream():
        data.extend(part)
        if len(data) > _MAX_UPLOAD:
            raise _refusal(413, f"the image has more than {_MAX_UPLOAD >> 20} MiB")
    if not data:
        raise SettingsError("the image is empty: send its file as the body")
    return bytes(data)


def _refusal(status: int, reason: str) -> HTTPException:
    # The rest of the body is not read, and so ends the connection.
    return HTTPException(status, reason, {"Connection": "close"})


def _entry(result: Result) -> Result:
    return result | {"thumbnail": f"thumbnails/{quote(result['key'], safe='')}"}


def _page_file(name: str, kind: str) -> Callable[[Request], Response]:
    """A file of the page, read now, so that no path of a request is ever opened."""
    data = resources.files("alignset.train.search").joinpath("page", name).read_bytes()
    return lambda request: Response(data, media_type=kind)


def _error_response(request: Request, error: Exception) -> Response:
    headers: dict[str, str] = {}
    match error:
        case HTTPException():
            status, reason, headers = error.status_code, error.detail, dict(error.headers or {})
        case SettingsError():
            status, reason = 400, str(error)
        case RefusedPicture():
            status, reason = 415, str(error)
        case ClientDisconnect():
            status, reason = 400, "the image was cut off"
        case TrainingError():
            logging.getLogger(__name__).error("%s", error)
            status, reason = 503, "the index is being changed, or is damaged: try again"
        case _:
            logging.getLogger(__name__).error("%s", json.dumps(request.url.path), exc_info=error)
            status, reason = 500, "the server failed; its log says how"
    return JSONResponse({"error": reason}, status, headers)


class Server:
    """A server of one index, which listens from the start and answers when `run` is called.

    Attributes:
      url: of the page.
    """

    def __init__(
        self,
        index: OpenedIndex,
        model: DualEmbedder,
        address: tuple[str, int],
        root_path: str = "",
    ):
        """Raises SettingsError where nothing can listen at the address."""
        host, port = address
        url_host = f"[{host}]" if ":" in host else host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server(address, family=family)
        except OSError as error:
            raise SettingsError(
                f"nothing can listen at {host}:{port} ({error.strerror}): choose another --port, "
                "or 0 for a free one"
            ) from error
        names = _LOCAL_NAMES | {url_host.lower()} if is_loopback(host) else None
        self._server = uvicorn.Server(
            uvicorn.Config(
                Guard(SearchApp(index, model, root_path).asgi, names),
                http=HeadDeadline,
                # Its own closes all handlers of the process, and some close what they write to.
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                proxy_headers=False,
                timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=_MAX_HEAD,
            )
        )
        self.url = f"http://{url_host}:{self._socket.getsockname()[1]}{root_path}/"

    def run(self) -> None:
        """Until a signal or `stop` ends it."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        self._server.should_exit = True


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(note, file=sys.stderr, flush=True)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run_serve(flags: argparse.Namespace) -> int:
    """Serves until a signal comes."""
    if not 0 <= flags.port < 1 << 16:
        raise SettingsError(f"port must be from 0 to 65535; got {flags.port}")
    root_path = flags.root_path.rstrip("/")
    if not re.fullmatch(r"(/[\w.~-]+)*", root_path, re.ASCII):
        raise SettingsError(f"root_path must be a path such as /pics; got {flags.root_path!r}")
    index = OpenedIndex(flags.index)
    _print_notes(index.notes)
    model = open_model(flags.model, index)
    server = Server(index, model, (flags.host, flags.port), root_path)
    print(f"{counted(index.pictures, 'image')} at {server.url}", flush=True)
    if not is_loopback(flags.host):
        print(
            "everybody who reaches this address may search: put a proxy before it (docs/search.md)",
            file=sys.stderr,
        )
    server.run()
    return 0
