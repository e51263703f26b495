"""Embedders: each kind's embeddings are its own model's; exported files, and similarities."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    AlignModel,
    AlignProcessor,
    AlignTextModel,
    AlignVisionModel,
    AutoModel,
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPModel,
)

from alignset.train import export, score_pairs
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.evaluate.__main__ import main as evaluate
from alignset.train.export import main
from alignset.train.model import embed
from alignset.train.model.embed import BF16, AlignEmbedder, open_embedder
from alignset.train.score_pairs import open_model, rule_source, similarities, similarity_rule
from alignset.train.search.__main__ import main as search
from alignset.train.search.embed import main as search_embed
from alignset.transforms.rules.custom import RuleFile, limits_in
from alignset.transforms.rules.rule import Rows, RuleError
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


def test_devices_share_what_is_embedded_in_order(saved, monkeypatch):
    monkeypatch.setattr(embed, "usual_devices", lambda: [torch.device("cpu")] * 3)
    shares, normalize = list[int](), torch.nn.functional.normalize
    noted = lambda rows, dim: (shares.append(len(rows)), normalize(rows, dim=dim))[1]  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "normalize", noted)
    for kind in SAVERS:
        several, one = (open_embedder(saved[kind], fast=fast) for fast in (True, False))
        assert (several.devices, one.devices, several.digest) == (3, 1, one.digest)
        for count, expected in ((1, [1]), (2, [1, 1]), (7, [1, 3, 3])):
            shares.clear()
            images = several.embed_images(pictures(count))
            assert sorted(shares) == expected
            assert close(images, one.embed_images(pictures(count)), terms=TERMS)
        assert close(several.embed_texts(TEXTS), one.embed_texts(TEXTS), terms=TERMS)


def test_bf16_has_a_digest_of_its_own(saved, monkeypatch):
    assert not embed.has_bf16(torch.device("cpu"))
    for capability, has in (((7, 5), False), ((8, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, of=capability: of)
        assert embed.has_bf16(torch.device("cuda")) == has
    monkeypatch.setattr(embed, "has_bf16", lambda device: True)
    for kind in SAVERS:
        fast, exact = (open_embedder(saved[kind], fast=fast) for fast in (True, False))
        assert fast.digest == BF16 + exact.digest
        rows, expected = (each.embed_images(pictures(3)) for each in (fast, exact))
        assert 0 < abs(rows - expected).max() < 0.05  # 8 bits of each product
        assert rows.dtype == np.float32


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
    parts = embedder.embed_parts([embedder.prepare_whole(crop, "a") for crop in crops])
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


def test_what_a_model_cannot_prepare_is_named_in_one_line(saved, tmp_path: Path, capsys):
    bad = tmp_path / "bad"
    shutil.copytree(saved["AlignModel"], bad)
    for path in (bad / "preprocessor_config.json", bad / "processor_config.json"):
        config = json.loads(path.read_text())
        config.get("image_processor", config)["image_mean"] = [0.5] * 2  # of three channels
        path.write_text(json.dumps(config))
    for folder, name in (
        *(("data", n) for n in (b"red", b"sea")),
        ("odd", b"caf\xe9"),
        ("odd", b"a"),
    ):
        images = tmp_path / folder / os.fsdecode(name)
        images.mkdir(parents=True)
        pictures(1)[0].save(images / "0.png")
    (tmp_path / "names").write_text("red\nblue")
    pictures(1)[0].convert("L").save(tmp_path / "data/red/0.gif")
    data, cache = f"--data={tmp_path / 'data'}", f"--cache={tmp_path}"
    masks = f"--masks={tmp_path / 'data'}", f"--classes={tmp_path / 'names'}", cache
    index = f"--output={tmp_path / 'index'}"
    for main_of, flags, named in (
        (evaluate, ("zero_shot", data, cache), "processor of {} fails on 'red/0.gif'"),
        (evaluate, ("segmentation", data, *masks), "fails on '{}/red/0.gif'"),
        (search_embed, (data, f"--output={tmp_path / 'a.npy'}"), "fails on 'red/0.gif'"),
        (search, ("index", data, index), "fails on 'red/0.gif'"),
        (evaluate, ("zero_shot", f"--data={tmp_path / 'odd'}", cache), r"caf\udce9"),
    ):
        model = saved["AlignModel"] if "odd" in flags[1] else bad
        assert main_of([flags[0], f"--model={model}", *flags[1:]]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: the ")
        assert named.format(bad if "processor" in named else tmp_path / "data") in error


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


TWO_TEXTS = ["two green stars", "a cross"]


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
    inputs = processor(images=picture, text=TWO_TEXTS, padding=True, return_tensors="pt")
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
    tokens = tokenizer(TWO_TEXTS, padding=True, return_tensors="pt")
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


def test_what_cannot_be_exported_is_one_line(run: Path, tmp_path: Path, refused, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"")
    taken, mine = "holds something else than an export", f"--out={tmp_path / 'mine'}"
    refused(taken, main, run, mine, "--format=torchscript")
    refused("--format", main, run, f"--out={tmp_path / 'a'}", "--format=tflite")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    needed = "--format=onnx needs onnx, onnxscript: pip install 'alignset[export]'"
    refused(needed, main, run, f"--out={tmp_path / 'a'}")
    monkeypatch.undo()
    monkeypatch.setattr(export, "MOST_APART", -1.0)
    with pytest.raises(TrainingError, match="nothing was written"):
        export.export_towers(str(run), tmp_path / "a", "safetensors")
    assert not (tmp_path / "a").exists()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(saved_clip(tmp_path_factory.mktemp("clip")))


def rows_of(count: int = 3) -> Rows:
    return Rows(pixels=[np.asarray(image) for image in pictures(count)], text=TEXTS[:count])


def test_they_are_the_librarys_own(clip: str):
    model = CLIPModel.from_pretrained(clip).eval()
    images = CLIPImageProcessor.from_pretrained(clip)(pictures(3), return_tensors="pt")
    tokens = word_tokenizer()(TEXTS[:3], padding=True, return_tensors="pt")
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


def test_what_workers_get_is_a_rule_on_this_model_alone(clip: str):
    (limit,) = limits_in([RuleFile("similarity.py", rule_source(clip))])
    assert limit.name == similarity_rule(clip).name == "min_similarity"
    assert limit.measure.compute(rows_of()).tolist() == similarities(clip, "", rows_of()).tolist()
    with pytest.raises(RuleError, match="is another model on "):
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
    with pytest.raises(RuleError, match=r"pip install 'alignset\[train\]'"):
        open_model(clip)
    score_pairs.open_model.cache_clear()
