"""Similarities of images and texts: the library's own numbers, one by one and together."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel

from alignset.train import score_pairs
from alignset.train.errors import SettingsError
from alignset.train.export import main as export
from alignset.train.model.embed import open_embedder
from alignset.train.model.onnx_towers import OnnxTowers
from alignset.train.score_pairs import open_model, rule_source, similarities, similarity_rule
from alignset.transforms.rules.custom import RuleFile, limits_in
from alignset.transforms.rules.rule import Rows
from tests.support.small_embedders import saved_align, saved_clip, word_tokenizer
from tests.support.small_training import pictures

TEXTS = ["a red star", "two green star", "a heart"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(saved_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def onnx(tmp_path_factory) -> tuple[str, str]:
    """A run, and its exported towers."""
    folder = tmp_path_factory.mktemp("onnx")
    saved_align(folder / "run" / "model")
    assert export([str(folder / "run"), f"--out={folder / 'towers'}"]) == 0
    return str(folder / "run"), str(folder / "towers")


def rows_of(count: int = 3) -> Rows:
    return Rows(pixels=[np.asarray(image) for image in pictures(count)], text=TEXTS[:count])


def test_they_are_the_librarys_own(clip: str):
    model = CLIPModel.from_pretrained(clip).eval()
    images = CLIPImageProcessor.from_pretrained(clip)(pictures(3), return_tensors="pt")
    tokens = word_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = model(
            pixel_values=images["pixel_values"],
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
        )
    wanted = (outputs.image_embeds * outputs.text_embeds).sum(dim=1).numpy()
    found = similarities(clip, "", rows_of())
    assert found.dtype == np.float64
    assert abs(found - wanted).max() <= 0.5e-4 + 1e-6  # four digits
    assert (found.round(4) == found).all()


def test_a_pair_has_the_same_number_in_any_batch(clip: str):
    rows = rows_of()
    alone = [
        similarities(clip, "", Rows(pixels=[p], text=[t]))[0]
        for p, t in zip(rows["pixels"], rows["text"], strict=True)
    ]
    many = Rows(pixels=rows["pixels"][::-1] * 5, text=rows["text"][::-1] * 5)
    assert similarities(clip, "", many).tolist() == alone[::-1] * 5


def test_an_image_with_several_texts_is_embedded_once(clip: str, monkeypatch: pytest.MonkeyPatch):
    embedder, seen = open_model(clip), []
    embed = embedder.embed_images
    monkeypatch.setattr(embedder, "embed_images", lambda images: seen.append(1) or embed(images))
    (pixels,) = rows_of(1)["pixels"]
    found = similarities(clip, "", Rows(pixels=[pixels, pixels.copy()] * 2, text=TEXTS[:2] * 2))
    assert len(seen) == 1
    assert found[0] == found[2] != found[1]


def test_exported_towers_give_what_the_model_gives(onnx: tuple[str, str]):
    run, towers = onnx
    model, exported = open_embedder(run), open_embedder(towers)
    assert isinstance(exported, OnnxTowers)
    assert exported.width == model.width
    texts = [model.embed_texts([text])[0] for text in TEXTS]
    assert abs(exported.embed_texts(TEXTS) - texts).max() < 1e-4
    # Pillow's bilinear is not torch's.
    assert abs(exported.embed_images(pictures(3)) - model.embed_images(pictures(3))).max() < 0.02
    assert np.isfinite(exported.embed_images([Image.new("RGB", (1, 60_000), "red")])).all()
    assert abs(similarities(towers, "", rows_of()) - similarities(run, "", rows_of())).max() < 0.02


def test_towers_that_cannot_be_used_are_one_line(onnx: tuple[str, str], tmp_path: Path):
    _, towers = onnx
    written = Path(towers, "export.json").read_text()
    image, text = ("towers", "image"), ("towers", "text")
    for at, change, says in (
        (("towers",), {"image": {}}, "'text'"),
        (image, {"file": "../nothing.onnx"}, "nothing.onnx"),
        (image, {"sha256": "0" * 64}, "is not the file"),
        ((*text, "preprocessing"), {"tokenizer": "x"}, "No such file"),
        ((), {"towers": None}, "NoneType"),
    ):
        part = said = json.loads(written)
        for name in at:
            part = part[name]
        if at == ("towers",):
            part.clear()
        part.update(change)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for path in Path(towers).iterdir():
            (folder / path.name).symlink_to(path)
        (folder / "export.json").unlink()
        (folder / "export.json").write_text(json.dumps(said))
        with pytest.raises(SettingsError, match=r"has no image and text tower") as error:
            open_embedder(str(folder))
        assert says in str(error.value)


def test_what_workers_get_is_a_rule_on_this_model_alone(clip: str):
    (limit,) = limits_in([RuleFile("similarity.py", rule_source(clip))])
    assert limit.name == similarity_rule(clip).name == "min_similarity"
    assert limit.measure.compute(rows_of()).tolist() == similarities(clip, "", rows_of()).tolist()
    with pytest.raises(ValueError, match="is another model here"):
        similarities(clip, "0" * 64, rows_of())


def test_what_is_no_number_is_an_error(clip: str, monkeypatch: pytest.MonkeyPatch):
    embedder = open_model(clip)
    width = embedder.width
    monkeypatch.setattr(embedder, "embed_texts", lambda texts: np.full((len(texts), width), np.nan))
    with pytest.raises(ValueError, match="not a number"):
        similarities(clip, "", rows_of())


def test_a_missing_package_says_what_to_install(clip: str, monkeypatch: pytest.MonkeyPatch):
    score_pairs.open_model.cache_clear()
    monkeypatch.setitem(sys.modules, "alignset.train.model.embed", None)
    with pytest.raises(SettingsError, match=r"pip install 'alignset\[train\]'"):
        open_model(clip)
    score_pairs.open_model.cache_clear()
