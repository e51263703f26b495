"""The model of a server, in a thread of its own: texts that wait together are embedded together."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.model.embedder import Embedder

_MOST_TEXTS = 256  # that wait
MOST_PICTURES = 16  # that wait
_AT_ONCE = 32  # texts: a batch of 32 takes 5 times as long as one
_REMEMBERED = 4096  # texts, 1.5 to 2.5 KB each
READY_S = 60.0  # how long a request waits for a model that is being read
ANSWER_S = 30.0  # and for one that is there


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
        self._texts: deque[_Wanted] = deque()
        self._images: deque[_Wanted] = deque()
        self._closed = False
        self._changed = threading.Condition()  # of all of these, and of what is remembered
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="model")
        self._thread.start()

    async def texts(self, texts: list[str]) -> np.ndarray:
        """float32[n, d], unit length. Raises Busy where too many wait."""
        return np.stack(await asyncio.gather(*(self._text(text) for text in texts)))

    async def image(self, image: Image.Image) -> np.ndarray:
        """float32[d], unit length. Raises Busy where too many wait."""
        return await self._put(self._images, MOST_PICTURES, None, image)

    async def _text(self, text: str) -> np.ndarray:
        with self._changed:
            if text in self._remembered:
                self._remembered.move_to_end(text)
                return self._remembered[text]
        return await self._put(self._texts, _MOST_TEXTS, text, None)

    async def _put(
        self, queue: deque[_Wanted], most: int, text: str | None, image: Image.Image | None
    ) -> np.ndarray:
        answer: Future[np.ndarray] = Future()
        with self._changed:
            if len(queue) >= most:
                raise Busy
            queue.append(_Wanted(text, image, answer))
            self._changed.notify()
        limit_s = ANSWER_S if self.ready.is_set() else READY_S
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), limit_s)
        except TimeoutError as error:
            raise Busy from error

    def close(self) -> None:
        """Ends the thread, after what waits, or leaves it where that takes longer than 5 s."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=5.0)

    def _work(self) -> None:
        try:
            model = self._load()
        except BaseException as error:
            self._failed(error)
            return
        self.ready.set()
        while batch := self._next_batch():
            texts = [wanted for wanted in batch if wanted.text is not None]
            if texts:
                self._answer(texts, partial(self._embedded_texts, model))
            for wanted in batch:
                if wanted.image is not None:
                    self._answer([wanted], partial(_embedded_image, model))

    def _next_batch(self) -> list[_Wanted]:
        """Texts that wait, and one picture, which takes longer than all of them: nobody's text
        waits for many pictures. Empty where there is no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._texts or self._images or self._closed)
            batch = [self._texts.popleft() for _ in range(min(_AT_ONCE, len(self._texts)))]
            if self._images:
                batch.append(self._images.popleft())
        return batch

    def _embedded_texts(self, model: Embedder, wanted: list[_Wanted]) -> np.ndarray:
        texts = [str(of.text) for of in wanted]
        unique = list(dict.fromkeys(texts))
        vectors = dict(zip(unique, model.embed_texts(unique), strict=True))
        with self._changed:
            self._remembered.update(vectors)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return np.stack([vectors[text] for text in texts])

    def _answer(self, wanted: list[_Wanted], embed: Callable[[list[_Wanted]], np.ndarray]) -> None:
        """What nobody waits for any more is not embedded."""
        wanted = [of for of in wanted if of.answer.set_running_or_notify_cancel()]
        if not wanted:
            return
        try:
            vectors = _checked(embed(wanted))
        except BaseException as error:
            for of in wanted:
                of.answer.set_exception(error)
            return
        for of, vector in zip(wanted, vectors, strict=True):
            of.answer.set_result(vector)


def _embedded_image(model: Embedder, wanted: list[_Wanted]) -> np.ndarray:
    return model.embed_images([of.image for of in wanted if of.image is not None])


def _checked(vectors: np.ndarray) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise TrainingError("the model gives embeddings that are not finite: it diverged")
    return vectors


def why(error: BaseException) -> str:
    """In one line."""
    if isinstance(error, SettingsError | TrainingError):
        return str(error)
    return f"{type(error).__name__}: {error}"[:300].replace("\n", " ")
