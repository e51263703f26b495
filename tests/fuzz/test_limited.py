"""Limits of what hostile bytes may do, and what is kept of a case that fails."""

import contextlib
import ctypes
import re
from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import entrances, limited
from tests.fuzz.limited import MORE_CPU, MORE_MEMORY, Piece, faults_of


def spin() -> None:
    while True:
        pass


def hide_a_lack_of_memory() -> None:
    """As our own code would: it catches what a decoder raises."""
    body = b"x" * (1 << 27)
    with contextlib.suppress(MemoryError):
        bytearray(len(body) << 13)


def fail() -> None:
    raise ValueError("wrong")


def test_each_piece_has_its_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "MEMORY", 1 << 26)
    work = {
        **{spin: MORE_CPU, fail: "ValueError at test_limited.py"},
        **{hide_a_lack_of_memory: MORE_MEMORY, lambda: ctypes.string_at(0): "ended by SIGSEGV"},
        lambda: None: None,
    }
    faults = faults_of([Piece(does, 1.0) for does in work])
    kinds = [fault and fault.kind.partition(":")[0] for fault in faults]  # without the line
    assert kinds == [*work.values()]
    assert "spin" in faults[0].said  # where it was


def test_a_case_that_fails_is_kept_and_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(body: bytes, path: Path) -> None:
        assert body == path.read_bytes()
        if b"url" in body:
            raise ValueError("there is one")

    table = {"csv": (entrances.Entrance("refuse", refuse),)}
    monkeypatch.setattr(entrances, "ENTRANCES", table)
    monkeypatch.setattr(fuzz, "CASES", tmp_path / "none")
    flags = ["csv", "--seed=1", f"--found={tmp_path}"]
    assert fuzz.main([*flags, "--cases=9"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"csv: 9 cases in \d+ s, [1-9] fail\n", said)
    path, *_ = sorted(tmp_path.glob("csv_refuse-*.csv"))
    assert b"url" in path.read_bytes()
    assert "there is one" in path.with_name(f"{path.name}.txt").read_text()
    assert fuzz.main([*flags, "--cases=0"]) == 1
    assert f"{path} fails at refuse: ValueError" in capsys.readouterr().out
    monkeypatch.setattr(entrances, "ENTRANCES", {"csv": ()})
    assert fuzz.main([*flags, "--cases=0"]) == 0
    assert "is well now" in capsys.readouterr().out
