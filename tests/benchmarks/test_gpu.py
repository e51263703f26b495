"""benchmarks/gpu.py on a CPU, at tiny sizes: each of its checks gives its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.root import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)  # two minutes of CPU, beside busy neighbours
def test_each_check_gives_its_figures(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    flags = [f"--output={output}", "--device=cpu", "--small"]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/gpu.py", *flags], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found.keys() == {"step", "preset tiny", "compile"}
    preset = found["preset tiny"]
    assert preset["precision"] == "fp32"
    assert 0 < preset["peak_gb"] < 8
    assert preset["formula_gb"] > 0 < preset["operations"]
    assert (found["step"]["compile"], found["compile"]["compile"]) == (False, True)
    assert found["compile"]["sides"]["ours"]["samples/s"] > 0
    assert found["step"]["sides"]["open_clip"]["samples/s"] > 0
    assert found["step"]["sides"]["ours, cached: 16 pairs"]["samples/s"] > 0
