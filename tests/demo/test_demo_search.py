"""The demo's searches, over a few images of colours."""

import contextlib
import io
import threading
from pathlib import Path

import pytest

import alignset.demo.__main__ as story
from alignset.train.search.__main__ import main
from tests.support.colour_search import ColourModel
from tests.support.train_shards import colour_shards

ONE = threading.Lock()


def in_this_process(command: list[str], *, capture: bool) -> str:
    assert command[1:4] == ["-m", "alignset", "search"]
    out = io.StringIO()
    with ONE, contextlib.redirect_stdout(out):  # which is the whole process's
        assert main([str(word) for word in command[4:]]) == 0
    assert capture
    return out.getvalue()


def test_an_index_is_made_and_three_searches_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(story, "run", in_this_process)
    monkeypatch.setattr(
        "alignset.train.model.embed.open_embedder", lambda name, **_: ColourModel(name)
    )
    shards = colour_shards(tmp_path / "shards")
    for _ in range(2):  # an index of an earlier run is made anew
        assert story.make_index(Path("colours"), shards, tmp_path / "index") == 24
        story.search_pictures(tmp_path / "index")
    told = capsys.readouterr().out
    lines = told[: len(told) // 2].splitlines()
    assert told == 2 * told[: len(told) // 2]
    by_text, by_picture, by_both = lines[:4], lines[4:8], lines[8:]
    for table in (by_text, by_picture, by_both):
        assert "caption" in table[0]
        assert [line.split()[0] for line in table[1:]] == ["1", "2", "3"]
    assert "a red picture" in by_text[1]
    assert " 1.000 " in by_picture[1]
    assert "a blue picture" in by_both[1]
