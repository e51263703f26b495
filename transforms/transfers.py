"""HTTP transfers, many at once on one thread: libcurl's multi interface over a selector.

curl tells the address that it is about to connect to, after every resolution and redirect and in
whatever form the URL wrote it, so that no private one slips past.
"""

import errno
import math
import selectors
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import certifi
import pycurl

from transforms.fetch_settings import NAMED_STATUSES, FetchSettings
from transforms.fetch_target import is_public_address, request_url

_DETAIL_OF_ERROR: dict[int, str] = {
    pycurl.E_COULDNT_RESOLVE_HOST: "dns",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_SEND_ERROR: "reset",
    pycurl.E_RECV_ERROR: "reset",
    pycurl.E_GOT_NOTHING: "reset",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_SSL_CIPHER: "tls",
    pycurl.E_PEER_FAILED_VERIFICATION: "tls",
    pycurl.E_PARTIAL_FILE: "cut_off",
    pycurl.E_FILESIZE_EXCEEDED: "too_large",
    pycurl.E_WRITE_ERROR: "too_large",  # the only reason why _Slot.write refuses
    pycurl.E_BAD_CONTENT_ENCODING: "bad_encoding",
    pycurl.E_URL_MALFORMAT: "bad_url",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(slots=True)
class Job:
    """One URL on its way to its one `Fetched`."""

    index: int
    first_url: str
    url: str
    deadline: float = 0.0
    redirects: int = 0
    attempts: int = 0


class _Slot:
    """One curl handle, which serves one job after another."""

    def __init__(self, settings: FetchSettings) -> None:
        self.job = Job(-1, "", "")
        self._settings = settings
        self._parts: list[bytes] = []
        self._size = 0
        self._met_forbidden_address = False
        self.curl = pycurl.Curl()
        for option, value in _curl_options(settings).items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.WRITEFUNCTION, self.write)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self.open_socket)

    def aim(self, job: Job) -> None:
        self.job, self._parts, self._size, self._met_forbidden_address = job, [], 0, False
        self.curl.setopt(pycurl.URL, job.url)
        # curl takes 0 for "no limit".
        left_ms = max(1, math.ceil(1000 * (job.deadline - time.monotonic())))
        self.curl.setopt(pycurl.TIMEOUT_MS, left_ms)

    def write(self, data: bytes) -> int:
        self._size += len(data)  # after curl has decoded it, so a gzip bomb ends here
        if self._size > self._settings.max_image_bytes:
            return 0
        self._parts.append(data)
        return len(data)

    def open_socket(self, purpose: int, address: Any) -> Any:
        if not self._settings.allow_private_addresses and not is_public_address(address.addr[0]):
            self._met_forbidden_address = True
            return pycurl.SOCKET_BAD
        try:
            return socket.socket(address.family, address.socktype, address.protocol)
        except OSError:  # no file descriptors are left, or no IPv6: this address fails, not the run
            return pycurl.SOCKET_BAD

    def outcome(self, error: int) -> tuple[bytes | None, str | None]:
        """(body, None), (None, detail) or, of a redirect that was aimed at next, (None, None)."""
        status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        if status in _REDIRECTS and (location := self.curl.getinfo_raw(pycurl.REDIRECT_URL)):
            return None, self._follow(location.decode("utf-8", "replace"))
        if status >= 200 and status != 200:
            return None, _status_detail(status)
        if error == pycurl.E_OK:
            return b"".join(self._parts), None
        if error == pycurl.E_COULDNT_CONNECT:
            if self._met_forbidden_address:
                return None, "forbidden_address"
            refused = self.curl.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED
            return None, "refused" if refused else "unreachable"
        return None, _DETAIL_OF_ERROR.get(error, "bad_answer")

    def _follow(self, location: str) -> str | None:
        target = request_url(location)
        if target is None:
            return "bad_redirect"
        if self.job.redirects >= self._settings.max_redirects:
            return "too_many_redirects"
        self.job.url, self.job.redirects = target, self.job.redirects + 1
        return None


def _status_detail(status: int) -> str:
    if status in NAMED_STATUSES:
        return f"http_{status}"
    return f"http_{status // 100}xx" if 200 <= status < 600 else "http_other"


def _curl_options(settings: FetchSettings) -> dict[int, Any]:
    return {
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        # Redirects are followed by us: each target is cleaned and counted as a first URL is.
        pycurl.FOLLOWLOCATION: 0,
        # One connection is one transfer, so the caps on both are one cap.
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.CONNECTTIMEOUT_MS: max(1, round(1000 * settings.connect_timeout_s)),
        pycurl.NOSIGNAL: 1,
        pycurl.MAXFILESIZE_LARGE: settings.max_image_bytes,
        pycurl.ACCEPT_ENCODING: "",  # all that this curl can decode
        pycurl.HTTPHEADER: ["Accept: image/*,*/*;q=0.5"],
        pycurl.USERAGENT: settings.user_agent,
        pycurl.PROXY: "",  # not even the environment's
        pycurl.NETRC: pycurl.NETRC_IGNORED,
        # curl's own default path is that of the machine which built the wheel.
        pycurl.CAINFO: ssl.get_default_verify_paths().cafile or certifi.where(),
        pycurl.BUFFERSIZE: 128 * 1024,
    }


class Transfers:
    """The transfers under way. curl asks for sockets to watch; a selector watches them.

    curl's own `select` and `fdset` fail on file descriptors above 1023, which workers do reach.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._selector = selectors.DefaultSelector()
        self._curl_due: float | None = None
        self._idle: list[_Slot] = []
        self._busy: dict[pycurl.Curl, _Slot] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 2 * settings.connections)

    @property
    def under_way(self) -> int:
        return len(self._busy)

    @property
    def has_room(self) -> bool:
        return len(self._busy) < self._settings.connections

    def start(self, job: Job) -> None:
        slot = self._idle.pop() if self._idle else _Slot(self._settings)
        slot.aim(job)
        self._busy[slot.curl] = slot
        self._multi.add_handle(slot.curl)

    def wait(self, at_most_s: float) -> list[tuple[Job, bytes | None, str | None]]:
        """Waits until something happens; gives what is done: (job, body, detail)."""
        if self._curl_due is not None:
            at_most_s = min(at_most_s, max(0.0, self._curl_due - time.monotonic()))
        ready = self._selector.select(at_most_s)
        for key, events in ready:
            mask = (pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0) | (
                pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
            )
            self._multi.socket_action(key.fd, mask)
        if self._curl_due is not None and self._curl_due <= time.monotonic():
            self._curl_due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return list(self._done())

    def _done(self) -> Iterator[tuple[Job, bytes | None, str | None]]:
        left = 1
        while left:
            left, worked, failed = self._multi.info_read()
            ended = [(curl, pycurl.E_OK) for curl in worked]
            for curl, error in ended + [(curl, error) for curl, error, _ in failed]:
                self._multi.remove_handle(curl)
                slot = self._busy.pop(curl)
                self._idle.append(slot)
                body, detail = slot.outcome(error)
                if body is None and detail is None:
                    self.start(slot.job)
                else:
                    yield slot.job, body, detail

    def _watch(self, what: int, fd: int, multi: object, data: object) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        events = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (
            selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        )
        if events and what != pycurl.POLL_REMOVE:
            self._selector.register(fd, events)

    def _set_timer(self, timeout_ms: int) -> None:
        self._curl_due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def close(self) -> None:
        for curl in self._busy:
            self._multi.remove_handle(curl)
        for slot in [*self._idle, *self._busy.values()]:
            slot.curl.close()
        self._multi.close()
        self._selector.close()
