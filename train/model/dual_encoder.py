"""ALIGN's dual encoder: transformers.AlignModel from scratch, and how it is saved."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    AlignConfig,
    AlignModel,
    AlignProcessor,
    AlignTextConfig,
    AlignVisionConfig,
    AlignVisionModel,
    EfficientNetImageProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.align.modeling_align import round_filters
from transformers.utils import logging as transformers_logging

from alignset.train.data.batches import Inputs, TextBuckets, move_inputs
from alignset.train.data.whole_files import save_folder
from alignset.train.model.tower_layers import (
    checkpoint_activations,
    draw_first_weights,
    tower_blocks,
    use_ghost_groups,
    use_sums,
)
from alignset.train.settings import Settings
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS, ImageTower, TextTower

MEAN = STD = (0.5, 0.5, 0.5)  # pixels in [-1, 1], as TPU EfficientNets are fed
_BERT_POSITIONS = 512  # more than max_tokens, so that a user's uncut text is not an index error

# SigLIP's, so that a batch's many pairs that are none begin as such (Zhai et al., 2023).
_FIRST_BIAS = -10.0
T = TypeVar("T")
_STEM_CHANNELS = 32  # HF's stem has as many, whatever the config says


class DualEncoder(nn.Module):
    """An AlignModel whose two embeddings come out normalised, and whose temperature stays positive.

    AlignModel divides by a free parameter, which may cross zero; here its logarithm is learned, and
    `export_model` writes the temperature itself into the AlignModel.

    Args:
      align: changed in place: stochastic depth for element-wise dropout, BatchNorm by groups.
      batch_size: pairs of one step, on this process.
    """

    def __init__(self, align: AlignModel, settings: Settings, *, batch_size: int):
        super().__init__()
        self.align = align
        self.log_temperature = nn.Parameter(align.temperature.detach().log())
        self.min_temperature = settings.min_temperature
        bias = torch.tensor(getattr(align.config, "logit_bias", _FIRST_BIAS))
        self.bias = nn.Parameter(bias) if settings.loss == "sigmoid" else None
        self.bf16, self.freeze = settings.precision == "bf16", settings.freeze
        # Neither takes part in the forward pass below, and DDP waits for every gradient it expects.
        align.temperature.requires_grad_(False)
        assert align.text_model.pooler is not None  # every AlignModel has one
        align.text_model.pooler.requires_grad_(False)
        use_ghost_groups(
            align.vision_model,
            # No group spans micro-batches, so that smaller ones are groups themselves.
            group_size=min(settings.batch_norm_group_size, settings.micro_batch_size),
            batch_size=batch_size,
            momentum=settings.batch_norm_momentum,
        )
        use_stochastic_depth(align.vision_model, settings.drop_path)
        use_sums(align.vision_model)
        if settings.checkpoint_activations:
            checkpoint_activations(align, compiles=settings.compile)
        if tower := self._frozen():
            tower.requires_grad_(False)

    def _frozen(self) -> nn.Module | None:
        """The tower that is not trained."""
        towers = {"image": self.align.vision_model, "text": self.align.text_model}
        return towers.get(self.freeze)

    def train(self, mode: bool = True) -> "DualEncoder":
        """A frozen tower has no dropout, and its BatchNorms keep their statistics."""
        super().train(mode)
        if tower := self._frozen():
            tower.eval()
        return self

    @property
    def temperature(self) -> torch.Tensor:
        return self.log_temperature.exp()

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """After each step: the parameter itself, so that it can leave its floor again."""
        self.log_temperature.clamp_(min=math.log(self.min_temperature))

    def forward(
        self, inputs: Inputs, images: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """b pairs -> float[b, d] of images, float[b, d] of texts, both L2-normalised; float[], the
        temperature, or with a sigmoid's loss float[2], its bias, too.

        Args:
          images: what a frozen tower gave of them before.
        """
        inputs = move_inputs(inputs, self.log_temperature.device)
        if images is None:
            images = self._unit_rows(self.embed_images, inputs.pixels)
        scale, texts = self.temperature, self._unit_rows(self.embed_texts, inputs.texts)
        return images, texts, scale if self.bias is None else torch.stack([scale, self.bias])

    def _unit_rows(self, embed: Callable[[T], torch.Tensor], own: T) -> torch.Tensor:  # [b, d]
        device = self.log_temperature.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            rows = embed(own)
        return F.normalize(rows.float(), dim=-1)

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor:  # uint8[b, h, w, 3] -> [b, d]
        return self.align.get_image_features(scale_pixels(pixels)).pooler_output

    def embed_texts(self, texts: TextBuckets) -> torch.Tensor:  # -> [b, d]
        # All words of all buckets at once: the gradient of this embedding has a row for each piece
        # of the vocabulary, 100 MB of zeros for each time that it is looked up.
        ids = torch.cat([ids.flatten() for ids, _ in texts.buckets])  # [tokens]
        words = self.align.text_model.embeddings.word_embeddings(ids)  # [tokens, hidden]
        parts = words.split([ids.numel() for ids, _ in texts.buckets])
        rows = []
        for part, (_, mask) in zip(parts, texts.buckets, strict=True):
            # [b_i, 1, 1, t_i], what is added to scores: of a mask of one and zero transformers asks
            # whether all of it is one, and so waits for the device.
            added = torch.where(mask[:, None, None] > 0, 0.0, torch.finfo().min)
            features = self.align.get_text_features(
                inputs_embeds=part.view(*mask.shape, -1), attention_mask=added
            )
            rows.append(features.pooler_output)  # [b_i, d]
        return torch.cat(rows)[texts.place]


def scale_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """uint8[b, h, w, 3] -> float[b, 3, h, w] in [-1, 1], with the channels in front by a view: in
    memory they stay last, as convolutions like them."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def use_stochastic_depth(vision_model: AlignVisionModel, drop_path: float) -> None:
    """Blocks are dropped whole, from 0 for the first to nearly `drop_path` for the last one.

    transformers' "drop_connect" is dropout of single elements, where EfficientNet means the block.
    """
    blocks = list(tower_blocks(vision_model))
    if drop_path == 0:  # a model that is gone on with may have its own
        for block in blocks:
            block.projection.set_submodule("dropout", nn.Identity())
        return
    from timm.layers.drop import DropPath  # here, because timm takes 5 s to import

    for i, block in enumerate(blocks):
        block.projection.set_submodule("dropout", DropPath(drop_path * i / len(blocks)))


def compile_towers(align: AlignModel, settings: Settings) -> None:
    """Each by itself: images have one shape, texts one for each bucket, and one code for all. Where
    activations are checkpointed, their blocks are compiled already."""
    # The loss sets this once more in the first step (`full_precision`), and dynamo, which looks at
    # it, would compile all again.
    torch.set_float32_matmul_precision(torch.get_float32_matmul_precision())
    if not settings.checkpoint_activations:
        align.vision_model.compile()
        align.text_model.compile(dynamic=True)


def new_align(settings: Settings, vocabulary_size: int, pad_token: int = 0) -> AlignModel:
    """An AlignModel of the settings' two towers, from scratch."""
    image, text = IMAGE_TOWERS[settings.image_tower], TEXT_TOWERS[settings.text_tower]
    images = vision_config(image, settings)
    config = AlignConfig(
        vision_config=images,
        text_config=text_config(text, settings, vocabulary_size, pad_token),
        projection_dim=round_filters(images, image.channels[-1]),  # the channels that are pooled
        temperature_init_value=settings.first_temperature,
    )
    align = AlignModel(config)
    draw_first_weights(align.vision_model)
    return align


def export_model(
    model: DualEncoder,
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
    folder: Path,
    *extra: Callable[[Path], object],
) -> None:
    """Writes `folder`, whole or not at all, as AlignModel and AlignProcessor load it. The model
    is as it was: its checkpoints don't tell whether it was exported.

    Args:
      extra: writes further files to the folder.
    """
    placeholder = model.align.temperature.detach().clone()
    images = image_processor(settings)
    both = AlignProcessor(images, tokenizer)  # type: ignore[no-untyped-call]  # it has no types
    # Its bar of one file would break the run's own.
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    savers = model.align.save_pretrained, images.save_pretrained, both.save_pretrained
    if model.bias is not None:
        model.align.config.logit_bias = model.bias.item()
    with torch.no_grad():
        model.align.temperature.copy_(model.temperature)
        save_folder(folder, *savers, *extra)
        model.align.temperature.copy_(placeholder)


def image_processor(settings: Settings) -> EfficientNetImageProcessor:
    """The evaluation's images: a square resize, the central crop, pixels in [-1, 1]."""
    size = {"height": settings.resize_px, "width": settings.resize_px}
    return cropping_processor(size, settings.crop_px)


def cropping_processor(size: dict[str, int], crop_px: int) -> EfficientNetImageProcessor:
    """A processor that resizes to a size as transformers has it, and crops."""
    return EfficientNetImageProcessor(
        size=size,
        do_center_crop=True,
        crop_size={"height": crop_px, "width": crop_px},
        resample=2,  # bilinear, as in train/data/images.py
        image_mean=list(MEAN),
        image_std=list(STD),
        include_top=False,
    )


def vision_config(tower: ImageTower, settings: Settings) -> AlignVisionConfig:
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


def text_config(
    tower: TextTower, settings: Settings, vocabulary_size: int, pad_token: int = 0
) -> AlignTextConfig:
    return AlignTextConfig(
        vocab_size=vocabulary_size,
        pad_token_id=pad_token,
        hidden_size=tower.hidden,
        num_hidden_layers=tower.layers,
        num_attention_heads=tower.heads,
        intermediate_size=4 * tower.hidden,
        hidden_dropout_prob=settings.text_dropout,
        attention_probs_dropout_prob=settings.text_dropout,
        max_position_embeddings=_BERT_POSITIONS,
    )
