"""Dual encoders of other kinds, of random weights, small enough for tests."""

import json
from pathlib import Path

import open_clip
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from alignset.train.model.dual_encoder import export_model
from tests.support.small_training import SETTINGS, small_model, small_tokenizer

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "red", "green", "blue", "star", "heart", "two"]
_TOWER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
_TEXT = _TOWER | {
    "vocab_size": len(WORDS),
    "max_position_embeddings": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_IMAGE = _TOWER | {"image_size": 32, "patch_size": 8}
OPEN_CLIP_NAME = "small-of-tests"


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Each of WORDS is a token; a text is put between <start> and <end>."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    special = {"unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", model_max_length=8, **special
    )


def saved_align(folder: Path) -> Path:
    export_model(small_model(), small_tokenizer(), SETTINGS, folder)
    return folder


def saved_clip(folder: Path) -> Path:
    torch.manual_seed(2)
    model = CLIPModel(CLIPConfig(text_config=_TEXT, vision_config=_IMAGE, projection_dim=12))
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    for part in (model, CLIPImageProcessor(**sizes), word_tokenizer()):
        part.save_pretrained(folder)
    return folder


def saved_siglip(folder: Path) -> Path:
    torch.manual_seed(3)
    model = SiglipModel(SiglipConfig(text_config=_TEXT, vision_config=_IMAGE))
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    for part in (model, images, word_tokenizer()):
        part.save_pretrained(folder)
    return folder


def add_small_open_clip(folder: Path) -> None:
    """Has open_clip know the model OPEN_CLIP_NAME."""
    config = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    path = folder / f"{OPEN_CLIP_NAME}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
