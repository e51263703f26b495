from pathlib import Path

import pytest

from alignset.transforms.decontamination.copy_overlap import CopyMeasure
from alignset.transforms.decontamination.embedding_overlap import EmbeddingMeasure
from alignset.transforms.decontamination.measures import measure_of
from alignset.transforms.decontamination.overlap_settings import OverlapSettings
from alignset.transforms.decontamination.perceptual_overlap import PerceptualMeasure
from tests.transforms.decontamination.test_embedding_overlap import onnx_model


def test_the_measure_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_of(OverlapSettings()) == CopyMeasure()
    assert measure_of(OverlapSettings(overlap_measure="phash")) == PerceptualMeasure()
    onnx_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    measure = measure_of(OverlapSettings("embedding", overlap_model="model.onnx"))
    assert isinstance(measure, EmbeddingMeasure)
    assert measure.path == str(tmp_path / "model.onnx")  # workers may run in another folder
    assert str(tmp_path) not in str(measure.settings)
    again = measure_of(OverlapSettings("embedding", overlap_model=measure.path))
    assert hash(measure) == hash(again)
    for name, says in (("md5", "must be one of copy, phash, emb"), ("embedding", "needs a model")):
        with pytest.raises(ValueError, match=says):
            OverlapSettings(overlap_measure=name)
