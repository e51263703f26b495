"""Embedders: each kind's embeddings are its own model's, and what is not a model says so in a
line."""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from transformers import AlignModel, AlignProcessor, AutoModel

from alignset.train.errors import SettingsError
from alignset.train.model.embed import AlignEmbedder, open_embedder
from tests.support.closeness import close
from tests.support.small_embedders import (
    OPEN_CLIP_NAME,
    add_small_open_clip,
    saved_align,
    saved_clip,
    saved_siglip,
    word_tokenizer,
)
from tests.support.small_training import pictures

pytestmark = pytest.mark.numeric

SAVERS = {"AlignModel": saved_align, "CLIPModel": saved_clip, "SiglipModel": saved_siglip}
TEXTS = ["a red star", "two green star", "a heart", "blue blue a star a heart two red green star"]


# No tower here has more: `tiny`, of 3,071.
TERMS = 3100


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: str(save(folder / kind)) for kind, save in SAVERS.items()}


def check_embedder(embedder, kind: str) -> None:
    images, texts = embedder.embed_images(pictures(3)), embedder.embed_texts(TEXTS)
    assert embedder.kind == kind
    assert (images.shape, texts.shape) == ((3, embedder.width), (4, embedder.width))
    assert (images.dtype, texts.dtype) == (np.float32, np.float32)
    for rows in (images, texts):
        assert close(np.linalg.norm(rows, axis=1), np.ones(len(rows)), terms=embedder.width)
    # One by one they are the same: no padding and no neighbour changes one.
    for row, text in zip(texts, TEXTS, strict=True):
        assert close(embedder.embed_texts([text])[0], row, terms=TERMS)
    for row, image in zip(images, pictures(3), strict=True):
        assert close(embedder.embed_images([image])[0], row, terms=TERMS)
    assert abs(images[0] - images[1]).max() > 1e-4
    # A line of pixels is not a reason to take all memory.
    assert np.isfinite(embedder.embed_images([Image.new("RGB", (1, 60_000), "red")])).all()


@pytest.mark.parametrize("kind", SAVERS)
def test_each_kind(kind: str, saved):
    check_embedder(open_embedder(saved[kind]), kind)


def test_an_align_models_are_those_of_its_own_forward_pass(saved):
    name = saved["AlignModel"]
    embedder = open_embedder(name)
    model = AlignModel.from_pretrained(name).eval()
    inputs = AlignProcessor.from_pretrained(name)(
        images=pictures(4), text=TEXTS, padding=True, truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        outputs = model(**inputs)
    assert close(embedder.embed_images(pictures(4)), outputs.image_embeds, terms=TERMS)
    assert close(embedder.embed_texts(TEXTS), outputs.text_embeds, terms=TERMS)
    # The class token is what the projection takes.
    assert isinstance(embedder, AlignEmbedder)
    assert not hasattr(open_embedder(saved["CLIPModel"]), "embed_class_tokens")
    tokens = torch.from_numpy(embedder.embed_class_tokens(TEXTS))
    assert tokens.shape == (4, model.config.text_config.hidden_size)
    with torch.inference_mode():
        states = model.text_model(inputs["input_ids"], inputs["attention_mask"])[0][:, 0]
        projected = torch.nn.functional.normalize(model.text_projection(states), dim=1)
    assert close(tokens, states / states.norm(dim=1, keepdim=True), terms=TERMS)
    assert close(embedder.embed_texts(TEXTS), projected, terms=TERMS)


def test_the_map_of_an_image_has_its_embedding_as_mean(saved):
    embedder = open_embedder(saved["AlignModel"])
    assert isinstance(embedder, AlignEmbedder)
    crops = [image.resize((32, 32)) for image in pictures(2)]
    parts = embedder.embed_parts(crops)
    assert parts.shape[::3] == (2, embedder.width)
    assert close(np.linalg.norm(parts, axis=-1), np.ones(parts.shape[:3]), terms=TERMS)
    model = AlignModel.from_pretrained(saved["AlignModel"]).eval()
    pixels = np.stack([np.asarray(crop) for crop in crops]).transpose(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        of_model = model.vision_model(torch.from_numpy(pixels).float())
    maps = of_model.last_hidden_state  # [2, c, h, w]
    places = maps.shape[2] * maps.shape[3]
    assert close(maps.mean(dim=(2, 3)), of_model.pooler_output, terms=places)
    unit = torch.nn.functional.normalize(maps, dim=1).permute(0, 2, 3, 1)
    assert close(parts, unit, terms=TERMS)


@pytest.mark.parametrize("kind", ["CLIPModel", "SiglipModel"])
def test_those_of_transformers_are_of_its_forward_pass(kind: str, saved):
    embedder = open_embedder(saved[kind])
    model = AutoModel.from_pretrained(saved[kind]).eval()
    padding = "max_length" if kind == "SiglipModel" else True
    tokens = word_tokenizer()(
        TEXTS[:3], padding=padding, truncation=True, max_length=8, return_tensors="pt"
    )
    masked = {"attention_mask": tokens["attention_mask"]} if kind == "CLIPModel" else {}
    pixels = np.zeros((1, 3, 32, 32), np.float32)
    with torch.inference_mode():
        outputs = model(
            input_ids=tokens["input_ids"], pixel_values=torch.from_numpy(pixels), **masked
        )
    assert close(embedder.embed_texts(TEXTS[:3]), outputs.text_embeds, terms=TERMS)


def test_open_clip(tmp_path: Path):
    add_small_open_clip(tmp_path)
    torch.manual_seed(5)
    model, _, transform = open_clip.create_model_and_transforms(OPEN_CLIP_NAME)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    name = f"open_clip:{OPEN_CLIP_NAME}"
    embedder = open_embedder(f"{name}@{tmp_path / 'weights.pt'}")
    check_embedder(embedder, "open_clip")
    with torch.inference_mode():
        rows = model.eval().encode_image(torch.stack([transform(p) for p in pictures(2)]))
    expected = torch.nn.functional.normalize(rows, dim=1)
    assert close(embedder.embed_images(pictures(2)), expected, terms=TERMS)
    assert embedder.digest != open_embedder(name).digest
    assert open_embedder(name).digest == open_embedder(name).digest
    with pytest.raises(SettingsError, match=r"nothing\.pt. is not a known tag or valid"):
        open_embedder(f"{name}@{tmp_path / 'nothing.pt'}")
    with pytest.raises(SettingsError, match="no open_clip model 'open_clip:ViT-B-3'"):
        open_embedder("open_clip:ViT-B-3")


def test_the_digest_is_of_weights_texts_and_pixels(saved, tmp_path: Path):
    before = open_embedder(saved["AlignModel"]).digest
    assert open_embedder(saved["AlignModel"]).digest == before
    copy = tmp_path / "run" / "model"
    shutil.copytree(saved["AlignModel"], copy)
    assert open_embedder(str(tmp_path / "run")).digest == before  # a run is its model
    for name in ("preprocessor_config.json", "processor_config.json"):
        config = json.loads((copy / name).read_text())
        config.get("image_processor", config)["image_mean"] = [0.0] * 3
        (copy / name).write_text(json.dumps(config))
    assert open_embedder(str(copy)).digest != before


@pytest.mark.parametrize("kind", SAVERS)
def test_a_model_without_its_tokenizer_is_refused_in_one_line(kind: str, saved, tmp_path: Path):
    shutil.copytree(saved[kind], tmp_path / "model")
    for file in tmp_path.glob("model/token*"):
        file.unlink()
    with pytest.raises(SettingsError, match="tokenizer") as error:
        open_embedder(str(tmp_path / "model"))
    assert "\n" not in str(error.value)


def test_what_is_no_model_is_refused(saved, tmp_path: Path):
    with pytest.raises(SettingsError, match=r"has no config\.json"):
        open_embedder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(SettingsError, match="is a model of type 'bert'"):
        open_embedder(str(tmp_path))
    shutil.copytree(saved["CLIPModel"], tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:999])
    with pytest.raises(SettingsError, match="no CLIPModel at"):
        open_embedder(str(tmp_path / "cut"))
