"""Compiled kernels live as long as the sources of them all stay as they are."""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.root import ROOT


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of the sources."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "transforms", tmp_path / "transforms", ignore=ignored)
    return tmp_path


def cache_folder(copied: Path) -> Path:
    """As a process has it whose sources are in that folder."""
    path = copied / "transforms" / "columns" / "kernels.py"
    spec = importlib.util.spec_from_file_location("copied_kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.cache_folder()


def test_a_change_of_a_kernel_or_of_what_it_imports_leads_to_other_kernels(copied: Path):
    def after_change(name: str) -> Path:
        with (copied / "transforms" / name).open("a") as source:
            source.write("# another line\n")
        return cache_folder(copied)

    first = cache_folder(copied)
    assert first.parent == copied / "transforms" / "__pycache__"
    assert after_change("duplicates/contents.py") == first  # no kernel needs it
    of_kernel = after_change("pairs/text_kernels.py")
    of_import = after_change("storage/blocks.py")
    of_package = after_change("rules/given.py")  # from its package its module is imported
    assert len({first, of_kernel, of_import, of_package}) == 4
    assert first.is_dir()  # an import takes nothing away


def test_where_the_sources_cannot_be_written_to_kernels_are_the_users(
    copied: Path, monkeypatch: pytest.MonkeyPatch
):
    """And a user without a place to write shares no folder with others."""
    (copied / "transforms" / "__pycache__").write_bytes(b"no folder")
    cache, shared = copied / "cache", copied / "shared"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    folder = cache_folder(copied)
    assert folder.parent == cache / "alignset"
    assert folder.name.startswith("kernels-")
    shared.mkdir()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    first, second = cache_folder(copied), cache_folder(copied)
    assert first.parent == second.parent == shared
    assert first != second  # no name that another user can foresee
    assert stat.S_IMODE(first.stat().st_mode) == stat.S_IRWXU


def test_whether_kernels_were_compiled_before(tmp_path: Path):
    tell = "from alignset.transforms.columns.kernels import WERE_COMPILED; print(WERE_COMPILED)"

    def said() -> str:
        return subprocess.run(
            [sys.executable, "-c", tell],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        ).stdout.strip()

    (tmp_path / "pairs_0").mkdir()  # numba makes it when it is asked to compile
    assert said() == "False"
    (tmp_path / "pairs_0" / "walk.1.nbc").write_bytes(b"")
    assert said() == "True"
