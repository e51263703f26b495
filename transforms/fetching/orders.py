"""One caller's URLs and their results: two threads meet here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import length_hint
from queue import Empty, SimpleQueue
from threading import Event
from types import MappingProxyType
from typing import NamedTuple

from alignset.transforms.storage.shared_paths import check_command
from alignset.transforms.workers.threads import check_stopped

# Results that a caller has not looked at. With so many, and the more the smaller they are, the
# caller is what all wait for.
_LEAST_UNSEEN, _MOST_UNSEEN, _UNSEEN_BYTES = 256, 4_096, 1 << 26
_LOOK_S = 0.5  # between two looks whether the caller is to stop


class ImageResponse(NamedTuple):
    """Origin of an image, from its response's header.

    Fields:
      url: that gave it, after redirects. came_at: seconds since 1970, by this machine's clock.
      content_type, etag, last_modified: as the header has them.
    """

    url: str
    status: int
    came_at: float
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """Outcome of one URL.

    Attributes:
      index: which of the given URLs.
      body: decoded bytes of a 200 answer; None where it failed, or is known.
      detail: one of FETCH_DETAILS, or of OPT_OUTS where the image is not wanted to be used; None
        where it worked, or is known; beside a body, why that must not be decoded.
      blocklist: the blocklist that a redirect's target is on, which was not followed.
      opted_out: the opt-outs, where these are only reported.
      headers: what its responses stated, as `record_response` has it; None where nobody knows.
      answer: of the host that gave the image; None where it was stored.
      file_of: where a file of a host forbids it, the URL of that file.
    """

    index: int
    body: bytes | None
    detail: str | None
    blocklist: str | None = None
    opted_out: tuple[str, ...] = ()
    headers: str | None = field(default="", compare=False)
    answer: ImageResponse | None = field(default=None, compare=False)  # it has a clock
    file_of: str | None = field(default=None, compare=False)

    @property
    def is_known(self) -> bool:
        """Whether the caller knows the image, so that it was not requested."""
        return self.body is None and self.detail is None and self.blocklist is None


# Images that the caller knows, by the numbers of their URLs: the URL that brought each, after
# redirects; None where none did.
KnownUrls = Mapping[int, str | None]
# By the numbers of URLs: what pages and, of known images, responses stated, as a ledger records it.
Records = Mapping[int, str]


class HostAnswer(NamedTuple):
    """The answer to a request of a file in which a host states opt-outs.

    Fields:
      kind: the name of the file. url: of the first request.
      status: of the last response; None where none came.
      detail: why it has no body, one of FETCH_DETAILS.
      read_at: seconds since 1970, by this machine's clock.
      packed: its body, or the first READ_BYTES of it, by zlib.
    """

    kind: str
    url: str
    status: int | None
    detail: str | None
    read_at: float
    packed: bytes | None


# Which blocklist a URL is on, or None.
FindListed = Callable[[str], str | None]


# Called with the origin of an image and an answer by which it is judged.
NoteAnswer = Callable[[str, HostAnswer], None]


def listed_nowhere(url: str) -> None:
    """The blocklist where none was passed."""


def unnoted(origin: str, answer: HostAnswer) -> None:
    """Notes nothing."""


class Order:
    """The URLs of one caller on their way.

    The fetcher's thread takes URLs and gives results, the caller's thread sees them: each counts on
    its own side, so no lock is needed.

    Args:
      urls: taken on the fetcher's thread, so they must come at once.
      limit_s: seconds after which the rest fails as "deadline".
      nearly_taken: set when only few URLs are left to be taken.
      find_listed: asked of the URLs that are redirected to; on the fetcher's thread.
      known: images that are not asked for; their hosts' opt-outs are.
      note_answer: called on the fetcher's thread.
      records: which name licence files.
      by_head: whether images are asked for by HEAD, and a host that cannot be asked fails known
        images too.
    """

    def __init__(
        self,
        urls: Iterable[str],
        limit_s: float,
        nearly_taken: Event | None = None,
        find_listed: FindListed = listed_nowhere,
        known: KnownUrls | None = None,
        note_answer: NoteAnswer = unnoted,
        records: Records = MappingProxyType({}),
        *,
        by_head: bool = False,
    ) -> None:
        self.find_listed, self.known, self.note_answer = find_listed, known or {}, note_answer
        self.records, self.by_head = records, by_head
        self._urls = iter(urls)
        self._limit_s, self.nearly_taken = limit_s, nearly_taken or Event()
        self.due = math.inf
        self.next_index = 0
        self.under_way = 0
        self.is_exhausted = self.over = False
        self.error: BaseException | None = None
        self._pending: list[Fetched] = []
        self._results: SimpleQueue[list[Fetched] | None] = SimpleQueue()
        self._given_count = self._given_bytes = 0  # by the fetcher
        self._seen_count = self._seen_bytes = 0  # by the caller

    def begin(self) -> None:
        self.due = time.monotonic() + self._limit_s

    @property
    def unseen(self) -> int:
        """Results that the caller has not looked at."""
        return self._given_count - self._seen_count

    @property
    def unseen_bytes(self) -> int:
        return self._given_bytes - self._seen_bytes

    @property
    def is_behind(self) -> bool:
        """Whether the caller is to be waited for."""
        enough = _LEAST_UNSEEN if self.unseen_bytes >= _UNSEEN_BYTES else _MOST_UNSEEN
        return self.unseen >= enough

    @property
    def remaining_urls(self) -> int:
        """How many URLs are still to be taken, as far as that is known."""
        return 0 if self.is_exhausted else length_hint(self._urls, 1)

    def take(self) -> tuple[int, str] | None:
        """The next URL with its number; None after the last, or after what the URLs raised."""
        try:
            url = next(self._urls, None)
        except BaseException as error:  # the caller's own: raised again where it looks
            self.error, url = error, None
        if url is None:
            self.is_exhausted = True
            return None
        self.next_index += 1
        return self.next_index - 1, url

    def give(self, result: Fetched) -> None:
        """A result, which the caller sees after `hand_over`."""
        self._pending.append(result)
        self._given_count += 1
        self._given_bytes += len(result.body or b"")

    def hand_over(self) -> None:
        if self._pending:
            self._results.put(self._pending)
            self._pending = []

    def end(self, error: BaseException | None = None) -> None:
        """There will be no more results."""
        self.hand_over()
        self.over, self.error = True, self.error or error
        self.nearly_taken.set()
        self._results.put(None)

    def results(self) -> Iterator[Fetched]:
        """Results for the caller, in the order of completion.

        Raises:
          InterruptedError: the caller's work was stopped. RuntimeError: the command was.
        """
        while True:
            try:
                some = self._results.get(timeout=_LOOK_S)
            except Empty:
                check_stopped()
                check_command()
                continue
            if some is None:
                break
            for result in some:
                self._seen_count += 1
                self._seen_bytes += len(result.body or b"")
                yield result
            check_stopped()
            check_command()
        if self.error is not None:
            raise self.error
