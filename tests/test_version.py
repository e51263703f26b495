"""The version of the project, in Python and in each dataset."""

import subprocess
from pathlib import Path

import pytest

import alignset
from alignset import version
from tests.support.command import manifest
from tests.support.golden_run import Golden
from tests.support.root import ROOT


def test_a_dataset_tells_which_version_made_it(golden: Golden) -> None:
    versions = manifest(golden.output)["versions"]
    assert next(iter(versions)) == "alignset"
    assert versions["alignset"] == alignset.__version__
    assert len(versions["sources"]) == 12
    assert versions.get("commit", "") == version.commit()
    card = (golden.output / "README.md").read_text()
    assert f"\nalignset {alignset.__version__}, " in card


def test_the_commit_is_that_of_the_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version.commit.cache_clear()
    if (ROOT / ".git").exists():
        words = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
        head = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        assert version.commit().removesuffix("-dirty") == head
    monkeypatch.setattr(version, "ROOT", tmp_path)  # as where it is installed
    version.commit.cache_clear()
    assert version.commit() == ""
    (tmp_path / ".git").mkdir()  # which is not a repository
    version.commit.cache_clear()
    assert version.commit() == ""
    version.commit.cache_clear()
