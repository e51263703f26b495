from pathlib import Path

import pytest

from alignset.transforms.decontamination.copy_overlap import CopyMeasure
from alignset.transforms.decontamination.embedding_overlap import EmbeddingMeasure
from alignset.transforms.decontamination.measures import measure_of
from alignset.transforms.decontamination.overlap_settings import OverlapSettings
from alignset.transforms.decontamination.perceptual_overlap import PerceptualMeasure
from tests.transforms.decontamination.test_embedding_model import onnx_model


def test_the_measure_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_of(OverlapSettings()) == CopyMeasure()
    assert measure_of(OverlapSettings(overlap_measure="phash")) == PerceptualMeasure()
    onnx_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    settings = OverlapSettings("embedding", overlap_model="model.onnx", overlap_search="buckets")
    measure = measure_of(settings)
    assert isinstance(measure, EmbeddingMeasure)
    assert measure.model.name == str(tmp_path / "model.onnx")  # workers may run in another folder
    assert measure.search == "buckets"
    assert str(tmp_path) not in str(measure.settings)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"overlap_measure": "md5"}, "overlap_measure must be one of copy, phash, embedding"),
        ({"overlap_search": "fast"}, "overlap_search must be one of exact, buckets"),
    ],
)
def test_what_there_is_not(flags: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        OverlapSettings(**flags)
