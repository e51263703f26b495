"""Towers as files: what they compute, what is said of them, and what is refused."""

import contextlib
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AlignModel, AlignProcessor, AlignTextModel, AlignVisionModel, AutoTokenizer

from alignset.train import export
from alignset.train.errors import TrainingError
from alignset.train.export import main
from tests.support.small_embedders import saved_align

TEXTS = ["two green stars", "a cross"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    saved_align(folder / "run" / "model")
    return folder / "run"


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    return Image.fromarray(pixels)


def prepared(picture: Image.Image, said: dict) -> torch.Tensor:
    """float32[1, 3, h, w], by what export.json says alone."""
    size = said["resize"]
    assert said["interpolation"] == "bilinear"
    image = picture.resize((size["width"], size["height"]), Image.Resampling.BILINEAR)
    crop = said["centre_crop"]
    left, top = ((size[side] - crop[side]) // 2 for side in ("width", "height"))
    image = image.crop((left, top, left + crop["width"], top + crop["height"]))
    pixels = np.asarray(image, np.float32) * said["scale"]
    pixels = (pixels - said["mean"]) / said["std"]
    return torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32)


def expected(run: Path, picture: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    """As a user of transformers computes both embeddings."""
    model = AlignModel.from_pretrained(run / "model").eval()
    processor = AlignProcessor.from_pretrained(run / "model")
    inputs = processor(images=picture, text=TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        images = model.get_image_features(inputs["pixel_values"]).pooler_output
        texts = model.get_text_features(
            inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).pooler_output
    unit = torch.nn.functional.normalize
    return unit(images, dim=-1), unit(texts, dim=-1)


def written_by_torch(format_: str, run: Path, out: Path) -> dict:
    """Exports towers; returns what is printed of them."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([str(run), f"--out={out}", f"--format={format_}"]) == 0
    return json.loads(printed.getvalue())


@pytest.fixture(scope="module")
def onnx(run: Path) -> Path:
    """The towers as ONNX files; writing them takes 10 s of CPU."""
    out = run.parent / "onnx"
    assert written_by_torch("onnx", run, out) == json.loads((out / "export.json").read_text())
    return out


@pytest.mark.parametrize("format_", ["torchscript", "onnx"])
def test_a_program_without_this_project_computes_the_same(
    format_: str, run: Path, onnx: Path, picture: Image.Image, tmp_path: Path
):
    out = onnx
    if format_ == "torchscript":
        out = tmp_path / "out"
        written_by_torch(format_, run, out)
    document = json.loads((out / "export.json").read_text())
    towers = document["towers"]
    assert max(of["largest_difference"] for of in towers.values()) <= 1e-4
    pixels = prepared(picture, towers["image"]["preprocessing"])
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
    given = ((pixels,), (tokens["input_ids"], tokens["attention_mask"]))
    for of, inputs, wanted in zip(towers.values(), given, expected(run, picture), strict=True):
        shape = next(iter(of["inputs"].values()))["shape"]
        assert shape[2:] == list(inputs[0].shape)[2:]
        path = out / of["file"]
        if format_ == "onnx":
            session = onnxruntime.InferenceSession(path)
            names = [each.name for each in session.get_inputs()]
            assert names == list(of["inputs"])
            fed = {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
            found = torch.from_numpy(session.run(["embeddings"], fed)[0])
        else:
            found = torch.jit.load(path)(*inputs)
        assert found.shape == wanted.shape == (len(inputs[0]), document["width"])
        assert (found - wanted).abs().max() < 0.02  # Pillow's bilinear is not torch's
    assert (found - wanted).abs().max() < 1e-5  # of texts


def test_weights_alone(run: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    flags = [str(run / "model"), f"--out={out}", "--format=safetensors", "--tower=image"]
    assert main(flags) == 0
    beside = tmp_path / "out.old"
    beside.mkdir()
    for path in (out / "my_engine.plan", out / "text.onnx", beside / "notes.txt"):
        path.write_bytes(b"a")
    assert main(flags) == 0  # an export is replaced, and what its owner put there stays
    names = sorted(path.name for path in out.iterdir())
    assert names == ["export.json", "image.safetensors", "my_engine.plan"]
    assert [*beside.iterdir()]
    model = AlignModel.from_pretrained(run / "model")
    for name, value in load_file(out / "image.safetensors").items():
        assert torch.equal(value, model.state_dict()[name])
    # By transformers, which without the mapping draws all weights at random.
    for kind, tower in ((AlignVisionModel, "vision_model"), (AlignTextModel, "text_model")):
        mapping = {f"^{tower}\\.": ""}
        loaded = kind.from_pretrained(run / "model", key_mapping=mapping).state_dict()
        wanted = getattr(model, tower).state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in wanted.items())


def test_what_cannot_be_exported_is_one_line(run: Path, tmp_path: Path, capsys, monkeypatch):
    def refused(*flags: str) -> str:
        assert main([str(run), *flags]) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        return printed

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"")
    taken = refused(f"--out={tmp_path / 'mine'}", "--format=torchscript")
    assert "holds something else than an export" in taken
    assert "--format" in refused(f"--out={tmp_path / 'a'}", "--format=tflite")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    needed = refused(f"--out={tmp_path / 'a'}")
    assert "--format=onnx needs onnx, onnxscript: pip install 'alignset[export]'" in needed
    monkeypatch.undo()
    monkeypatch.setattr(export, "MOST_APART", -1.0)
    with pytest.raises(TrainingError, match="nothing was written"):
        export.export_towers(str(run), tmp_path / "a", "safetensors")
    assert not (tmp_path / "a").exists()
