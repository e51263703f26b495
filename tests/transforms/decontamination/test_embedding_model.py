import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignset.transforms.decontamination.embedding_model import (
    EmbeddingModelError,
    describe_embedding_model,
    embed_each,
    open_embedder,
)
from alignset.transforms.decontamination.overlap_settings import PACKAGED
from tests.support.closeness import close
from tests.support.onnx_files import mean_colour

pytestmark = pytest.mark.numeric


def onnx_model(folder: Path, model: bytes | None = None, **described: Any) -> str:
    path = folder / "model.onnx"
    path.write_bytes(mean_colour() if model is None else model)
    given = {"size": 8, "layout": "NHWC", "mean": [0, 0, 0], "std": [1, 1, 1]} | described
    path.with_suffix(".json").write_text(json.dumps(given))
    return str(path)


def pictures(count: int, size: int = 8) -> list[np.ndarray]:
    print("seed 5")
    return list(np.random.default_rng(5).integers(0, 256, (count, size, size, 3), np.uint8))


class _Means(torch.nn.Module):
    """A map of features: the colours in quarters of the picture, twice."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        pooled = torch.nn.functional.adaptive_avg_pool2d(values, (2, 2))
        return torch.cat([pooled, pooled], dim=1)


def test_an_onnx_file(tmp_path: Path) -> None:
    path = onnx_model(tmp_path)
    model = describe_embedding_model(path)
    assert (model.width, model.wanted.size, model.wanted.resize) == (3, 8, 8)
    assert model.sha256 == hashlib.sha256(mean_colour()).hexdigest()
    shown = pictures(5)
    made = embed_each(shown, model)
    means = np.array([picture.mean(axis=(0, 1)) / 255 for picture in shown])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    assert close(made, expected, terms=8 * 8 + 3)  # the mean of 8x8 pixels, and a length
    assert (np.stack([embed_each([one], model)[0] for one in shown]) == made).all()
    assert embed_each([], model).shape == (0, 3)


def test_a_torchscript_file_and_a_map_of_features(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(_Means()).save(str(path))
    path.with_suffix(".json").write_text(json.dumps({"size": 16, "std": [1, 1, 1]}))
    model = describe_embedding_model(str(path))
    assert model.width == 6
    shown = pictures(3, 16)
    mean = np.array([0.485, 0.456, 0.406])
    means = np.array([picture.mean(axis=(0, 1)) / 255 - mean for picture in shown])
    means = np.tile(means, 2)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    # Means of 8x8 pixels of at most 1, and a length, by which they are divided.
    made, scale = embed_each(shown, model), 1 / lengths.min()
    assert close(made, means / lengths, terms=8 * 8 + 6, scale=scale)


def test_a_model_of_timm_and_its_own_input(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    made = timm.create_model("test_vit", num_classes=0)
    asked = []

    def create(name: str, **settings: Any) -> torch.nn.Module:
        asked.append((name, settings))
        return made

    monkeypatch.setattr(timm, "create_model", create)  # the weights would be downloaded
    model = describe_embedding_model("timm:test_vit")
    assert asked == [("test_vit", {"pretrained": True, "num_classes": 0})]
    assert model.wanted.size == timm.data.resolve_model_data_config(made)["input_size"][1]
    assert model.width == made.num_features
    assert len(model.sha256) == 64


def test_the_packaged_model_sees_what_is_in_a_photograph() -> None:
    """Photographs of cats are nearer to each other than to one of coffee."""
    import skimage.data
    from PIL import Image

    model = describe_embedding_model(PACKAGED)
    assert (model.width, model.wanted.size) == (1280, 224)
    cat, coffee = (
        Image.fromarray(photograph).resize((224, 224))
        for photograph in (skimage.data.chelsea(), skimage.data.coffee())
    )
    turned = cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    made = embed_each([np.asarray(one) for one in (cat, turned, coffee)], model)
    same, other = made[0] @ made[1], made[0] @ made[2]
    assert same > 0.8 > 0.5 > other


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ({"size": 0}, "size must be from 1"),
        ({"size": 9, "resize": 8}, "size must be from 1"),
        ({"std": [1, 0, 1]}, "std must be above 0"),
        ({"layout": "CHWN"}, "layout"),
        ({"size": 16}, "failed on a picture of 16 px"),
        ({"layout": "NCHW"}, "failed on a picture of 8 px"),
    ],
)
def test_a_description_that_does_not_fit_is_one_line(
    tmp_path: Path, described: dict[str, Any], says: str
) -> None:
    with pytest.raises(EmbeddingModelError, match=says) as error:
        describe_embedding_model(onnx_model(tmp_path, **described))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no whole ONNX model"),
        (mean_colour()[:-9], "no whole ONNX model"),
        (mean_colour(("n", 8)), "no whole ONNX model"),
        (mean_colour(kind=11), "takes picture: tensor"),
    ],
)
def test_a_file_that_is_no_such_model_is_one_line(tmp_path: Path, body: bytes, says: str) -> None:
    with pytest.raises(EmbeddingModelError, match=says) as error:
        describe_embedding_model(onnx_model(tmp_path, body))
    assert "\n" not in str(error.value)


def test_what_is_not_there_or_has_no_such_name(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    for name, says in (
        (f"{tmp_path}/folder.onnx", "folder.onnx cannot be read: .*directory"),
        (f"{tmp_path}/a.onnx", "there is no file .*a.onnx"),
        ("resnet50", "must be efficientnet-lite0, FILE.onnx"),
        ("timm:no_such_model", "timm cannot make timm:no_such_model"),
    ):
        with pytest.raises(EmbeddingModelError, match=says):
            describe_embedding_model(name)
    (tmp_path / "b.pt").write_bytes(b"PK")
    with pytest.raises(EmbeddingModelError, match="no whole TorchScript file"):
        describe_embedding_model(f"{tmp_path}/b.pt")


def test_a_worker_with_another_file_stops(tmp_path: Path) -> None:
    model = describe_embedding_model(onnx_model(tmp_path))
    open_embedder.cache_clear()
    onnx_model(tmp_path, mean_colour(("m", 8, 8, 3)))
    with pytest.raises(EmbeddingModelError, match="give each worker the same model"):
        open_embedder(model)
