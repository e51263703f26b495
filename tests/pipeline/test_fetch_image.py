"""One image through the fetcher, as other packages get it."""

import http.server
import sys
import threading
from collections.abc import Iterator

import pytest

from alignset.pipeline.fetch_image import main

BODY = b"\x89PNG of a kind"


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/there.png":
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_bytes_are_written(site: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["--allow_private_addresses", f"{site}/there.png"]) == 0
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == BODY


@pytest.mark.parametrize(
    ("path", "flags", "said"),
    [
        ("/there.png", [], "forbidden_address"),
        ("/gone.png", ["--allow_private_addresses"], "http_404"),
    ],
)
def test_why_it_failed_is_one_line(
    site: str, capfd: pytest.CaptureFixture[str], path: str, flags: list[str], said: str
) -> None:
    assert main([*flags, "--", site + path]) == 1
    told = capfd.readouterr()
    assert told.out == ""
    assert said in told.err
    assert len(told.err.splitlines()) == 1


def test_a_wrong_command_line_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert main(["ftp://a.example/b.png"]) == 1
    assert "not a URL of http or https" in capfd.readouterr().err
