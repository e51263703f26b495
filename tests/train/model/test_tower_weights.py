"""Towers that begin as others' models, made on the spot; towers that are not trained."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AlignModel,
    AlignProcessor,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizerFast,
    EfficientNetConfig,
    EfficientNetImageProcessor,
    EfficientNetModel,
    PreTrainedTokenizerFast,
)

from alignset.train.__main__ import main
from alignset.train.errors import SettingsError
from alignset.train.model.dual_encoder import new_align, text_config, vision_config
from alignset.train.model.pretrained import check_tower_weights, load_towers
from alignset.train.model.tokenizer import SPECIAL
from alignset.train.step import step_gradients
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS
from tests.support.closeness import close, summed_terms
from tests.support.small_training import SETTINGS, small_inputs, small_model, small_tokenizer
from tests.support.train_shards import colour_files, write_tar

pytestmark = pytest.mark.numeric

SMALL = (
    *("--crop_px=32", "--resize_px=36", "--batch_size=8", "--steps=3", "--warmup_steps=0"),
    *("--trackers=", "--log_every=1", "--micro_batch_size=4", "--shuffle_samples=10"),
)


@pytest.fixture(scope="module")
def efficientnet(tmp_path_factory) -> Path:
    """A model of transformers, as large as `tiny`, with statistics of its own."""
    folder = tmp_path_factory.mktemp("efficientnet")
    torch.manual_seed(5)
    sizes = vision_config(IMAGE_TOWERS["tiny"], SETTINGS).to_dict()
    model = EfficientNetModel(EfficientNetConfig(**{**sizes, "model_type": "efficientnet"}))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = small_tokenizer()
    sizes = text_config(TEXT_TOWERS["tiny"], SETTINGS, len(tokenizer)).to_dict()
    BertModel(BertConfig(**{**sizes, "model_type": "bert"})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_an_efficientnet_of_transformers(efficientnet: Path):
    align = new_align(SETTINGS, 100)
    load_towers(align, replace(SETTINGS, image_weights=str(efficientnet)))
    theirs = EfficientNetModel.from_pretrained(efficientnet).eval()
    pixels = torch.rand(2, 3, 32, 32)
    blocks = torch.nn.Identity()
    theirs.encoder.top_conv = theirs.encoder.top_bn = theirs.encoder.top_activation = blocks
    with torch.no_grad():
        expected = theirs(pixels).last_hidden_state
        found = align.vision_model.eval()(pixels).last_hidden_state
    assert close(found, expected, terms=summed_terms(align.vision_model))


def without_tokenizer(bert: Path, folder: Path) -> Path:
    shutil.copytree(bert, folder)
    for file in folder.glob("*token*"):
        file.unlink()
    return folder


def test_a_bert_with_its_tokenizer_from_elsewhere_and_a_frozen_tower_stays_put(
    efficientnet: Path, bert: Path, shards: Path, tmp_path: Path
):
    run = tmp_path / "run"
    flags = ["--shards", str(shards), "--run", str(run), *SMALL, "--freeze=image"]
    bare = without_tokenizer(bert, tmp_path / "bare")
    weights = [f"--image_weights={efficientnet}", f"--text_weights={bare}", "--max_tokens=9"]
    assert main([*flags, *weights, f"--tokenizer={bert}"]) == 0
    after = load_file(run / "model" / "model.safetensors")
    image, text = (load_file(at / "model.safetensors") for at in (efficientnet, bert))
    kept = {name: value for name, value in after.items() if name.startswith("vision_model.")}
    assert any("running_mean" in name for name in kept)
    for name, value in kept.items():
        assert torch.equal(value, image[name.removeprefix("vision_model.")]), name
    trained = "encoder.layer.0.intermediate.dense.weight"
    assert not torch.equal(after[f"text_model.{trained}"], text[trained])
    difference = (after[f"text_model.{trained}"] - text[trained]).abs().max()
    assert difference < 0.1  # it began there
    theirs = json.loads((bert / "tokenizer.json").read_text())["model"]["vocab"]
    ours = json.loads((run / "model" / "tokenizer.json").read_text())["model"]["vocab"]
    assert ours == theirs
    saved = json.loads((run / "model" / "tokenizer_config.json").read_text())
    assert saved["model_max_length"] == 9


@pytest.mark.parametrize(("freeze", "micro_batch_size"), [("image", 3), ("text", 3), ("text", 6)])
def test_only_the_other_tower_has_gradients(freeze: str, micro_batch_size: int):
    settings = replace(SETTINGS, freeze=freeze, micro_batch_size=micro_batch_size, text_dropout=0.1)
    tokenizer = small_tokenizer()
    model = small_model(settings, vocabulary_size=len(tokenizer)).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    texts = small_inputs(tokenizer).captions
    parts = [
        small_inputs(tokenizer, texts[i : i + micro_batch_size], settings)
        for i in range(0, 6, micro_batch_size)
    ]
    step_gradients(model, iter(parts), settings, 1)
    frozen = "align.vision_model" if freeze == "image" else "align.text_model"
    having = {name for name, p in model.named_parameters() if p.grad is not None}
    assert having == {
        name
        for name, p in model.named_parameters()
        if not name.startswith(frozen) and "pooler" not in name and name != "align.temperature"
    }
    changed = [n for n, buffer in model.named_buffers() if not torch.equal(buffer, before[n])]
    assert bool(changed) == (freeze == "text")


@pytest.fixture(scope="module")
def foreign_tokenizers(tmp_path_factory) -> dict[str, Path]:
    """As others save them: a Unigram like XLM-R's, a BPE of bytes like GPT-2's with start and end
    tokens, and such that a model can't be trained with."""
    texts = ["a red picture", "a blue picture", "a white picture", "น้ำตก"] * 9
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=names, unk_token="<unk>", show_progress=False
    )
    unigram.train_from_iterator(texts, trainer)
    bytes_ = Tokenizer(models.BPE())
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<start>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bytes_.train_from_iterator(texts, trainer)

    def save(name: str, of: Tokenizer, start: str, end: str, *, ends: bool = True, **more) -> Path:
        ids = [(token, of.token_to_id(token)) for token in (start, end)]
        of.post_processor = (
            processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ids)
            if ends
            else processors.ByteLevel()
        )
        folder = tmp_path_factory.mktemp(name)
        PreTrainedTokenizerFast(
            tokenizer_object=of, bos_token=start, eos_token=end, **more
        ).save_pretrained(folder)
        return folder

    own = {"pad_token": "<pad>", "unk_token": "<unk>"}
    rebuilt = tmp_path_factory.mktemp("rebuilt")  # by transformers, from its other file
    small_tokenizer().save_pretrained(rebuilt)
    said = json.loads((rebuilt / "tokenizer.json").read_text())
    said["normalizer"]["lowercase"] = False
    (rebuilt / "tokenizer.json").write_text(json.dumps(said))
    return {
        "rebuilt": rebuilt,
        "unigram": save("unigram", unigram, "<s>", "</s>", **own),
        "bytes": save("bytes", bytes_, "<start>", "<end>", pad_token="<end>"),
        "padless": save("padless", bytes_, "<start>", "<end>"),
        "endless": save("endless", bytes_, "<start>", "<end>", pad_token="<end>", ends=False),
    }


def test_a_fast_tokenizer_of_another_kind_is_taken_as_it_is(
    foreign_tokenizers: dict[str, Path], tmp_path: Path, capsys
):
    """Its pad token is the model's too, or the start token would have no embedding."""
    texts = ["a red picture", "ein rotes Bild 赤い 星星星", "น้ำตก"]
    files = colour_files(0, 8) | {f"{n}.txt": texts[1].encode() for n in range(3)}
    for n in range(3):
        files |= {f"{n}.png": files[f"{0:016x}.png"], f"{n}.json": b'{"language": "JA"}'}
    shards = write_tar(tmp_path / "shards" / "0.tar", dict(sorted(files.items()))).parent
    for name, unknown in (("unigram", True), ("bytes", False)):
        run = tmp_path / name
        flags = ["--shards", str(shards), "--run", str(run), *SMALL, "--steps=1", "--trackers="]
        assert main([*flags, f"--tokenizer={foreign_tokenizers[name]}", "--max_tokens=9"]) == 0
        theirs = AutoTokenizer.from_pretrained(foreign_tokenizers[name])
        model = AlignModel.from_pretrained(run / "model")
        loaded = AlignProcessor.from_pretrained(run / "model").tokenizer
        how = {"truncation": True, "max_length": 9}
        assert loaded(texts, truncation=True).input_ids == theirs(texts, **how).input_ids
        rows = model.text_model.embeddings.word_embeddings
        assert rows.padding_idx == theirs.pad_token_id == model.config.text_config.pad_token_id
        assert rows.weight[theirs.bos_token_id].abs().sum() > 0
        said, card = capsys.readouterr().err, (run / "model" / "README.md").read_text()
        assert ("of the tokens are unknown to the tokenizer (most in ja " in said) == unknown
        assert ("**" in card and "(most in ja " in card) == unknown
        share = json.loads((run / "unknown_tokens.json").read_text())
        assert (share["texts"], share["languages"].keys()) == (11, {"", "ja"})
        assert share["languages"]["ja"] > 0.2 if unknown else share["share"] == 0


REFUSED = [
    ("--tokenizer={rebuilt}", "does not do what its tokenizer.json says once it is a BertToken"),
    ("--tokenizer={padless}", "names no pad token"),
    ("--tokenizer={endless}", "puts no start token before a text"),
    ("--image_weights={bert}", "is of type bert: name an EfficientNet"),
    ("--text_weights={efficientnet}", "is of type efficientnet: name a BERT"),
    ("--text_weights=/nowhere/x", "at '/nowhere/x' (there is no such folder here): name a BERT"),
    ("--tokenizer={efficientnet}", "it cannot be loaded"),
    ("--text_weights={bert} --vocabulary_size=9", "is what --text_weights brings"),
    ("--freeze=both", "freeze must be"),
    ("--tokenizer=/nowhere/x", "--tokenizer=/nowhere/x: it cannot be loaded (there is no"),
    ("--image_weights={efficientnet} --image_tower=b0", "give --image_tower=tiny"),
    ("--text_weights={bert} --text_tower=mini", "give --text_tower=tiny"),
    ("--text_weights={empty}", "(it has no config.json): name a BERT"),
    ("--text_weights={bare}", "holds no tokenizer (tokenizer.json or vocab.txt): name another"),
    ("--text_weights={bare} --tokenizer={pieces}", "name its own with --tokenizer"),
]


def test_what_is_no_such_model_is_refused(
    efficientnet, bert, shards, foreign_tokenizers, tmp_path, refused
):
    (tmp_path / "empty").mkdir()
    folders = {"bert": bert, "efficientnet": efficientnet, "empty": tmp_path / "empty"}
    folders |= foreign_tokenizers
    folders |= {"bare": without_tokenizer(bert, tmp_path / "bare"), "pieces": tmp_path / "pieces"}
    other = BertTokenizerFast(vocab={piece: i for i, piece in enumerate([*SPECIAL, "a"])})
    other.save_pretrained(tmp_path / "pieces")
    run = tmp_path / "run"
    for flags, text in REFUSED:
        given = flags.format(**folders).split()
        refused(text, main, "--shards", shards, "--run", run, *SMALL, *given)
        assert not run.exists()


def test_weights_that_compute_otherwise_are_refused(efficientnet: Path, bert: Path, tmp_path: Path):
    for number, (kind, name, value, text) in enumerate(
        (
            ("text", "num_attention_heads", 4, r"--text_weights has .*\(num_attention_heads\)"),
            ("text", "hidden_act", "relu", r"\(hidden_act\)"),
            ("text", "layer_norm_eps", 1e-5, r"\(layer_norm_eps\)"),
            ("image", "strides", [2, 2, 1, 2], r"--image_weights has .*\(strides\)"),
            ("image", "batch_norm_eps", 1e-5, r"\(batch_norm_eps\)"),
            ("text", "hidden_act", "none such", "it cannot be loaded"),
            ("image", "hidden_act", "silu", ""),  # as swish is called, too
        )
    ):
        source = efficientnet if kind == "image" else bert
        at = shutil.copytree(source, tmp_path / str(number))
        config = json.loads((at / "config.json").read_text())
        (at / "config.json").write_text(json.dumps(config | {name: value}))
        settings = replace(SETTINGS, **{f"{kind}_weights": str(at)})
        align = new_align(settings, len(small_tokenizer()))
        with pytest.raises(SettingsError, match=text) if text else nullcontext():
            load_towers(align, settings)


@pytest.mark.parametrize("mean", [0.5, 0.3])
def test_a_tower_makes_of_our_pixels_what_it_made_of_its_own(
    mean: float, efficientnet: Path, tmp_path: Path
):
    """With other means and deviations by colour, but at two edges of the image; a frozen one."""
    pixels = {"image_mean": [mean, 0.5, 0.6], "image_std": [0.5, 0.229, 0.25]}
    if mean == 0.5:
        pixels = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    at = shutil.copytree(efficientnet, tmp_path / "other")
    sizes = {"size": {"height": 40, "width": 40}, "do_center_crop": False}
    processor = EfficientNetImageProcessor(include_top=mean != 0.5, **pixels, **sizes)
    processor.save_pretrained(at)
    settings = replace(SETTINGS, image_weights=str(at), freeze="image")
    check_tower_weights(settings)
    align = new_align(settings, 100)
    load_towers(align, settings)
    picture = np.random.default_rng(8).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    own = processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"]
    ours = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = EfficientNetModel.from_pretrained(efficientnet).eval().embeddings(own)
        outcome = align.vision_model.eval().embeddings(ours)
    assert expected.shape[-2:] == (20, 20)
    terms = 3 * 3 * 3 + 2  # a convolution and a BatchNorm
    assert close(outcome[..., :-1, :-1], expected[..., :-1, :-1], terms=terms)
    assert close(outcome, expected, terms=terms) == (mean == 0.5)
