"""HTTP transfers, many at once on one thread: libcurl's multi interface over epoll.

In each libcurl tells the address that it is about to connect to, after every resolution and
redirect and in whatever form the URL wrote it, so that no private one slips past.
"""

import errno
import math
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, NamedTuple

import certifi  # apache-beam requires it, by requests
import pycurl

from alignset.transforms.columns.web_urls import is_public_address, request_url
from alignset.transforms.fetching.connection_limit import BodyMemory
from alignset.transforms.fetching.fetch_settings import NAMED_STATUSES, FetchSettings
from alignset.transforms.fetching.host_names import HostNames
from alignset.transforms.fetching.host_queue import FetchJob
from alignset.transforms.fetching.orders import ImageResponse
from alignset.transforms.fetching.robots import READ_BYTES
from alignset.transforms.opt_outs.host_statements import (
    field_values,
    header_opt_outs,
    stating_lines,
)
from alignset.transforms.workers.unexpected import tell_once

_DETAIL_OF_ERROR: dict[int, str] = {
    pycurl.E_COULDNT_RESOLVE_HOST: "dns",
    pycurl.E_COULDNT_RESOLVE_PROXY: "dns",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_SEND_ERROR: "reset",
    pycurl.E_RECV_ERROR: "reset",
    pycurl.E_GOT_NOTHING: "reset",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_SSL_CIPHER: "tls",
    pycurl.E_PARTIAL_FILE: "cut_off",
    pycurl.E_FILESIZE_EXCEEDED: "too_large",
    pycurl.E_WRITE_ERROR: "too_large",  # the only reason why Slot.write refuses
    pycurl.E_BAD_CONTENT_ENCODING: "bad_encoding",
    pycurl.E_URL_MALFORMAT: "bad_url",
}
# By the code of a certificate that was not taken, OpenSSL's X509_V_ERR_…; 1 where curl itself has
# compared the name.
_DETAIL_OF_VERIFYING = {
    10: "tls_expired",
    **dict.fromkeys((2, 18, 19, 20, 21), "tls_unknown_issuer"),
    **dict.fromkeys((1, 62, 64), "tls_wrong_name"),
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REDIRECTS_OF_ROBOTS = 5  # at least are followed, by RFC 9309

_LONGEST_FIELD = 1_000  # characters of a header's field that are kept
# An answer slower than this stands still.
_IDLE_BYTES_PER_S = 100
_KEPT_BY_CURL_S = 60


class _Socket(socket.SocketType):
    """A socket that pycurl takes a copy of. One that is forgotten and not closed would ask the
    kernel for both its ends, to warn of that: 15 us."""

    def __del__(self) -> None:
        self.close()


class EndedTransfer(NamedTuple):
    """Outcome of a job's transfer: a body, a detail, or a redirect to follow.

    Attributes:
      took_s: seconds it was under way.
      silent: whether not one byte of an answer came.
      was_asked: whether the host was asked, and nobody here held its answer up.
      retry_after_s: what the host asks for, in seconds; 0 where it does not.
      opted_out: the opt-outs in the answer's header, where these are only reported.
      answer: what that header says, where there is a body.
      has_name: nothing was asked for yet; the host's name is known now.
      status: of the answer, where it was whole. lines: of its header, that may state an opt-out.
    """

    job: FetchJob
    body: bytes | None = None
    detail: str | None = None
    redirect: str | None = None
    took_s: float = 0.0
    silent: bool = False
    was_asked: bool = False
    retry_after_s: float = 0.0
    has_name: bool = False
    opted_out: tuple[str, ...] = ()
    answer: ImageResponse | None = None
    status: int | None = None
    lines: Sequence[bytes] = ()


class Slot:
    """One curl handle, which serves one job after another.

    Attributes:
      start_s: when the job did. size: bytes of its answer so far.
    """

    def __init__(self, settings: FetchSettings, memory: BodyMemory) -> None:
        self.job = FetchJob(-1, "", "")
        self._settings, self._memory = settings, memory
        self._directives = settings.directives
        self._headers: list[bytes] = []
        self._parts: list[bytes] = []
        self.size = 0
        self.start_s = 0.0
        self._last_name = ""  # the name that curl was last told of
        self._is_named = False  # whether this transfer's was told
        self._met_forbidden_address = False
        self._was_held = False  # whether its answer had to wait for memory
        self._opted_out: tuple[str, ...] | None = None  # before anybody has looked
        self.lines: Sequence[bytes] = ()
        self._limit, self._by_head = settings.max_image_bytes, False
        self.curl = pycurl.Curl()
        for option, value in _curl_options(settings).items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.WRITEFUNCTION, self.write)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._headers.append)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self.open_socket)

    def aim(self, job: FetchJob, name: str) -> None:
        """Takes a job; `name` tells where its host's name leads, or is empty."""
        self.job, self._parts, self.size = job, [], 0
        self._met_forbidden_address, self._opted_out, self._was_held = False, None, False
        self.lines = ()
        self._headers.clear()
        limit = READ_BYTES if job.file else self._settings.max_image_bytes
        if (limit, job.by_head) != (self._limit, self._by_head):
            # Of a longer robots.txt the beginning counts; curl takes 0 for "no limit".
            self._limit, self._by_head = limit, job.by_head
            max_bytes = 0 if job.file or job.by_head else limit
            self.curl.setopt(pycurl.MAXFILESIZE_LARGE, max_bytes)
            self.curl.setopt(pycurl.NOBODY, job.by_head)  # and back to GET
        self.start_s = time.monotonic()
        self.curl.setopt(pycurl.URL, job.url)
        if bool(name) != self._is_named:
            # Each transfer looks through all names that curl knows, for those that are too old.
            # None is where we tell them; addresses, and what a proxy finds, are kept by curl.
            self._is_named = bool(name)
            self.curl.setopt(pycurl.DNS_CACHE_TIMEOUT, -1 if name else _KEPT_BY_CURL_S)
        if name:
            # What curl is told it keeps: the names of ended transfers must go.
            parts = name.split(":", 2)
            former, self._last_name = self._last_name, f"-{parts[0][1:]}:{parts[1]}"
            self.curl.setopt(pycurl.RESOLVE, [former, name] if former else [name])
        # curl takes 0 for "no limit".
        self.curl.setopt(pycurl.TIMEOUT_MS, max(1, math.ceil(1000 * job.left_s)))

    def write(self, data: bytes) -> int:
        if not self.size and self._is_refused():
            return 0
        # After curl has decoded it, so a gzip bomb ends here.
        size, room = len(data), self._limit - self.size
        if size > room:
            if not self.job.file:
                return 0
            data, size = data[:room], 0
        if not self._memory.admits(self, len(data)):
            self._was_held = True
            return int(pycurl.WRITEFUNC_PAUSE)
        self.size += len(data)
        self._parts.append(data)
        return size

    def resume(self) -> None:
        """Continues a response that had to wait for memory."""
        # The bytes that waited come within the call. Where `write` refuses them it fails, and so
        # does the transfer, which ends as any other.
        with suppress(pycurl.error):
            self.curl.pause(pycurl.PAUSE_CONT)

    def drop(self) -> None:
        """Lets go of the answer."""
        self._memory.note_end(self, self.size)
        self._parts, self.size = [], 0

    def _opt_outs(self) -> tuple[str, ...]:
        """Those in the header, which is whole; a policy's own file has none."""
        if self._opted_out is None:
            self._opted_out = ()
            if self._headers and self.job.file is None:
                self.lines = stating_lines(self._headers)
                self._opted_out = header_opt_outs(
                    self.lines, self._settings, self._directives, self.job.reserved
                )
        return self._opted_out

    def _is_refused(self) -> bool:
        return self._settings.rejects and bool(self._opt_outs())

    def _is_challenge(self) -> bool:
        """Whether the header says so, by Cloudflare's field or the one of Amazon's firewall."""
        header = b"".join(self._headers).lower()
        return b"\ncf-mitigated: challenge" in header or b"\nx-amzn-waf-action: " in header

    def open_socket(self, purpose: int, address: Any) -> Any:
        must_be_public = not (
            self._settings.allow_private_addresses or self._settings.proxies_from_environment
        )
        if must_be_public and not is_public_address(address.addr[0]):
            self._met_forbidden_address = True
            return pycurl.SOCKET_BAD
        try:
            return _Socket(address.family, address.socktype, address.protocol)
        except OSError:  # no file descriptors are left, or no IPv6: this address fails, not the run
            return pycurl.SOCKET_BAD

    def outcome(self, error: int) -> EndedTransfer:
        """Outcome of the job, given curl's error."""
        status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        if status in _REDIRECTS and self._is_refused():
            return EndedTransfer(self.job, detail=self._opt_outs()[0])
        if status in _REDIRECTS and (location := self.curl.getinfo_raw(pycurl.REDIRECT_URL)):
            return self._redirected(location.decode("utf-8", "replace"))
        if status >= 200 and status != 200:
            retry_after_s = self.curl.getinfo(pycurl.RETRY_AFTER) if status in (429, 503) else 0
            detail = f"http_{status // 100}xx" if 200 <= status < 600 else "http_other"
            if self._is_challenge():
                detail = "challenge"
            elif status in NAMED_STATUSES:
                detail = f"http_{status}"
            retry_after_s = float(retry_after_s)
            return EndedTransfer(self.job, None, detail, retry_after_s=retry_after_s, status=status)
        was_cut = bool(self.job.file) and self.size == self._limit
        if was_cut or (error == pycurl.E_OK and not (self.size == 0 and self._is_refused())):
            return self._came(status)
        silent = not status and not self.curl.getinfo(pycurl.HEADER_SIZE)
        # On a kept connection too: curl takes none that nobody used for two minutes.
        was_begun = self.curl.getinfo(pycurl.PRETRANSFER_TIME) > 0
        return EndedTransfer(
            self.job,
            detail=self._detail(error),
            silent=silent,
            was_asked=was_begun and not self._was_held,
        )

    def _detail(self, error: int) -> str:
        if self._opted_out and self._settings.rejects:
            return self._opted_out[0]
        if error == pycurl.E_COULDNT_CONNECT:
            if self._met_forbidden_address:
                return "forbidden_address"
            is_refusal = self.curl.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED
            return "refused" if is_refusal else "unreachable"
        if error == pycurl.E_PEER_FAILED_VERIFICATION:
            code = self.curl.getinfo(pycurl.SSL_VERIFYRESULT)
            return _DETAIL_OF_VERIFYING.get(code, "tls")
        return _DETAIL_OF_ERROR.get(error, "bad_answer")

    def _redirected(self, location: str) -> EndedTransfer:
        target = request_url(location)
        if target is None:
            return EndedTransfer(self.job, detail="bad_redirect")
        most = self._settings.max_redirects
        if self.job.redirects >= (max(most, _REDIRECTS_OF_ROBOTS) if self.job.file else most):
            return EndedTransfer(self.job, detail="too_many_redirects")
        return EndedTransfer(self.job, redirect=target, opted_out=self._opt_outs())

    def _came(self, status: int) -> EndedTransfer:
        body = b"".join(self._parts)
        if self.job.file:
            return EndedTransfer(self.job, body, status=status)
        opted_out, answer = self._opt_outs(), self._answer(status)
        return EndedTransfer(self.job, body, opted_out=opted_out, answer=answer)

    def _answer(self, status: int) -> ImageResponse:
        """The header of the last response; 1xx responses may have come before it."""
        begins = [at for at, line in enumerate(self._headers) if line[:5] == b"HTTP/"]
        lines = self._headers[begins[-1] + 1 :] if begins else self._headers
        kinds = (b"content-type", b"etag", b"last-modified")
        header = b"".join(lines).lower()
        values = (next(field_values(lines, kind), b"") if kind in header else b"" for kind in kinds)
        fields = (value[:_LONGEST_FIELD].decode("latin-1") or None for value in values)
        return ImageResponse(self.job.url, status, time.time(), *fields)


def _curl_options(settings: FetchSettings) -> dict[int, Any]:
    return {
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        # Redirects are followed by us: each target is cleaned and counted as a first URL is.
        pycurl.FOLLOWLOCATION: 0,
        # One connection is one transfer, so the caps on both are one cap.
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.CONNECTTIMEOUT_MS: max(1, round(1000 * settings.connect_timeout_s)),
        pycurl.NOSIGNAL: 1,
        pycurl.DNS_CACHE_TIMEOUT: _KEPT_BY_CURL_S,
        pycurl.LOW_SPEED_LIMIT: _IDLE_BYTES_PER_S,
        pycurl.LOW_SPEED_TIME: max(1, round(settings.idle_timeout_s)),
        pycurl.MAXFILESIZE_LARGE: settings.max_image_bytes,
        pycurl.ACCEPT_ENCODING: "",  # all that this curl can decode
        pycurl.HTTPHEADER: ["Accept: image/*,*/*;q=0.5"],
        pycurl.USERAGENT: settings.said_user_agent,
        **({} if settings.proxies_from_environment else {pycurl.PROXY: ""}),
        pycurl.NETRC: pycurl.NETRC_IGNORED,
        # curl's own default path is that of the machine which built the wheel.
        pycurl.CAINFO: ssl.get_default_verify_paths().cafile or certifi.where(),
        # Without ML-KEM, which is in the default and takes a sixth of the CPU of a handshake.
        pycurl.SSL_EC_CURVES: "X25519:P-256:P-384:P-521",
        pycurl.BUFFERSIZE: 128 * 1024,
    }


_EVENTS_OF_POLL = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}
_ACTION_OF_EVENTS = {
    0: 0,
    select.EPOLLIN: pycurl.CSELECT_IN,
    select.EPOLLOUT: pycurl.CSELECT_OUT,
    select.EPOLLIN | select.EPOLLOUT: pycurl.CSELECT_IN | pycurl.CSELECT_OUT,
}
_PAUSE_S = 1.0  # that a wait takes longer than it should: the process, or this thread, stood still


class Transfers:
    """The transfers under way. curl asks for sockets to watch; epoll watches them, and costs a
    third of what the `selectors` module does.

    curl's own `select` and `fdset` fail on file descriptors above 1023, which workers do reach.

    Args:
      sockets: that may be open at once, including kept connections.
      memory: which counts the bytes of answers.

    Attributes:
      names: the jobs that wait for their host's name.
      waited_s: seconds in which there was nothing to do.
      stalled: how many of those under way had brought nothing when they were looked at last.
    """

    def __init__(self, settings: FetchSettings, sockets: int, memory: BodyMemory) -> None:
        self._settings, self.memory = settings, memory
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._watched_fds: set[int] = set()
        self.names = HostNames(settings.connect_timeout_s, self._watch_events)
        self._curl_due: float | None = None
        self._idle: list[Slot] = []
        self._busy: dict[pycurl.Curl, Slot] = {}
        self.waited_s, self.stalled = 0.0, 0
        self._awake, self._paused_until = time.monotonic(), -math.inf
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, sockets)
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, sockets)

    @property
    def count(self) -> int:
        return len(self._busy) + len(self.names)

    def look_for_stalled(self, seconds: float) -> None:
        """Counts those that were begun so long ago and have brought nothing."""
        before = time.monotonic() - seconds
        older = takewhile(lambda slot: slot.start_s < before, self._busy.values())  # in their order
        self.stalled = sum(not slot.size for slot in older) + self.names.waiting_since(before)

    def start(self, job: FetchJob) -> bool:
        """Begins a job, or lets it wait for its host's name: False. A proxy finds names itself."""
        name = "" if self._settings.proxies_from_environment else self.names.entry(job)
        if name is None:
            self.names.add(job)
            return False
        self._begin(job, name)
        return True

    def _begin(self, job: FetchJob, name: str) -> None:
        slot = self._idle.pop() if self._idle else Slot(self._settings, self.memory)
        slot.aim(job, name)
        self._busy[slot.curl] = slot
        self._multi.add_handle(slot.curl)

    def ring(self) -> None:
        """Ends a wait; on any thread."""
        os.eventfd_write(self._bell, 1)

    def wait(self, at_most_s: float) -> list[EndedTransfer]:
        """Waits until something happens; gives what is done."""
        at_most_s = min(at_most_s, self.names.due_s())
        if self._curl_due is not None:
            at_most_s = min(at_most_s, max(0.0, self._curl_due - time.monotonic()))
        began = time.monotonic()
        ready = self._epoll.poll(at_most_s)
        now = time.monotonic()
        self.waited_s += now - began
        if now - self._awake > at_most_s + _PAUSE_S:
            self._paused_until = now
        self._awake = now
        for fd, events in ready:
            if fd == self._bell:
                os.eventfd_read(fd)
            elif fd in self.names.sockets:
                self.names.process(fd, events)
            else:  # an error or a hang-up shows when curl reads
                self._multi.socket_action(fd, _ACTION_OF_EVENTS[events & 5] or pycurl.CSELECT_IN)
        if self._curl_due is not None and self._curl_due <= time.monotonic():
            self._curl_due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        if self.memory.holds_back:
            self.memory.resume()
        return [*self._ends_of_names(), *self._ends_of_transfers()]

    def _ends_of_names(self) -> Iterator[EndedTransfer]:
        for job, waited_s, detail in self.names.finished_jobs():
            has_name, silent = detail is None, detail is not None
            yield EndedTransfer(
                job, None, detail, took_s=waited_s, silent=silent, has_name=has_name
            )

    def _ends_of_transfers(self) -> Iterator[EndedTransfer]:
        more = 1
        while more:
            more, successes, failures = self._multi.info_read()
            all_ended = [(curl, pycurl.E_OK) for curl in successes]
            for curl, error in all_ended + [(curl, error) for curl, error, _ in failures]:
                yield self._end(curl, error)

    def _end(self, curl: pycurl.Curl, error: int) -> EndedTransfer:
        self._multi.remove_handle(curl)
        slot = self._busy.pop(curl)
        self._idle.append(slot)
        took_s = time.monotonic() - slot.start_s
        try:
            end = slot.outcome(error)
        except Exception as raised:
            tell_once("reading an answer", raised)
            return EndedTransfer(slot.job, None, "bad_answer")
        finally:
            slot.drop()
        # While this process stood still its hosts were not asked in earnest.
        was_asked = end.was_asked and slot.start_s > self._paused_until
        return end._replace(took_s=took_s, was_asked=was_asked, lines=slot.lines)

    def remove(self, is_meant: Callable[[FetchJob], bool]) -> list[FetchJob]:
        """Ends the jobs that are under way; returns them."""
        jobs = self.names.remove(is_meant)
        for curl, slot in list(self._busy.items()):
            if is_meant(slot.job):
                jobs.append(slot.job)
                self._multi.remove_handle(curl)
                slot.drop()
                self._idle.append(self._busy.pop(curl))
        return jobs

    def _watch(self, what: int, fd: int, multi: object, data: object) -> None:
        none = what in (pycurl.POLL_REMOVE, pycurl.POLL_NONE)
        self._watch_events(fd, 0 if none else _EVENTS_OF_POLL[what])

    def _watch_events(self, fd: int, events: int) -> None:
        is_watched = fd in self._watched_fds
        if not events:
            self._watched_fds.discard(fd)
            if is_watched:
                with suppress(OSError):  # closed already
                    self._epoll.unregister(fd)
            return
        if is_watched:
            try:
                self._epoll.modify(fd, events)
                return
            except FileNotFoundError:  # another socket has the number of one that was closed
                pass
        self._epoll.register(fd, events)
        self._watched_fds.add(fd)

    def _set_timer(self, timeout_ms: int) -> None:
        self._curl_due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def close(self) -> None:
        self.remove(lambda _: True)
        for slot in self._idle:
            slot.curl.close()
        self._multi.close()
        self.names.close()
        self._epoll.close()
        os.close(self._bell)
