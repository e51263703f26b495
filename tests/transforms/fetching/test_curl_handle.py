"""TLS: certificates are looked at as a browser does, and what is wrong with one is told."""

import dataclasses
import http.server
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alignset.transforms.fetching.fetch import fetch_all
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS, FetchSettings
from tests.support.certificates import Authority
from tests.support.serving import serving

HOW = FetchSettings(robots_txt=False, allow_private_addresses=True, timeout_s=10.0, retries=0)


class _Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.versions.append(self.connection.version())  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


class _Secure(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Hello)
        self.versions: list[str] = []
        self.handshakes = 0
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def get_request(self) -> tuple:
        accepted = super().get_request()
        self.handshakes += 1
        return accepted

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def secure(context: ssl.SSLContext) -> Iterator[_Secure]:
    with serving(_Secure(context)) as server:
        yield server


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The one that this process trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    return authority


def own(folder: Path) -> FetchSettings:
    """Settings of their own, so that their fetcher begins with the authority of this test."""
    return dataclasses.replace(HOW, contact=str(folder))


def details(server: _Secure, how: FetchSettings, count: int = 1) -> list[str | None]:
    urls = [f"https://127.0.0.1:{server.server_port}/{n}" for n in range(count)]
    return [end.detail for end in fetch_all(urls, how)]


def test_what_is_wrong_with_a_certificate_is_told(authority: Authority, tmp_path: Path):
    here, stranger = "127.0.0.1", Authority(tmp_path, "stranger")
    how, found = own(tmp_path), {}
    for name, context in {
        "good": authority.context(here),
        "expired": authority.context(here, days=(-2, -1)),
        "wrong name": authority.context("other.example"),
        "not yet valid": authority.context(here, days=(1, 2)),
        "unknown issuer": stranger.context(here),
    }.items():
        with secure(context) as server:
            (found[name],) = details(server, how)
    assert found == {
        "good": None,
        "expired": "tls_expired",
        "wrong name": "tls_wrong_name",
        "not yet valid": "tls",
        "unknown issuer": "tls_unknown_issuer",
    }
    assert {*found.values()} - {None} <= FETCH_DETAILS


def test_a_connection_is_kept_across_calls_and_is_tls_1_3(authority: Authority, tmp_path: Path):
    how = dataclasses.replace(own(tmp_path), connections_per_host=1)
    with secure(authority.context("127.0.0.1")) as server:
        for _ in range(3):
            assert details(server, how, 4) == [None] * 4
        assert server.handshakes == 1
        assert {*server.versions} == {"TLSv1.3"}
