"""A worker without what the launcher has says which package."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alignset.transforms.workers.packages import DECIDING, CheckWorker, deciding, package_versions
from tests.support.root import ROOT


def test_all_that_decides_is_compared_and_another_worker_ends_with_one_line():
    here = package_versions()
    assert here.keys() == {"python", "icu", "alignset", *DECIDING}
    assert here["numpy"] == importlib.metadata.version("numpy")
    more = package_versions(deciding("pages", "vote", "langdetect", "exact_resize", ""))
    assert more.keys() - here.keys() == {
        *("lxml", "resiliparse", "pycld2", "py3langid", "langdetect", "img2dataset")
    }
    check = CheckWorker()
    check.setup()
    assert list(check.process("a")) == ["a"]
    for name, said in (
        ("numpy", f"numpy {here['numpy']}, and the command was started with 1.0"),
        ("other", "no package other, and 1.0 is wanted"),
    ):
        check.versions = here | {name: "1.0"}
        with pytest.raises(RuntimeError, match=rf"\Aa worker has {said}: .*base\.txt.*\Z"):
            check.setup()


@pytest.mark.slow
def test_other_sources_are_another_project(tmp_path: Path):
    for room in ("alignset", "pipeline", "transforms"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, tmp_path / room, symlinks=True, ignore=ignored)
    tell = [
        sys.executable,
        "-c",
        "from alignset.transforms.workers.packages import *; print(package_versions()['alignset'])",
    ]
    same = subprocess.run(tell, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert same.strip() == package_versions()["alignset"]
    told = {same}
    for changed in (
        "pipeline/settings.py",
        "pipeline/inputs/readers.py",
        "transforms/images/examine.py",
    ):
        assert (tmp_path / changed).exists()
        with (tmp_path / changed).open("a") as source:
            source.write("# another line\n")
        other = subprocess.run(tell, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert other.stdout.startswith("sources ")
        assert other.stdout not in told
        told.add(other.stdout)
