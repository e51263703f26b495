"""Compiled kernels live as long as the sources of them all stay as they are."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from alignset.transforms.columns import kernels
from tests.support.root import ROOT


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of which kernels are compiled, in place of ours."""
    (tmp_path / "transforms" / "images").mkdir(parents=True)
    (tmp_path / "transforms" / "images" / "examine.py").write_text("# a line\n")
    monkeypatch.setattr(kernels, "ROOT", tmp_path)
    return tmp_path


def folder_of_kernels() -> Path:
    kernels.sources_digest.cache_clear()
    try:
        return kernels.cache_folder()
    finally:
        kernels.sources_digest.cache_clear()


def test_a_change_in_any_room_leads_to_other_kernels(sources: Path):
    first = folder_of_kernels()
    assert first.parent == sources / "transforms" / "__pycache__"
    assert folder_of_kernels() == first
    with (sources / "transforms" / "images" / "examine.py").open("a") as source:
        source.write("# another line\n")
    assert folder_of_kernels() != first
    assert first.is_dir()  # nothing is taken away


def test_where_the_sources_cannot_be_written_to(sources: Path, monkeypatch: pytest.MonkeyPatch):
    """Kernels are in the user's cache, or where there is none in a folder that nobody foresees."""
    (sources / "transforms" / "__pycache__").write_bytes(b"no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(sources / "cache"))
    own = folder_of_kernels()
    assert own.parent == sources / "cache" / "alignset"
    assert own.name.startswith("kernels-")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setattr("tempfile.tempdir", str(sources))
    first, second = folder_of_kernels(), folder_of_kernels()
    assert first.parent == second.parent == sources
    assert first != second
    assert stat.S_IMODE(first.stat().st_mode) == stat.S_IRWXU


@pytest.mark.parametrize("compiled", [False, True])
def test_whether_kernels_were_compiled_before(tmp_path: Path, compiled: bool):
    tell = "from alignset.transforms.columns.kernels import WERE_COMPILED; print(WERE_COMPILED)"
    (tmp_path / "pairs_0").mkdir()  # numba makes it when it is asked to compile
    if compiled:
        (tmp_path / "pairs_0" / "walk.1.nbc").write_bytes(b"")
    said = subprocess.run(
        [sys.executable, "-c", tell],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
    )
    assert said.stdout == f"{compiled}\n"
