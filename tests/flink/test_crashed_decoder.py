"""A decoder that crashes on a Flink cluster: the job begins again, and ends by itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flink.cluster import PARTS
from flink.runs import cluster
from tests.support.command import ROOT
from tests.support.crashed_decoder import FOLDER, crashing_pairs
from tests.support.small_web import SmallWeb


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_image_costs_only_itself(web: SmallWeb, tmp_path: Path):
    assert (PARTS / "ready").exists(), "Flink is not here: make .flink/ready"
    crashing = crashing_pairs(web, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FOLDER)
        with cluster("crash") as flink, (tmp_path / "log").open("w") as log:
            output = os.path.relpath(tmp_path / "set", ROOT)
            args = [*crashing.flags, *flink.flags(), "--parallelism=2", f"--output={output}"]
            command = [sys.executable, "beam_runner.py", *args]
            status = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log).returncode
            said = (tmp_path / "log").read_text()
            workers = (flink.folder / "workers.log").read_text()
    assert status == 0, said
    assert f"a decoder crashes at {crashing.url}: please report it" in workers
    crashing.check(tmp_path / "set")
