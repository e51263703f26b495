"""The page's server: what each of its paths answers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any
from urllib.parse import quote

import faiss
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.api_page import api_page, openapi_document
from alignset.train.search.decode_pool import MAX_BYTES, DecodePool, RefusedPicture
from alignset.train.search.find_results import (
    MOST_RESULTS,
    Result,
    find_results,
    query_vector,
    sample_of,
)
from alignset.train.search.model_queue import MOST_PICTURES, Busy, ModelQueue
from alignset.train.search.opened_index import OpenedIndex, changed
from alignset.train.search.request_query import Asked, identity, parse_query, picture_name
from alignset.train.search.terminal import fields_of

_STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/search.js": ("search.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_REMEMBERED = 256  # queries; of captions of 100 letters up to 1 MB each, at 1,000 results
_NO_TEXTS = np.empty((0, 0), np.float32)
_UPLOAD_S = 30.0  # for the bytes of an upload to arrive
PICTURE_S = 20.0  # for it to be decoded and embedded, with what is before it
MOST_HELD = 1 << 29  # bytes of uploads at once, which 512 connections could send 16 times
_SAMPLE = 24  # pictures that are shown before there is a query
# Results that are looked for at once: 50 are the first two pages and whether there is a third, of
# one search for 100 rows. For 200 there is another one, which takes twice as long.
_COUNTS = (50, 200, MOST_RESULTS)
Answer = Callable[[Request], Awaitable[Response]]


class SearchApp:
    """Answers from one index by one model.

    Attributes:
      asgi: the application, without limits of rate.
    """

    def __init__(self, index: OpenedIndex, model: ModelQueue, pool: DecodePool):
        self.model, self.pool = model, pool
        self._index, self._reopening = index, asyncio.Lock()
        self._results: OrderedDict[object, tuple[int, list[Result]]] = OrderedDict()
        self._lock = threading.Lock()
        self._held = self._pictures = 0  # bytes of uploads; pictures that are looked at
        self._sample = sample_of(index, _SAMPLE)
        _map(index)
        # faiss would use all cores for one query, and queries that come together would wait.
        self._threads = ThreadPoolExecutor(
            os.cpu_count() or 1, "search", initializer=lambda: faiss.omp_set_num_threads(1)
        )
        routes = [
            *(Route(path, _static(*file)) for path, file in _STATIC.items()),
            Route("/api", _fixed(HTMLResponse, api_page())),
            Route("/api/openapi.json", _fixed(JSONResponse, openapi_document())),
            Route("/api/index", self._told(self._describe)),
            Route("/api/search", self._told(self._search)),
            Route("/api/pictures", self._told(self._picture), methods=["POST"]),
            Route("/thumbnails/{key:path}", self._told(self._thumbnail)),
        ]
        self.asgi = Starlette(
            routes=routes,
            exception_handlers={HTTPException: _http_error, Exception: _unexpected},
        )

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.pool.close()
        self.model.close()

    async def _opened(self) -> OpenedIndex:
        """The index as it is now: `remove` and `index` may have changed it.

        Raises:
          TrainingError: it is of another model now, is gone, or cannot be read.
        """
        if changed(self._index):
            async with self._reopening:
                if changed(self._index):
                    await asyncio.get_running_loop().run_in_executor(self._threads, self._reopen)
        return self._index

    def _reopen(self) -> None:
        try:
            index = OpenedIndex(self._index.folder)
        except SettingsError as error:
            raise TrainingError(str(error)) from error
        if index.document.digest != self._index.document.digest:
            raise TrainingError("the index is of another model now: start the server again")
        sample = sample_of(index, _SAMPLE)
        _map(index)
        with self._lock:
            self._index, self._sample = index, sample
            self._results.clear()

    async def _describe(self, request: Request) -> Response:
        index = await self._opened()
        document = index.document
        return JSONResponse(
            {
                "pictures": index.pictures,
                "model": os.path.basename(document.model.rstrip("/")),
                "search": document.kind,
                "recall_at_10": document.recall,
                "ready": self.model.ready.is_set(),
                "sample": [_shown(result) | {"score": None} for result in self._sample],
            }
        )

    async def _search(self, request: Request) -> Response:
        index = await self._opened()
        document = index.document
        asked = parse_query(request.query_params, document.digest, document.dimensions)
        start = time.perf_counter()
        results = await self._results_of(asked, index)
        shown = results[asked.offset : asked.offset + asked.limit]
        end = asked.offset + len(shown)
        more = end < len(results) and end < MOST_RESULTS
        return JSONResponse(
            {
                "results": [_shown(result) for result in shown],
                "next_offset": end if more else None,
                "took_ms": round(1000 * (time.perf_counter() - start), 1),
            }
        )

    async def _results_of(self, asked: Asked, index: OpenedIndex) -> list[Result]:
        """All results as far as one more than the asked ones, where there are so many."""
        name, needed = (index.mark, identity(asked.query)), asked.offset + asked.limit + 1
        with self._lock:
            count, results = self._results.get(name, (0, []))
        if count >= min(needed, MOST_RESULTS):
            return results
        texts = [term for term in asked.query.terms if term.kind == "text"]
        vectors = await self.model.texts([term.value for term in texts]) if texts else _NO_TEXTS
        count = next(count for count in _COUNTS if count >= min(needed, MOST_RESULTS))

        def search() -> list[Result]:
            vector = query_vector(asked.query, index, lambda _: vectors)
            return find_results(vector, asked.query, index, count)

        results = await asyncio.get_running_loop().run_in_executor(self._threads, search)
        with self._lock:
            self._results[name] = (count, results)
            while len(self._results) > _REMEMBERED:
                self._results.popitem(last=False)
        return results

    async def _picture(self, request: Request) -> Response:
        if int(request.headers.get("content-length") or 0) > MAX_BYTES:
            raise _TooLarge
        index = await self._opened()
        try:
            vector = await self._uploaded(request)
        except TimeoutError:
            return _error(408, f"the picture did not come within {_UPLOAD_S:.0f} s", close=True)
        return JSONResponse({"picture": picture_name(vector, index.document.digest)})

    async def _uploaded(self, request: Request) -> np.ndarray:
        """float32[d] of the picture. Raises TimeoutError, or what `_told` tells of."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(_UPLOAD_S):
                async for part in request.stream():
                    size += len(part)
                    self._held += len(part)
                    if size > MAX_BYTES:
                        raise _TooLarge
                    if self._held > MOST_HELD:
                        raise _TooMany
                    parts.append(part)
            if not size:
                raise SettingsError("the picture is empty: send its file as the body")
            return await self._vector_of(b"".join(parts))
        finally:
            self._held -= size

    async def _vector_of(self, data: bytes) -> np.ndarray:
        """Raises Busy where too many pictures wait, or this one has waited for too long."""
        if self._pictures >= MOST_PICTURES:
            raise Busy
        self._pictures += 1
        try:
            async with asyncio.timeout(PICTURE_S):
                return await self.model.image(await self.pool.decode(data))
        except TimeoutError as error:
            raise Busy from error
        finally:
            self._pictures -= 1

    async def _thumbnail(self, request: Request) -> Response:
        index = await self._opened()
        row = index.row_of(request.path_params["key"])
        if row is None:
            return _error(404, "the index has no such picture")
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._threads, index.thumbnail, row)
        # An hour, since a picture may be taken out of the index.
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(data, media_type="image/webp", headers=headers)

    def _told(self, answer: Answer) -> Answer:
        """An answer whose refusals are told as JSON."""

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except SettingsError as error:
                return _error(400, str(error))
            except RefusedPicture as error:
                return _error(415, str(error))
            except _TooLarge:
                return _error(413, f"the picture has more than {MAX_BYTES >> 20} MiB", close=True)
            except _TooMany:
                why = "too many pictures come at once: try again"
                return _error(503, why, close=True, retry_s=2)
            except Busy:
                return _error(503, "the model is busy: try again", retry_s=2)
            except TrainingError as error:
                logging.getLogger(__name__).error("%s", error)
                why = "the index is being changed, or is damaged: try again"
                return _error(503, why, retry_s=2)
            except ClientDisconnect:
                return _error(400, "the picture was cut off", close=True)

        return answered


def _map(index: OpenedIndex) -> None:
    threading.Thread(target=index.vectors.map_all, daemon=True, name="map").start()


class _TooLarge(Exception):
    """An upload has more than MAX_BYTES."""


class _TooMany(Exception):
    """All uploads have more than MOST_HELD."""


def _shown(result: Result) -> dict[str, object]:
    key = result.key
    name = key if key.isascii() and key.isalnum() else quote(key, safe="")
    return {**fields_of(result), "thumbnail": f"/thumbnails/{name}"}


def _static(name: str, kind: str) -> Answer:
    """A file of the page, read now, so that no path of a request is ever opened."""
    data = resources.files("alignset.train.search").joinpath("page", name).read_bytes()
    return _fixed(lambda content: Response(content, media_type=kind), data)


def _fixed(make: Callable[[Any], Response], content: Any) -> Answer:
    async def answer(request: Request) -> Response:
        return make(content)

    return answer


def _error(status: int, why: str, *, close: bool = False, retry_s: int = 0) -> Response:
    headers = {"Connection": "close"} if close else {}
    if retry_s:
        headers["Retry-After"] = str(retry_s)
    return JSONResponse({"error": why}, status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    logging.getLogger(__name__).error("%s", json.dumps(request.url.path), exc_info=error)
    return _error(500, "the server failed; its log says how")
