import logging

import pytest

from alignset.pipeline.command_line import CommandParser, log_plainly, print_end, print_failure


@pytest.mark.parametrize("flags", [["--siz=1"], ["--size=x"], ["--nothing"]])
def test_a_wrong_flag_is_one_line_and_status_2(flags, capsys):
    parser = CommandParser(prog="alignset look")
    parser.add_argument("--size", type=int)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(flags)
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("alignset look: ")
    assert told.endswith("; see --help\n")
    assert told.count("\n") == 1


def test_what_is_told_gives_a_terminal_no_commands(capsys):
    assert print_end("look", "no \x1b[2J set\nhere", 1) == 1
    assert capsys.readouterr().err == "look: no \\x1b[2J set\\nhere\n"


def test_log_lines_give_a_terminal_no_commands(monkeypatch, capsys):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    log_plainly(logging.WARNING)
    for name in ("alignset", "apache_beam"):
        logging.getLogger(name).warning("leaves out %s", "a\x1b]0;x\x07\nfailed: \u202eb")
    (ours, *beams) = capsys.readouterr().err.splitlines()
    assert ours == "leaves out a\\x1b]0;x\\x07\\nfailed: \\u202eb"
    assert beams == ["leaves out a\\x1b]0;x\\x07", "failed: \\u202eb"]


@pytest.mark.parametrize(
    ("text", "told"),
    [("first\n\n the cause \n", "the cause"), ("", "OSError('')"), ("x" * 5000, "x" * 500)],
)
def test_a_failure_is_its_last_line_with_advice_behind_it(text, told, capsys):
    assert print_failure("takedown", OSError(text), "; the same command resumes") == 1
    assert capsys.readouterr().err == f"takedown: failed: {told}; the same command resumes\n"
