"""One line about what scoring will cost."""

from pathlib import Path

import pytest

from alignset.pipeline import scoring_cost as module
from alignset.pipeline.curate_images import DECODE_S, scoring_cost
from alignset.transforms.safety.classifier import Classifier
from alignset.transforms.safety.model_files import describe_model
from tests.support.onnx_files import write_model


@pytest.mark.parametrize(
    ("pairs", "shown"),
    [
        (0, "about 1 core-second;"),
        (59, "about 59 core-seconds;"),
        (90, "about 2 core-minutes;"),
        (3_600, "about 1.0 core-hours;"),
        (5_040, "about 1.4 core-hours;"),
        (126_720_000, "about 35,200 core-hours;"),
    ],
)
def test_the_time_in_a_unit_of_its_size(
    pairs: int, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "cpu_s_an_image", lambda self: 1.0 - DECODE_S)
    model = describe_model(str(write_model(tmp_path)))
    line = scoring_cost(model, pairs)
    assert line.startswith("unsafe images are scored: ")
    assert shown in line
    assert line.endswith("; --max_unsafe_score=1 turns it off")


def test_on_a_gpu_no_time_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        on_gpu = True

    monkeypatch.setattr(module, "open_classifier", lambda model: OnGpu())
    model = describe_model(str(write_model(tmp_path)))
    assert scoring_cost(model, 5).startswith("unsafe images are scored on a GPU; ")
