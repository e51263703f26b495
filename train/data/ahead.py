"""Work done in a thread before it is asked for."""

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")
_PATIENCE_S = 5  # of whoever closes it, while a slow store keeps the thread


def ahead(items: Generator[T, None, None], count: int) -> Iterator[T]:
    """The same items, up to `count` of them made in a thread meanwhile; an error in its place.

    Closing it ends the thread, which closes `items`.
    """
    made: queue.SimpleQueue = queue.SimpleQueue()
    room, stopped = threading.Semaphore(count), threading.Event()

    def make() -> None:
        try:
            with closing(items):
                for item in items:
                    made.put((item, None))
                    room.acquire()
                    if stopped.is_set():
                        return
            made.put((None, StopIteration()))
        except BaseException as error:  # whatever it is, it belongs to whoever asks
            made.put((None, error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()
        thread.join(_PATIENCE_S)
