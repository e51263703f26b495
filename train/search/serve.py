"""`alignset search serve INDEX`: the page, and what its paths answer."""

import argparse
import asyncio
import functools
import hashlib
import ipaddress
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Collection
from importlib import resources
from urllib.parse import quote

import h11
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from alignset.train.data.images import RefusedPicture, decode_upload
from alignset.train.errors import SettingsError, TrainingError, counted
from alignset.train.model.embed import DualEmbedder
from alignset.train.search.index_files import say
from alignset.train.search.query import (
    MAX_RESULTS,
    OpenedIndex,
    Result,
    SearchQuery,
    find_results,
    make_terms,
    open_model,
    query_vector,
    sample_results,
)

HEAD_S = 10.0  # for the line and headers of a request to arrive
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
KINDS = ("text", "key", "picture")
# The numbers of a query: default, least and most.
_NUMBERS = {
    **dict.fromkeys(("min_side", "max_side"), ("0", 0, (1 << 31) - 1)),
    "offset": ("0", 0, MAX_RESULTS),
    "limit": ("24", 1, 100),
}
_PARAMETERS = {*KINDS, *(f"{kind}_weight" for kind in KINDS), "host", "caption", "fold", *_NUMBERS}
_PAGE = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "search.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MAX_UPLOAD = 16 << 20  # bytes
MAX_UPLOADS, UPLOAD_S = 8, 30.0  # at once, others wait; and for the bytes of one to arrive
_UPLOADS_KEPT = 1000  # vectors of uploaded images, the latest; 2.5 MB
_MAX_HEAD = 64 << 10  # bytes of a request's line and headers: four long texts take 36 KB
_SAMPLE = 24  # images that are shown before there is a query
_FEW_RESULTS = 100  # that are searched for at once: 1,000 take ten times as long


class Guard:
    """Refuses requests for another host's name: by a name that leads to 127.0.0.1, any web page
    could read what is served here.

    Args:
      names: to which the server answers; None: all.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None):
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app, headers = self._app, Headers(scope=scope)
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if scope["type"] == "http" and self._names is not None and name not in self._names:
            reason = "this server is for its own machine: ask for http://127.0.0.1"
            app = JSONResponse({"error": reason}, 421)
        elif "content-length" in headers and "transfer-encoding" in headers:
            # A proxy before this server may take the other one for the body's end.
            reason = "a request has a Content-Length or a Transfer-Encoding, and not both"
            app = JSONResponse({"error": reason}, 400, {"Connection": "close"})
        await app(scope, receive, send)


class HeadDeadline(H11Protocol):
    """HTTP/1.1 with a deadline for a request's head. uvicorn has one between requests alone, and
    holds a connection whose head never ends."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_S, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:  # the head is there
            self._end_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        super().connection_lost(exc)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def parse_query(parameters: QueryParams, uploads: Collection[str]) -> tuple[SearchQuery, int, int]:
    """The query of a URL, its offset and its limit.

    Args:
      uploads: names of uploaded images.

    Raises:
      SettingsError: a parameter is none, or has a value that it cannot have.
    """
    if unknown := sorted(parameters.keys() - _PARAMETERS):
        raise SettingsError(f"there is no parameter {unknown[0][:50]!r}; see docs/search.md")
    terms: list[tuple[str, str, float]] = []
    for kind in KINDS:
        values, weights = parameters.getlist(kind), parameters.getlist(f"{kind}_weight")
        try:
            pairs = [*zip(values, map(float, weights or ["1"] * len(values)), strict=True)]
        except ValueError:
            text = f"pass a {kind}_weight for each {kind}, or none; each is a number"
            raise SettingsError(text) from None
        for value, weight in pairs:
            if kind == "picture" and value not in uploads:
                raise SettingsError("the server no longer has this image: pass it again")
            terms.append((kind, value, weight))
    numbers = {}
    for name, (default, least, most) in _NUMBERS.items():
        text = parameters.get(name, "").strip() or default
        if not re.fullmatch("[0-9]{1,11}", text) or not least <= int(text) <= most:
            raise SettingsError(f"{name} must be a whole number from {least} to {most}")
        numbers[name] = int(text)
    fold = parameters.get("fold", "true")
    if fold not in ("true", "false"):
        raise SettingsError(f"fold must be true or false; got {fold[:20]!r}")
    host, caption = (parameters.get(name, "").strip() for name in ("host", "caption"))
    sides = numbers["min_side"], numbers["max_side"]
    query = SearchQuery(make_terms(terms), host, caption, *sides, fold=fold == "true")
    return query, numbers["offset"], numbers["limit"]


class Server:
    """A server of one index by one model, which listens from the start and answers when `run` is
    called.

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
        """Opens a server.

        Args:
          root_path: the path below which a proxy has the page, such as /pics; empty for the root.

        Raises:
          SettingsError: nothing can listen at the address.
        """
        self._index, self._model = index, model
        self._reopening, self._embedding = threading.Lock(), threading.Lock()
        self._decoding = threading.Lock()
        self._vectors: dict[str, np.ndarray] = {}  # of uploaded images, by a hash of their bytes
        # Each has a thread while it is decoded, and there are 40 for all requests.
        self._uploads = asyncio.Semaphore(MAX_UPLOADS)
        # Each page of results asks for the same texts.
        self._text_vector = functools.lru_cache(1024)(self._embed_text)
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
        self._server = uvicorn.Server(
            uvicorn.Config(
                Guard(
                    self._app(root_path),
                    _LOCAL_NAMES | {url_host.lower()} if is_loopback(host) else None,
                ),
                http=HeadDeadline,
                headers=[*HEADERS.items()],
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

    def _app(self, root_path: str) -> Starlette:
        routes: list[Route | Mount] = [
            Route("/api/index", self._describe),
            Route("/api/search", self._search),
            Route("/api/pictures", self._name_picture, methods=["POST"]),
            Route("/thumbnails/{key:path}", self._thumbnail),
        ]
        folder = resources.files("alignset.train.search").joinpath("page")
        for name, kind in _PAGE.items():
            # Read now, so that no path of a request is ever opened.
            file = Response(folder.joinpath(name).read_bytes(), media_type=kind)
            path = "/" if name == "index.html" else f"/{name}"
            routes.append(Route(path, lambda request, file=file: file))
        if root_path:  # a proxy may leave it in the path, or take it away
            routes = [Mount(root_path, routes=routes), *routes]
        for route in routes:  # a key may have a line break
            route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
        handlers = dict.fromkeys((*_ERRORS, HTTPException), _error_response)
        return Starlette(routes=routes, exception_handlers=handlers)

    def _live_index(self) -> OpenedIndex:
        """The index as it is now: `index` may have made it anew, or a takedown changed its dataset.

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
                for note in index.notes:
                    if note not in self._index.notes:
                        say(note)
                self._index = index
            return self._index

    def _embed_text(self, text: str) -> np.ndarray:
        with self._embedding:
            vector: np.ndarray = self._model.embed_texts([text])[0]
        return vector

    def _describe(self, request: Request) -> Response:
        index = self._live_index()
        answer = {
            "pictures": index.pictures,
            "model": os.path.basename(index.document.model.rstrip("/")),
            "search": index.document.kind,
            "recall_at_10": index.document.recall,
            "sample": [_entry(row) | {"score": None} for row in sample_results(index, _SAMPLE)],
        }
        return JSONResponse(answer)

    def _search(self, request: Request) -> Response:
        start = time.perf_counter()
        index = self._live_index()
        uploads = self._vectors
        query, offset, limit = parse_query(request.query_params, uploads)
        vector = query_vector(
            query, index, lambda texts: np.stack([*map(self._text_vector, texts)]), uploads
        )
        # One more than are shown: whether there is another page.
        few = offset + limit < _FEW_RESULTS
        results = find_results(vector, query, index, _FEW_RESULTS if few else MAX_RESULTS)
        page = results[offset : offset + limit]
        end = offset + len(page)
        answer = {
            "results": [_entry(result) for result in page],
            "next_offset": end if end < len(results) else None,
            "took_ms": round(1000 * (time.perf_counter() - start), 1),
        }
        return JSONResponse(answer)

    async def _name_picture(self, request: Request) -> Response:
        """Answers with the name of an uploaded image, and keeps its vector alone."""
        close = {"Connection": "close"}  # the rest of the body is not read
        data = bytearray()
        async with self._uploads:
            try:
                async with asyncio.timeout(UPLOAD_S):
                    async for part in request.stream():
                        data.extend(part)
                        if len(data) > _MAX_UPLOAD:
                            text = f"the image has more than {_MAX_UPLOAD >> 20} MiB"
                            raise HTTPException(413, text, close)
            except TimeoutError as error:
                text = f"the image did not come within {UPLOAD_S:g} s"
                raise HTTPException(408, text, close) from error
            if not data:
                raise SettingsError("the image is empty: send its file as the body")
            name = hashlib.sha256(data).hexdigest()[:32]
            await run_in_threadpool(self._keep_vector, name, bytes(data))
        return JSONResponse({"picture": name})

    def _keep_vector(self, name: str, data: bytes) -> None:
        with self._decoding:
            if name in self._vectors:
                return
            image = decode_upload(data)
            with self._embedding:
                vector = self._model.embed_images([image])[0]
            latest = [*self._vectors.items()][1 - _UPLOADS_KEPT :]
            self._vectors = dict([*latest, (name, vector)])

    def _thumbnail(self, request: Request) -> Response:
        index = self._live_index()
        row = index.row_of(request.path_params["key"])
        if row is None:
            raise HTTPException(404, "the index has no such image")
        # An hour, since an image may be taken out of its dataset.
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(index.thumbnail(row), media_type="image/webp", headers=headers)


def _entry(result: Result) -> Result:
    return result | {"thumbnail": f"thumbnails/{quote(result['key'], safe='')}"}


# The status and the reason of an error: its own where there is none here.
_ERRORS: dict[type[Exception], tuple[int, str]] = {
    SettingsError: (400, ""),
    RefusedPicture: (415, ""),
    ClientDisconnect: (400, "the image was cut off"),
    TrainingError: (503, "the index is being changed, or is damaged: try again"),
    Exception: (500, "the server failed; its log says how"),
}


def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    status, reason = next(_ERRORS[kind] for kind in type(error).__mro__ if kind in _ERRORS)
    if status >= 500:
        path, trace = json.dumps(request.url.path), error if status == 500 else None
        logging.getLogger(__name__).error("%s: %s", path, error, exc_info=trace)
    return JSONResponse({"error": reason or str(error)}, status)


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
    model = open_model(flags.model, index)
    server = Server(index, model, (flags.host, flags.port), root_path)
    print(f"{counted(index.pictures, 'image')} at {server.url}", flush=True)
    if not is_loopback(flags.host):
        say("everybody who reaches this address may search: put a proxy before it (docs/search.md)")
    server.run()
    return 0
