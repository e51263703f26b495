"""ALIGN's dual encoder: transformers.AlignModel from scratch, and how it is saved."""

import os
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    AlignConfig,
    AlignModel,
    AlignProcessor,
    AlignTextConfig,
    AlignVisionConfig,
    BertTokenizerFast,
    EfficientNetImageProcessor,
)

from train.presets import Settings
from train.towers import IMAGE_TOWERS, TEXT_TOWERS, ImageTower, TextTower

MEAN = STD = (0.5, 0.5, 0.5)  # pixels in [-1, 1], as TPU EfficientNets are fed
_BERT_POSITIONS = 512  # more than max_tokens, so that a user's uncut text is no index error

_STEM_CHANNELS = 32  # HF's stem has as many, whatever the config says


class DualEncoder(nn.Module):
    """An AlignModel whose two embeddings come out normalised, and whose temperature stays positive.

    AlignModel divides by a free parameter, which may cross zero; here its logarithm is learned, and
    `export_model` writes the temperature itself into the AlignModel.
    """

    def __init__(self, settings: Settings, vocabulary_size: int):
        super().__init__()
        self.align = AlignModel(_config(settings, vocabulary_size))
        self.log_temperature = nn.Parameter(torch.tensor(settings.temperature).log())
        # Neither takes part in the forward pass below, and DDP waits for every gradient it expects.
        self.align.temperature.requires_grad_(False)
        self.align.text_model.pooler.requires_grad_(False)
        for module in self.align.vision_model.modules():
            if isinstance(module, nn.BatchNorm2d):  # HF's expand_bn ignores the config's momentum
                module.momentum = settings.batch_norm_momentum
        if settings.drop_path > 0:
            from timm.layers import DropPath  # here, because timm takes 5 s to import

            for block in self.align.vision_model.encoder.blocks:
                # HF drops single elements where EfficientNet drops the block (stochastic depth).
                block.projection.dropout = DropPath(block.projection.dropout.p)

    @property
    def temperature(self) -> torch.Tensor:
        return self.log_temperature.exp()

    def forward(
        self, pixels: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """float[b, 3, h, w], int64[b, t], int64[b, t] -> float[b, d], float[b, d], float[]."""
        images = self.align.get_image_features(pixels).pooler_output  # [b, d]
        texts = self.align.get_text_features(input_ids, attention_mask).pooler_output  # [b, d]
        return F.normalize(images, dim=-1), F.normalize(texts, dim=-1), self.temperature


def export_model(
    model: DualEncoder, tokenizer: BertTokenizerFast, settings: Settings, folder: Path
) -> None:
    """Writes `folder`, whole or not at all, as AlignModel and AlignProcessor load it."""
    with torch.no_grad():
        model.align.temperature.copy_(model.temperature)
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    model.align.save_pretrained(aside)
    image_processor(settings).save_pretrained(aside)
    processor = AlignProcessor(image_processor(settings), tokenizer)
    processor.save_pretrained(aside)
    os.replace(aside, folder)


def image_processor(settings: Settings) -> EfficientNetImageProcessor:
    """The evaluation's images: a square resize, the central crop, pixels in [-1, 1]."""
    return EfficientNetImageProcessor(
        size={"height": settings.resize_px, "width": settings.resize_px},
        do_center_crop=True,
        crop_size={"height": settings.crop_px, "width": settings.crop_px},
        resample=2,  # bilinear, as in train/data.py
        image_mean=list(MEAN),
        image_std=list(STD),
        include_top=False,
    )


def _config(settings: Settings, vocabulary_size: int) -> AlignConfig:
    image = IMAGE_TOWERS[settings.image_tower]
    text = TEXT_TOWERS[settings.text_tower]
    vision_config = _vision_config(image, settings)
    return AlignConfig(
        vision_config=vision_config,
        text_config=_text_config(text, settings, vocabulary_size),
        projection_dim=_pooled_width(image),
        temperature_init_value=settings.temperature,
    )


def _vision_config(tower: ImageTower, settings: Settings) -> AlignVisionConfig:
    return AlignVisionConfig(
        image_size=settings.crop_px,
        width_coefficient=tower.width,
        depth_coefficient=tower.depth,
        in_channels=[_STEM_CHANNELS, *tower.channels[:-1]],
        out_channels=list(tower.channels),
        kernel_sizes=list(tower.kernels),
        strides=list(tower.strides),
        num_block_repeats=list(tower.repeats),
        expand_ratios=list(tower.expand),
        # Not a width: the side of the pooling window, which has to cover the last map.
        hidden_dim=settings.crop_px,
        batch_norm_momentum=settings.batch_norm_momentum,
        drop_connect_rate=settings.drop_path,
    )


def _text_config(tower: TextTower, settings: Settings, vocabulary_size: int) -> AlignTextConfig:
    return AlignTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=tower.hidden,
        num_hidden_layers=tower.layers,
        num_attention_heads=tower.heads,
        intermediate_size=4 * tower.hidden,
        hidden_dropout_prob=settings.text_dropout,
        attention_probs_dropout_prob=settings.text_dropout,
        max_position_embeddings=_BERT_POSITIONS,
    )


def _pooled_width(tower: ImageTower) -> int:
    """Channels of the last stage: EfficientNet's rounding to multiples of 8, at most 10 % down."""
    wanted = tower.channels[-1] * tower.width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8
