import sys
from types import ModuleType

import pytest

from tests.suites import __main__ as command
from tests.suites.case import Case
from tests.suites.expected import EXPECTED, Expected

CASES = [Case("a", 1, 1), Case("<b>", 1, 2), Case("<c>", 1, 2)]


@pytest.mark.parametrize(
    ("rules", "code", "printed"),
    [
        ([("<b>", 1), ("<c>", 1)], 0, "2         2\n"),
        ([("<", 2)], 0, "2         2\n"),
        ([("<b>", 1)], 1, "'<c>'\n    theirs 1\n    ours   2\n"),  # a new one
        ([("<", 1)], 1, "2 disagree, expected 1: by design"),  # a new one of a known kind
        ([("<", 2), ("d", 1)], 1, "0 disagree, expected 1: by design"),  # one that vanished
        ([("ours 2", 2)], 0, "2         2\n"),  # found in what is said, too
    ],
)
def test_it_fails_where_the_disagreements_are_others_than_those_expected(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rules: list[tuple[str, int]],
    code: int,
    printed: str,
) -> None:
    suite = ModuleType("tests.suites.html")
    suite.cases = lambda: iter(CASES)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.suites.html", suite)
    table = [Expected("html", pattern, count, "by design") for pattern, count in rules]
    monkeypatch.setattr(command, "EXPECTED", table)
    monkeypatch.setattr(sys, "argv", ["suites", "html"])
    assert command.main() == code
    assert printed in capsys.readouterr().out


def test_a_suite_that_cannot_be_had_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cases() -> None:
        raise RuntimeError("npm is needed")

    suite = ModuleType("tests.suites.html")
    suite.cases = cases  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.suites.html", suite)
    monkeypatch.setattr(sys, "argv", ["suites", "html"])
    assert command.main() == 1
    assert "not run: npm is needed" in capsys.readouterr().out


def test_each_expectation_is_of_a_suite_that_is_run() -> None:
    assert {rule.suite for rule in EXPECTED} <= set(command.SUITES)
