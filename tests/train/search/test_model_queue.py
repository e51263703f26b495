"""The queue of a server's model: what waits, what is given up, and its end."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from alignset.train.errors import TrainingError
from alignset.train.search.model_queue import MOST_PICTURES, Busy, ModelQueue
from tests.support.closeness import close
from tests.support.colour_search import WIDTH, ColourModel

pytestmark = pytest.mark.numeric


def told(error: BaseException) -> None:
    raise AssertionError(error)


def test_a_queue_that_is_full_without_a_model_ends() -> None:
    reason = ValueError("no weights")
    failures: list[BaseException] = []
    begin = threading.Event()

    def load() -> ColourModel:
        begin.wait()
        raise reason

    model = ModelQueue(load, failures.append)

    async def fill() -> None:
        waiting = [asyncio.ensure_future(model.texts([f"text {n}"])) for n in range(256)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await model.texts(["one more"])
        for request in waiting:
            request.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(fill())
    begin.set()
    model.close()
    assert failures == [reason]


def test_texts_go_before_pictures_that_wait() -> None:
    begin = threading.Event()
    order: list[str] = []

    class Noted(ColourModel):
        def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
            order.append(f"{len(texts)} texts")
            return super().embed_texts(texts)

        def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            order.append(f"{len(images)} picture")
            return super().embed_images(images)

    def load() -> ColourModel:
        begin.wait()
        return Noted()

    model = ModelQueue(load, told)

    async def ask() -> None:
        picture = Image.new("RGB", (9, 9))
        waiting = [asyncio.ensure_future(model.image(picture)) for _ in range(MOST_PICTURES)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await model.image(picture)
        waiting[0].cancel()  # nobody waits for this one any more
        waiting += [asyncio.ensure_future(model.texts([f"text {n}"])) for n in range(40)]
        await asyncio.sleep(0.01)
        begin.set()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(ask())
    model.close()
    assert order == ["32 texts", "8 texts", *["1 picture"] * (MOST_PICTURES - 1)]


def test_a_request_that_was_given_up_leaves_the_others_their_answers() -> None:
    begin = threading.Event()
    colours = ColourModel()

    def load() -> ColourModel:
        begin.wait()
        return colours

    model = ModelQueue(load, told)

    async def ask() -> list[object]:
        waiting = [asyncio.ensure_future(model.texts([text])) for text in ("red", "red", "blue")]
        await asyncio.sleep(0.01)  # each has put its own
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        begin.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    given_up, red, blue = asyncio.run(ask())
    model.close()
    assert isinstance(given_up, asyncio.CancelledError)
    for row, text in ((red, "red"), (blue, "blue")):
        # Batches of other shapes round otherwise: products of 3 colours, and a length over WIDTH.
        assert close(row, colours.embed_texts([text]), terms=3 + WIDTH)


def test_a_model_that_diverged_says_so_and_answers_the_next() -> None:
    class Diverged(ColourModel):
        def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
            return super().embed_texts(texts) * (np.nan if "nan" in texts else 1)

    model = ModelQueue(Diverged, told)
    with pytest.raises(TrainingError, match="not finite"):
        asyncio.run(model.texts(["nan"]))
    assert asyncio.run(model.texts(["red"])).shape == (1, 32)
    model.close()
