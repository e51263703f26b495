"""ALIGN's image tower with a classification layer on its pooled features, and how it is saved."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AlignVisionModel, EfficientNetImageProcessor

from alignset.train.classify.labelled_images import CENTRAL_RATIO
from alignset.train.classify.settings import ClassifySettings
from alignset.train.data.whole_files import save_folder
from alignset.train.model.dual_encoder import use_stochastic_depth
from alignset.train.model.tower_layers import tower_blocks, use_ghost_groups, use_sums

_HEAD = "head.safetensors"


class ImageClassifier(nn.Module):
    """The head starts at zero: all classes are equally likely."""

    def __init__(self, tower: AlignVisionModel, classes: list[str]):
        super().__init__()
        self.tower, self.classes = tower, classes
        self.head = nn.Linear(last_block_width(tower), len(classes))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.frozen, self.train_statistics = True, True

    def prepare(self, settings: ClassifySettings, *, processes: int = 1) -> None:
        """Stochastic depth in place of element-wise dropout; BatchNorm as the settings say.

        Its momentum is that of a step, of whose batch each of the processes has a part.
        """
        use_stochastic_depth(self.tower, settings.drop_path)
        use_sums(self.tower)
        size = settings.micro_batch_size
        share = settings.batch_size // processes
        use_ghost_groups(
            self.tower, group_size=size, batch_size=share, momentum=settings.batch_norm_momentum
        )
        self.train_statistics = settings.train_statistics

    def freeze(self, frozen: bool) -> None:
        self.frozen = frozen
        self.tower.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> "ImageClassifier":
        super().train(mode)
        self.tower.train(mode and not self.frozen)
        if not self.train_statistics:
            for module in self.tower.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float[b, 3, h, w] in [-1, 1] -> float[b, classes], logits."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.tower(pixels).pooler_output  # [b, d]
        return self.head(features)


def to_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """uint8[b, h, w, 3] -> float[b, 3, h, w] in [-1, 1], with the channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def save_classifier(model: ImageClassifier, eval_px: int, folder: Path) -> None:
    """Writes `folder`, whole or not at all: an AlignVisionModel, its processor, and the head."""
    model.tower.config.id2label = dict(enumerate(model.classes))
    model.tower.config.label2id = {name: i for i, name in enumerate(model.classes)}
    head = {name: p.contiguous() for name, p in model.head.state_dict().items()}
    save_folder(
        folder,
        model.tower.save_pretrained,
        evaluation_processor(eval_px).save_pretrained,
        lambda aside: save_file(head, aside / _HEAD),
    )


def load_classifier(folder: Path) -> ImageClassifier:
    """The reverse of `save_classifier`, ready to classify."""
    tower = AlignVisionModel.from_pretrained(folder, local_files_only=True)
    # Its type is that of any config; one that was loaded has numbers for keys.
    names: dict[int, str] = tower.config.id2label  # type: ignore[assignment]
    model = ImageClassifier(tower, [names[i] for i in range(len(names))])
    model.head.load_state_dict(load_file(folder / _HEAD))
    return model.eval()


def evaluation_processor(px: int) -> EfficientNetImageProcessor:
    """The central 7/8 of the shorter side, as `labelled_images.evaluation_pixels`, in [-1, 1]."""
    return EfficientNetImageProcessor(
        size={"shortest_edge": round(px / CENTRAL_RATIO)},
        do_center_crop=True,
        crop_size={"height": px, "width": px},
        resample=2,  # bilinear
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        include_top=False,
    )


def last_block_width(tower: AlignVisionModel) -> int:
    """Channels of the last block."""
    *_, last = tower_blocks(tower)
    return last.projection.project_bn.num_features
