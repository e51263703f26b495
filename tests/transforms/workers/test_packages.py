"""A worker without what the launcher has says which package."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alignset.transforms.workers.packages import (
    DECIDING,
    CheckWorker,
    deciding,
    differing,
    installed,
)
from tests.support.root import ROOT


@pytest.mark.parametrize(
    ("here", "said"),
    [
        ({"numpy": "2.4.0", "eldc": "0.4", "other": "1"}, ""),
        ({"numpy": "2.4.0"}, "a worker has no package eldc, and 0.4 is wanted"),
        (
            {"numpy": "2.3.1", "eldc": "0.4"},
            "a worker has numpy 2.3.1, and the command was started with 2.4.0",
        ),
    ],
)
def test_the_first_difference_is_named(here: dict[str, str], said: str):
    assert differing({"numpy": "2.4.0", "eldc": "0.4"}, here) == said


def test_all_that_decides_is_looked_at():
    here = installed()
    assert here.keys() == {"python", "alignset", *DECIDING}
    assert here["numpy"] == importlib.metadata.version("numpy")
    assert installed(deciding(True)).keys() - here.keys() == {"img2dataset"}


def test_a_worker_like_the_launcher_hands_elements_on():
    check = CheckWorker()
    check.setup()
    assert list(check.process("a")) == ["a"]


def test_another_worker_ends_with_one_line():
    check = CheckWorker()
    check.wanted = check.wanted | {"numpy": "1.0"}
    with pytest.raises(RuntimeError) as raised:
        check.setup()
    assert str(raised.value).count("\n") == 0
    assert "a worker has numpy" in str(raised.value)
    assert "requirements/base.txt" in str(raised.value)


@pytest.mark.slow
def test_other_sources_are_another_project(tmp_path: Path):
    for room in ("alignset", "pipeline", "transforms"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    tell = [
        sys.executable,
        "-c",
        "from alignset.transforms.workers.packages import *; print(installed()['alignset'])",
    ]
    same = subprocess.run(tell, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert same.strip() == installed()["alignset"]
    told = {same}
    for changed in (
        "pipeline/rules.py",
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
