"""The commands as a user gives them: what they print, and what they refuse."""

import dataclasses
import http.server
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from alignset.train.search import index_files, serve
from alignset.train.search import query as searching
from alignset.train.search.__main__ import main
from alignset.train.search.query import table
from tests.support.colour_search import ColourModel, drawn, index_of, picture_bytes, picture_folder
from tests.support.train_shards import COLOURS

# A command whose thread outlasts it.
_STOPPED = """
import sys, threading, time, types
from alignset.signals import run_main
from alignset.train.search.__main__ import NAME, main
def run_index(flags):
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("runs", flush=True)
    time.sleep(60)
sys.modules["alignset.train.search.index_files"] = types.SimpleNamespace(run_index=run_index)
sys.exit(run_main(main, NAME, ["index", "--model=m", "--data=d", "--index=i"]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("index")
    picture_folder(made / "data", each=3)
    index_of(made / "data", made / "index")
    (made / "blue.png").write_bytes(picture_bytes(drawn(COLOURS["blue"], 77), "PNG"))
    (made / "broken.jpg").write_bytes(b"no picture")
    return made


@pytest.fixture(autouse=True)
def by_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "alignset.train.model.embed.open_embedder",
        lambda name, fast=True: ColourModel(name, seed=int(name == "other")),
    )


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def query(folder: Path, *flags: object) -> int:
    return main(["query", str(folder / "index"), *map(str, flags)])


def test_a_command_that_is_stopped_says_so_once() -> None:

    with subprocess.Popen(
        [sys.executable, "-c", _STOPPED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout
        assert command.stdout.readline() == "runs\n"
        command.send_signal(signal.SIGTERM)
        assert command.communicate()[1].count("stopped; an index that was being made is") == 1
    assert command.returncode == 130


def test_what_is_left_out_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = picture_folder(tmp_path / "data", each=1)
    for file in ("b.svg", "a.SVG", "c.heic"):
        (data / file).write_bytes(b"<svg/>")
    (data / "broken.jpg").write_bytes(b"no picture")
    monkeypatch.setattr(index_files, "TELL_S", 0.0)
    flags = ["--model=colours", f"--data={data}", f"--index={tmp_path / 'index'}"]
    assert main(["index", *flags, "--batch_size=5"]) == 0
    printed = capsys.readouterr()
    told = [part.partition(" [")[0] for part in printed.err.split("\r")]
    assert told[1:4] == [f"{n} samples" for n in (0, 5, 9)]  # where there is no terminal
    assert json.loads(printed.out) == {
        "index": str(tmp_path / "index"),
        "rows": 8,
        "left_out": {"undecodable": 1, "other_format": 3},
        "search": "exact",
        "recall@10": 1.0,
        "model": "colours",
    }
    assert "not read: 2 .svg, 1 .heic; the first is 'a.SVG'; convert them" in printed.err


QUERIES = [
    (["--text", "something red"], "red"),
    (["--text", "red", "--text", "blue", "5"], "blue"),
    (["--image", "BLUE"], "blue"),
    (["--image", "BLUE", "0.1", "--text", "green"], "green"),
    (["--key", "yellow/1.jpg"], "yellow"),
    (["--text", "red", "--caption", "GREEN picture"], "green"),
]


def test_queries_find(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, first in QUERIES:
        given = [str(folder / "blue.png") if flag == "BLUE" else flag for flag in flags]
        assert query(folder, *given, "--n", 3) == 0
        results = lines(capsys)
        assert f"a {first} picture" in str(results[0]["caption"])
        assert [result["rank"] for result in results] == [1, 2, 3]
    assert query(folder, "--text", "red", "--host", "example.org") == 0  # filters leave nothing
    assert capsys.readouterr().out == ""
    # Pink without black is as far from black as can be.
    assert query(folder, "--text", "black", "-1", "--text", "pink", "--n", 3) == 0
    assert "black" not in str([result["caption"] for result in lines(capsys)])


def test_a_picture_is_fetched_by_its_url(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Site(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/blue.png"
        try:
            assert query(folder, "--image", url, "--n", 1) == 2
            assert "(forbidden_address): pass another URL" in capsys.readouterr().err
            private = dataclasses.replace(searching.FETCH, allow_private_addresses=True)
            monkeypatch.setattr(searching, "FETCH", private)
            assert query(folder, "--image", f"{url}.gone", "--n", 1) == 2
            assert "(http_404): pass another URL" in capsys.readouterr().err
            assert query(folder, "--image", url, "--n", 1) == 0
        finally:
            server.shutdown()
            thread.join()
    (result,) = lines(capsys)
    assert "a blue picture" in str(result["caption"])


def test_the_page_is_served_until_it_is_stopped(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this thread, as uvicorn wants it; another asks."""
    answers: list[dict[str, list[dict[str, str]]]] = []

    class Asked(serve.Server):
        def run(self) -> None:
            asking = threading.Thread(target=self._ask)
            asking.start()
            super().run()
            asking.join()

        def _ask(self) -> None:
            try:
                with urllib.request.urlopen(f"{self.url}api/search?text=red&limit=1") as answer:
                    answers.append(json.load(answer))
            finally:
                self.stop()

    monkeypatch.setattr(serve, "Server", Asked)
    assert main(["serve", str(folder / "index"), "--port=0"]) == 0
    (answer,) = answers
    assert "a red picture" in answer["results"][0]["caption"]
    said = capsys.readouterr()
    assert re.fullmatch(r"24 images at http://127\.0\.0\.1:\d+/\n", said.out)
    assert said.err == ""


WRONG = [
    (["query", "INDEX"], "the query is empty"),
    (["query", "INDEX", "--text", "a", "red", "dog"], "put a text of several words in quotes"),
    (["query", "INDEX", "--text", "red", "many"], "takes a value and a weight"),
    (["query", "INDEX", "--text", "\udcff"], "argument --text: must be in UTF-8; got '\\udcff'"),
    (["query", "INDEX", "--text", "a", "--caption", "\udcff"], "--caption: must be in UTF-8"),
    (["query", "INDEX", "--text", "a", "--host", "\udcff"], "--host: must be in UTF-8"),
    (["query", "INDEX", "--image", "none.jpg"], "cannot be read (No such file or directory)"),
    (["query", "INDEX", "--image", "BROKEN"], "cannot be opened as an image"),
    (["query", "INDEX", "--key", "none"], "the index has no image 'none'"),
    (["query", "INDEX", "--text", "red", "--n", "1001"], "n must be at most 1000"),
    (["query", "INDEX", "--text", "red", "--n", "0"], "whole number, 1 or more"),
    (["query", "INDEX", "--text", "red", "--model", "other"], "was made by the model colours"),
    (["query", "DATA", "--text", "red"], "holds no index: make one"),
    (["query", "INDEX", "--texts", "red"], "unknown flag --texts: did you mean --text?"),
    (["index", "--model=colours", "--data=nothing/here", "--index=NEW"], "no shards at"),
    (["serve", "INDEX", "--port=99999"], "port must be from 0 to 65535"),
    (["serve", "INDEX", "--host=192.0.2.1", "--port=0"], "nothing can listen at 192.0.2.1"),
    (["find", "INDEX"], "invalid choice: 'find'"),
    ([], "required: index|query|serve"),
]


def test_what_is_wrong_is_told_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "INDEX": folder / "index",
        "DATA": folder / "data",
        "BROKEN": folder / "broken.jpg",
        "NEW": tmp_path / "new",
    }
    for arguments, text in WRONG:
        given = []
        for argument in arguments:
            flag, equals, value = argument.rpartition("=")
            given.append(f"{flag}{equals}{places.get(value, value)}")
        assert main(given) == 2, arguments
        printed = capsys.readouterr().err
        assert text in printed
        assert "0x" not in printed  # where something lies in memory
        assert len(printed.splitlines()) == 1


RESULT = {
    "key": "0123456789abcdef",
    "score": 0.5,
    "caption": "a dog\x1b[31m\r\n\u202ewith\tsnow",
    "url": "",
    "width": 640,
    "height": 480,
    "folded": 2,
}


def test_a_line_a_result_within_the_columns() -> None:
    lines = table([RESULT, RESULT | {"caption": "x" * 200}], 80)
    assert len(lines) == 3
    assert "a dog[31m  with snow (and 2 like it)" in lines[1]
    assert (lines[2][-1], len(lines[2])) == ("…", 80)
