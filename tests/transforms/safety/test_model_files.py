"""A user's model by its two files: what is wrong is said in one line."""

import hashlib
import json
from pathlib import Path

import pytest

from alignset.transforms.safety.model_files import ModelError, describe_model
from tests.support.onnx_files import RED_IS_UNSAFE, mean_colour, write_model


def test_a_model_is_described(tmp_path: Path) -> None:
    path = write_model(tmp_path, resize=10, jpeg_quality=90)
    model = describe_model(str(path))
    assert model.sha256 == hashlib.sha256(mean_colour()).hexdigest()
    assert (model.wanted.size, model.wanted.resize, model.wanted.jpeg_quality) == (8, 10, 90)
    assert model.wanted.scale == tuple(RED_IS_UNSAFE["scale"])
    assert describe_model(str(write_model(tmp_path))).wanted.resize == 8


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"layout": "NWHC"}, "NWHC"),
        ({"output": None}, "output"),
        ({"size": 8, "resize": 7}, "got 8 and 7"),
        ({"size": 1025}, "at most 1024 px"),
        ({"unsafe_classes": []}, "unsafe_classes must be places"),
        ({"unsafe_classes": [0, 1, 0]}, "unsafe_classes has a place twice; got (0, 1, 0)"),
        ({"scale": [1, 0, 1]}, "scale must not be 0; got (1.0, 0.0, 1.0)"),
        ({"jpeg_quality": 101}, "jpeg_quality must be from 0 to 100; got 101"),
    ],
)
def test_a_wrong_description(tmp_path: Path, changed: dict, said: str) -> None:
    path = write_model(tmp_path, **changed)
    with pytest.raises(ModelError) as raised:
        describe_model(str(path))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_is_missing(tmp_path: Path) -> None:
    path = write_model(tmp_path)
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"there is no .*model\.json"):
        describe_model(str(path))
    with pytest.raises(ModelError, match=r"there is no .*other\.onnx, the model"):
        describe_model(str(tmp_path / "other.onnx"))
    with pytest.raises(ModelError, match=r"FILE\.onnx; got"):
        describe_model(str(path.with_suffix(".pt")))
    path.unlink()
    path.mkdir()
    path.with_suffix(".json").write_text(json.dumps(RED_IS_UNSAFE))
    with pytest.raises(ModelError, match=r"model\.onnx cannot be read: .*directory"):
        describe_model(str(path))
