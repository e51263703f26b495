"""Work done in a thread before it is asked for."""

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_PATIENCE_S = 5  # of whoever closes it, while a slow store keeps the thread


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


def ahead(
    items: Generator[T, None, None], count: int, prepare: Callable[[T], R]
) -> Generator[R, None, None]:
    """Results of `prepare` for each item, up to `count` of them made in a thread meanwhile; an
    error in its place.

    Closing it ends the thread, which closes `items`.
    """
    made: queue.SimpleQueue[R | _End] = queue.SimpleQueue()
    room, stopped = threading.Semaphore(count), threading.Event()

    def make() -> None:
        try:
            with closing(items):
                for item in items:
                    made.put(prepare(item))
                    room.acquire()
                    if stopped.is_set():
                        return
            made.put(_End())
        except BaseException as error:  # whatever it is, it belongs to whoever asks
            made.put(_End(error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = made.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()
        thread.join(_PATIENCE_S)
