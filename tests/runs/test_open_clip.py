"""open_clip's own command trains on a dataset as it is, beside the packages that it asks for."""

import importlib.metadata
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.command import kept
from tests.support.golden_run import Golden

BATCH = 16
# The smallest that it makes: a layer in each tower. The vocabulary is that of its tokenizer.
TINY = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 32,
        "head_width": 16,
        "patch_size": 16,
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.mark.parametrize(
    "needed", importlib.metadata.requires("open-clip-torch") or [], ids=lambda text: text
)
def test_the_packages_are_those_that_open_clip_trains_with(needed: str):
    """It reads nothing with webdataset > 0.2.86: `KeyError: 'fname'`."""
    requirement = Requirement(needed)
    if requirement.marker is None or requirement.marker.evaluate({"extra": "training"}):
        assert requirement.specifier.contains(importlib.metadata.version(requirement.name))


@pytest.mark.slow
def test_open_clips_command_trains_on_a_set(plain: Golden, tmp_path: Path):
    last, pairs = len(list(plain.output.glob("shards/*.tar"))) - 1, len(kept(plain.output))
    assert last > 0
    (tmp_path / "tiny").mkdir()
    told = {"model_cfg": TINY, "preprocess_cfg": {}}
    (tmp_path / "tiny" / "open_clip_config.json").write_text(json.dumps(told))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "open_clip_train.main", "--dataset-type=webdataset"),
            f"--train-data={plain.output}/shards/{{00000..{last:05d}}}.tar",
            *(f"--train-num-samples={pairs}", f"--batch-size={BATCH}", "--workers=1"),
            *(f"--model=local-dir:{tmp_path}/tiny", "--precision=fp32", "--device=cpu"),
            *("--epochs=1", "--warmup=2", "--log-every-n-steps=1", f"--logs={tmp_path}/logs"),
        ],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    losses = [float(loss) for loss in re.findall(r" Loss: (\S+)", said)]
    assert len(losses) == math.ceil(pairs / BATCH) > 1, said[-2000:]
    assert all(map(math.isfinite, losses))
    scales = re.findall(r"Logit Scale: (\S+)", said)
    assert scales[0] != scales[-1]  # the steps moved what is learned
