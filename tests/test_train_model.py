"""The model: what it is made of, and that a user's AlignModel sees what we trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AlignModel, AlignProcessor
from transformers.models.align.modeling_align import round_filters

from train.data import Batch, Position, resize_square
from train.errors import SettingsError
from train.loop import to_tensors
from train.loss import contrastive_loss
from train.model import DualEncoder, _pooled_width, _vision_config, export_model, image_processor
from train.optimizer import learning_rate, make_optimizer
from train.presets import TINY, Settings
from train.tokenizer import learn_tokenizer
from train.towers import IMAGE_TOWERS

TEXTS = [
    "two green stars",
    "a red heart",
    "Three blue circles above a star",
    "no",
    "a cross",
    "one",
]
SETTINGS = replace(TINY, resize_px=40, crop_px=32, batch_size=len(TEXTS), vocabulary_size=100)


torch.set_num_threads(1)  # more only get in each other's way on models this small


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer(lambda: TEXTS, vocabulary_size=100, max_tokens=SETTINGS.max_tokens)


@pytest.fixture
def model(tokenizer) -> DualEncoder:
    torch.manual_seed(1)
    return DualEncoder(SETTINGS, len(tokenizer))


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, (6, 7, 3)).astype(np.uint8) for _ in TEXTS]
    return [Image.fromarray(pixels).resize((90, 70)) for pixels in noise]


def central_batch() -> Batch:
    """As the training loop gets them, but with the evaluation's crop."""
    crops = [resize_square(image, 40)[4:36, 4:36] for image in pictures()]
    return Batch(np.stack(crops), TEXTS, Position())


def test_overfits_one_batch(model, tokenizer):
    inputs = to_tensors(central_batch(), tokenizer, SETTINGS, torch.device("cpu"))
    optimizer = make_optimizer(model.train(), replace(SETTINGS, learning_rate=2e-3))
    first = None
    for _ in range(40):
        loss = contrastive_loss(*model(*inputs), label_smoothing=0.0)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first > 1.5  # log 6 = 1.79 is not knowing anything
    assert loss.item() < 0.05


def test_every_trained_parameter_gets_a_gradient(model, tokenizer):
    # DDP waits for ever for one that gets none.
    inputs = to_tensors(central_batch(), tokenizer, SETTINGS, torch.device("cpu"))
    contrastive_loss(*model.train()(*inputs)).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_users_align_model_scores_as_ours(model, tokenizer, tmp_path: Path):
    with torch.no_grad():
        model.log_temperature.fill_(np.log(0.031))
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)  # else a model that loses them would pass
        norm.running_var.uniform_(0.5, 2)
    export_model(model, tokenizer, SETTINGS, tmp_path / "model")
    theirs = AlignModel.from_pretrained(tmp_path / "model").eval()
    processor = AlignProcessor.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        inputs = processor(images=pictures(), text=TEXTS, return_tensors="pt")
        scores = theirs(**inputs).logits_per_image
        ours = to_tensors(central_batch(), tokenizer, SETTINGS, torch.device("cpu"))
        images, texts, temperature = model.eval()(*ours)
        expected = images @ texts.T / temperature
    assert inputs["pixel_values"].shape == (len(TEXTS), 3, 32, 32)
    # Torchvision's and Pillow's resizing differ by one grey level here and there.
    assert torch.allclose(inputs["pixel_values"], ours[0], atol=2.1 / 127.5)
    assert torch.equal(scores.argsort(dim=1), expected.argsort(dim=1))
    assert theirs.temperature.item() == pytest.approx(0.031, rel=1e-5)
    with torch.no_grad():
        same = theirs(
            pixel_values=ours[0], **{k: inputs[k] for k in ("input_ids", "attention_mask")}
        )
    assert torch.allclose(same.logits_per_image, expected, atol=1e-4)


def test_texts_beyond_max_tokens_are_cut_and_padding_changes_nothing(model, tokenizer):
    texts = ["a red heart " * 40, "a red heart"]
    batch = Batch(np.zeros((2, 32, 32, 3), np.uint8), texts, Position())
    pixels, ids, mask = to_tensors(batch, tokenizer, SETTINGS, torch.device("cpu"))
    assert ids.shape == (2, SETTINGS.max_tokens)
    alone = to_tensors(
        Batch(batch.pixels[1:], texts[1:], Position()), tokenizer, SETTINGS, torch.device("cpu")
    )
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(pixels, ids, mask)[1][1:], model(*alone)[1], atol=1e-6)


def test_all_batch_norms_have_the_momentum_and_no_dropout_is_element_wise(tokenizer):
    model = DualEncoder(replace(SETTINGS, batch_norm_momentum=0.01, drop_path=0.2), 100)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.01}
    vision = list(model.align.vision_model.modules())
    assert not any(isinstance(m, nn.Dropout) for m in vision)


@pytest.mark.parametrize("name", IMAGE_TOWERS)
def test_pooled_width_is_what_hf_makes(name: str):
    tower = IMAGE_TOWERS[name]
    config = _vision_config(tower, Settings())
    assert _pooled_width(tower) == round_filters(config, config.out_channels[-1])


def test_the_papers_image_tower_is_efficientnet_b7_without_its_head():
    # EfficientNet-B7 has 66,347,960 parameters (torchvision's table); its head is a 1x1 convolution
    # of 640 x 2560, its BatchNorm's 2 x 2560, and a classifier of 2560 x 1000 + 1000.
    with torch.device("meta"):
        model = DualEncoder(Settings(), 100)
    count = sum(p.numel() for p in model.align.vision_model.parameters())
    assert count == 66_347_960 - 640 * 2560 - 2 * 2560 - 2560 * 1000 - 1000
    assert image_processor(Settings()).crop_size["height"] == 289


def test_lamb_takes_a_step_and_exempts_vectors():
    model = DualEncoder(SETTINGS, 100)
    decayed, exempt = make_optimizer(model, replace(SETTINGS, optimizer="lamb")).param_groups
    assert {p.ndim for p in exempt["params"]} == {0, 1}
    assert min(p.ndim for p in decayed["params"]) == 2
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (SETTINGS.weight_decay, 0.0)


def test_learning_rate_by_hand():
    settings = replace(TINY, learning_rate=1.0, warmup_steps=4, steps=8)
    rates = [learning_rate(step, settings) for step in range(1, 9)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2])
    assert learning_rate(1, replace(settings, warmup_steps=0)) == pytest.approx(8 / 9)
    assert learning_rate(8, replace(settings, warmup_steps=100)) == 1.0


def test_unknown_tower_is_refused():
    with pytest.raises(SettingsError, match="image_tower must be one of"):
        replace(SETTINGS, image_tower="b9")
