"""The commands as functions: their arguments, errors and results."""

import inspect
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import alignset
from alignset.__main__ import command_of
from alignset.called import CALL, Call, CalledParser, EndedError, end, give
from tests.support.golden_run import Golden


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"path": ["a", Path("b")]}, ["--path=a,b"]),
        ({"path": {"name": Path("b"), "c": "d"}}, ["--path=name=b,c=d"]),
        ({"path": {"name": ["b", Path("c")], "d": "e"}}, ["--path=name=b|c,d=e"]),
        ({"path": "a,b", "n": 3}, ["--path=a,b", "--n=3"]),
        ({"path": None, "n": -0.5}, ["--n=-0.5"]),
        ({"yes": True}, ["--yes"]),
        ({"yes": False}, []),
        ({"compile": False}, ["--compile=false"]),
        ({"text": "-a"}, ["--text=-a"]),
        ({"text": ["a b", "c"]}, ["--text=a b", "--text=c"]),
        ({"text": {"a b": 1, "c": -0.5}}, ["--text", "a b", "1", "--text", "c", "-0.5"]),
        ({"unknown": True, "other": 3}, ["--unknown", "--other=3"]),
    ],
)
def test_arguments_stand_for_flags(flags: dict[str, Any], words: list[str]) -> None:
    parser = CalledParser()
    for name in ("path", "n"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--compile", nargs="?")
    parser.add_argument("--text", nargs="+", action="append")
    token = CALL.set(Call(flags))
    try:
        assert parser.add_call(["first"]) == ["first", *words]
        assert parser.add_call(["first"]) == ["first"]  # once
    finally:
        CALL.reset(token)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --shards=x --bacth_size=3", "--bacth_size: did you mean --batch_size?"),
        ("evaluate retrieval --modle=x", "--modle: did you mean --model?"),
        ("search index --model=x --data=y --output=z --thread 2", "did you mean --threads?"),
        ("search query x --thread 2", "unrecognized arguments: --thread 2"),  # the index's alone
        ("takedown x --dry-rum", "--dry-rum: did you mean --dry_run?"),
        ("takedown x --quick", "required: --blocklist"),
    ],
)
def test_a_misspelt_flag_is_named_with_the_one_it_is_near(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = words.split()
    with suppress(SystemExit):
        assert command_of(name)(rest, name) == 2
    assert said in capsys.readouterr().err


def test_a_shell_gets_lines_and_python_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    give([1], "one", "line")
    assert end("report", "because", 2) == 2
    assert capsys.readouterr() == ("one\nline\n", "report: because\n")
    call = Call({})
    token = CALL.set(call)
    give([1], "one")
    with pytest.raises(EndedError, match="because"):
        end("report", "because", 2)
    CALL.reset(token)
    assert call.result == [1]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: alignset.report(), "the following arguments are required: OUT"),
        (lambda: alignset.report(None), "an argument: expected a text, a path or a number"),
        (
            lambda: alignset.train(shards={"none": 2}, captions={"txt": 1}, output="none"),
            "no shards at 'none'",
        ),
        (lambda: alignset.report("none"), "there is no folder 'none'"),
        (lambda: alignset.takedown("none"), "are required: --blocklist"),
        (lambda: alignset.takedown("none", blocklist=["a,b"]), "blocklist: 'a,b' has a comma"),
        (lambda: alignset.takedown("none", blocklist=[[]]), "expected a text, a path or a number"),
        (
            lambda: alignset.takedown("none", blocklist="a", ye=True),
            "unknown flag --ye: did you mean --yes",
        ),
        (lambda: alignset.evaluate("retrieva"), "did you mean retrieval?"),
        (lambda: alignset.evaluate("retrieval", data="none"), "are required: --model"),
        (lambda: alignset.search("query", "none", text={"a": "b"}), "takes a value and a weight"),
        (lambda: alignset.export("none", output="s3://a"), "is a URL, and a folder"),
        (lambda: alignset.train(train_data="none"), "--train_data is not a flag here: pass --sh"),
        (lambda: alignset.train(shards="none", output="a"), "no shards at 'none'"),
    ],
)
def test_a_wrong_argument_raises(
    call: Callable[[], object],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(alignset.UsageError, match=said):
        call()
    assert [*tmp_path.iterdir()] == []
    assert capfd.readouterr() == ("", "")
    assert CALL.get() is None


def test_help_prints_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert alignset.takedown(help=True) is None
    assert "usage: alignset takedown OUT --blocklist=FILE" in capsys.readouterr().out


def test_a_failure_has_its_cause(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space\nleft on device")

    monkeypatch.setattr("alignset.pipeline.report.page.render_page", fail)
    with pytest.raises(alignset.FailedRunError, match="left on device") as failed:
        alignset.report(golden.output)
    assert isinstance(failed.value.__cause__, OSError)


def test_a_dataset_is_shown_and_pairs_are_taken_down(
    golden: Golden, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [*logging.getLogger().handlers]
    shutil.copytree(golden.output, tmp_path / "set")
    dataset = alignset.Dataset(tmp_path / "set")
    kept = dataset.kept(["url"])
    assert alignset.report(dataset, output=tmp_path / "a.html") == f"{tmp_path}/a.html"
    counts = alignset.report(dataset, min_image_side=100)
    assert counts.startswith(f"{len(dataset)} pairs are kept now\n")
    (tmp_path / "list.txt").write_text(f"url:{kept['url'][0]}\n")
    flags = {"blocklist": {"mine": tmp_path / "list.txt"}, "yes": True}
    listed = alignset.takedown(dataset, dry_run=True, **flags)
    assert listed.pairs > 0
    assert "pyarrow" not in repr(listed)
    of_list = {"mine:url": listed.pairs}  # which URL is the first depends on the server's port
    assert alignset.takedown(dataset, **flags).details == listed.details == of_list
    assert len(alignset.Dataset(dataset)) == len(dataset) - listed.pairs
    assert alignset.takedown(dataset, **flags).pairs == 0
    assert capfd.readouterr().out == ""
    assert [*logging.getLogger().handlers] == handlers


def test_the_package_of_the_trainer_is_its_command() -> None:
    import alignset.train.presets as presets  # as anybody imports from a package

    assert alignset.train.presets is presets
    assert inspect.ismodule(alignset.train)
