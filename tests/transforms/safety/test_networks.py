"""The networks of a classifier: an image's score is its own, in every batch and thread."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alignset.transforms.safety.model_files import (
    INTEGER_FILE,
    OPEN_NSFW,
    describe_model,
    open_nsfw_path,
)
from alignset.transforms.safety.networks import FloatNetwork, IntegerNetwork
from tests.support.closeness import close
from tests.support.onnx_files import mean_colour, write_model
from tests.support.skin_pictures import skin_picture

pytestmark = pytest.mark.numeric

# By onnxruntime 1.32 on an AMD EPYC with AVX2. No CPU and no version may give others.
SCORES = {
    0: 0.0774,
    1: 0.0014,
    3: 0.0952,
    6: 0.1185,
    7: 0.0006,
    16: 0.0156,
    20: 0.0517,
    26: 0.0455,
    27: 0.1171,
    36: 0.0173,
}
EMULATED = """
import json, sys
from alignset.transforms.safety.model_files import INTEGER_FILE
from alignset.transforms.safety.networks import IntegerNetwork
from tests.support.skin_pictures import skin_picture
pictures = [skin_picture(int(seed)) for seed in sys.argv[1:]]
print(json.dumps(IntegerNetwork(INTEGER_FILE.read_bytes()).scores(pictures)))
"""


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    return IntegerNetwork(INTEGER_FILE.read_bytes())


def test_the_scores_of_known_pictures(network: IntegerNetwork) -> None:
    assert dict(zip(SCORES, network.scores([*map(skin_picture, SCORES)]), strict=True)) == SCORES
    assert min(SCORES.values()) < 0.001 < 0.05 < max(SCORES.values())


@pytest.mark.parametrize("batch", [1, 2, 7, 16])
def test_no_batch_changes_a_score(batch: int, network: IntegerNetwork) -> None:
    # Beside noise, whose activations are others.
    noise = list(np.random.default_rng(batch).integers(0, 256, (batch - 1, 224, 224, 3), np.uint8))
    for seed in list(SCORES)[:2]:
        place = seed % batch
        pictures = [*noise[:place], skin_picture(seed), *noise[place:]]
        assert network.scores(pictures)[place] == SCORES[seed]
    assert network.scores([]) == []


def test_the_scores_are_near_those_in_float(network: IntegerNetwork) -> None:
    pictures = [skin_picture(seed) for seed in SCORES]
    in_float = FloatNetwork(Path(open_nsfw_path()).read_bytes(), OPEN_NSFW.wanted).scores(pictures)
    assert network.scores(pictures) == [pytest.approx(score, abs=0.06) for score in in_float]


def test_probabilities_and_scores_in_float_are_of_the_same_classes(tmp_path: Path) -> None:
    wanted = describe_model(str(write_model(tmp_path, unsafe_classes=[1]))).wanted
    pictures = list(np.random.default_rng(5).integers(0, 256, (3, 8, 8, 3), np.uint8))
    network, shares = FloatNetwork(mean_colour(), wanted), np.stack(pictures).mean((1, 2)) / 255
    assert close(network.probabilities(pictures), shares, terms=8 * 8)
    # Rounded to 4 digits.
    assert network.scores(pictures) == [pytest.approx(share, abs=0.51e-4) for share in shares[:, 1]]
    assert network.scores([]) == []


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="qemu-user is not installed")
def test_a_cpu_without_vnni_gives_the_same_scores() -> None:
    command = ["qemu-x86_64", "-cpu", "Haswell", sys.executable, "-c", EMULATED]
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [*command, *map(str, SCORES)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert json.loads(run.stdout) == list(SCORES.values())
