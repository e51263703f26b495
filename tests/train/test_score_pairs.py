"""Similarities of images and texts: the library's own numbers, one by one and together."""

import sys

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessor, CLIPModel

from alignset.train import score_pairs
from alignset.train.errors import SettingsError
from alignset.train.score_pairs import open_model, rule_source, similarities, similarity_rule
from alignset.transforms.rules.custom import RuleFile, limits_in
from alignset.transforms.rules.rule import Rows
from tests.support.small_embedders import saved_clip, word_tokenizer
from tests.support.small_training import pictures

TEXTS = ["a red star", "two green star", "a heart"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(saved_clip(tmp_path_factory.mktemp("clip")))


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
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "alignset.train.model.embed")
    with pytest.raises(SettingsError, match=r"pip install 'alignset\[train\]'"):
        open_model(clip)
    score_pairs.open_model.cache_clear()
