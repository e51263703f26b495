"""The model of a server, in a thread of its own: texts that wait together are embedded together."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import compress
from typing import NamedTuple

import numpy as np
from PIL import Image

from train.errors import SettingsError, TrainingError
from train.model.embed import Embedder

_MOST_WAITING = 256  # requests
_AT_ONCE = 32  # texts: a batch of 32 takes 5 times as long as one
_REMEMBERED = 4096  # texts, 1.5 to 2.5 KB each
READY_S = 60.0  # how long a request waits for a model that is being read


class Busy(Exception):
    """More requests wait than are answered in time."""


class _Wanted(NamedTuple):
    text: str | None
    image: Image.Image | None
    answer: Future[np.ndarray]


class ModelQueue:
    """Embeds texts and pictures one batch after another, for any number of requests.

    The model is read in its thread too, so that the server answers before it is there.
    """

    def __init__(self, load: Callable[[], Embedder], failed: Callable[[BaseException], None]):
        """
        Args:
          failed: is told why there is no model, from the model's thread.
        """
        self._load, self._failed = load, failed
        self._waiting: queue.Queue[_Wanted | None] = queue.Queue(_MOST_WAITING)
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="model")
        self._thread.start()

    async def texts(self, texts: list[str]) -> np.ndarray:
        """float32[n, d], unit length. Raises Busy where too many wait."""
        return np.stack(await asyncio.gather(*(self._text(text) for text in texts)))

    async def image(self, image: Image.Image) -> np.ndarray:
        """float32[d], unit length. Raises Busy where too many wait."""
        return await self._put(None, image)

    async def _text(self, text: str) -> np.ndarray:
        with self._lock:
            if text in self._remembered:
                self._remembered.move_to_end(text)
                return self._remembered[text]
        return await self._put(text, None)

    async def _put(self, text: str | None, image: Image.Image | None) -> np.ndarray:
        answer: Future[np.ndarray] = Future()
        try:
            self._waiting.put_nowait(_Wanted(text, image, answer))
        except queue.Full as error:
            raise Busy from error
        limit_s = None if self.ready.is_set() else READY_S
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), limit_s)
        except TimeoutError as error:
            raise Busy from error

    def close(self) -> None:
        """Ends the thread, after what waits, or leaves it where that takes longer than 5 s."""
        with suppress(queue.Full):  # as it stays where no model came to answer
            self._waiting.put(None, timeout=5.0 if self._thread.is_alive() else 0.0)
        self._thread.join(timeout=5.0)

    def _work(self) -> None:
        try:
            model = self._load()
        except BaseException as error:
            self._failed(error)
            return
        self.ready.set()
        while True:
            batch = self._next_batch()
            texts = [wanted for wanted in batch if wanted is not None and wanted.text is not None]
            images = [wanted for wanted in batch if wanted is not None and wanted.image is not None]
            if texts:
                self._answer(texts, partial(self._embedded_texts, model, texts))
            for wanted in images:
                assert wanted.image is not None
                self._answer([wanted], partial(model.embed_images, [wanted.image]))
            if None in batch:
                return

    def _next_batch(self) -> list[_Wanted | None]:
        batch = [self._waiting.get()]
        while len(batch) < _AT_ONCE and batch[-1] is not None:
            try:
                batch.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return batch

    def _embedded_texts(self, model: Embedder, wanted: list[_Wanted]) -> np.ndarray:
        texts = [str(of.text) for of in wanted]
        unique = list(dict.fromkeys(texts))
        vectors = dict(zip(unique, model.embed_texts(unique), strict=True))
        with self._lock:
            self._remembered.update(vectors)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return np.stack([vectors[text] for text in texts])

    def _answer(self, wanted: list[_Wanted], embed: Callable[[], np.ndarray]) -> None:
        going = [of.answer.set_running_or_notify_cancel() for of in wanted]
        try:
            vectors = _checked(embed())
        except BaseException as error:
            for of in compress(wanted, going):
                of.answer.set_exception(error)
            return
        for of, vector in compress(zip(wanted, vectors, strict=True), going):
            of.answer.set_result(vector)


def _checked(vectors: np.ndarray) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise TrainingError("the model gives embeddings that are not finite: it diverged")
    return vectors


def why(error: BaseException) -> str:
    """In one line."""
    if isinstance(error, SettingsError | TrainingError):
        return str(error)
    return f"{type(error).__name__}: {error}"[:300].replace("\n", " ")
