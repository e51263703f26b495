"""The model: what it is made of, and that a user's AlignModel sees what we trained."""

from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AlignModel, AlignProcessor

from alignset.train.loss import contrastive_loss
from alignset.train.model.dual_encoder import DualEncoder, compile_towers, export_model, new_align
from alignset.train.optim.optimizer import make_optimizer
from alignset.train.settings import Settings
from alignset.train.towers import TEXT_TOWERS
from tests.support.closeness import close, summed_terms
from tests.support.small_training import (
    SETTINGS,
    TEXTS,
    pictures,
    small_inputs,
    small_model,
    small_tokenizer,
)

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture
def model(tokenizer):
    return small_model(vocabulary_size=len(tokenizer))


@pytest.fixture
def model_there(device, tokenizer):
    model = small_model(vocabulary_size=len(tokenizer))
    return model.to(device)


def test_overfits_one_batch(model_there, tokenizer):
    model = model_there
    inputs = small_inputs(tokenizer)
    optimizer = make_optimizer(model.train(), replace(SETTINGS, learning_rate=2e-3))
    first = None
    for _ in range(25):
        loss = contrastive_loss(*model(inputs), label_smoothing=0.0)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # DDP waits for ever for one that gets none.
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not any(p.requires_grad for p in model.align.text_model.pooler.parameters())
    assert first > 1.5  # log 6 = 1.79 is not knowing anything
    assert loss.item() < 0.2


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
        inputs = processor(images=pictures(len(TEXTS)), text=TEXTS, return_tensors="pt")
        scores = theirs(**inputs).logits_per_image
        ours = small_inputs(tokenizer)
        images, texts, temperature = model.eval()(ours)
        expected = images @ texts.T / temperature
    assert inputs["pixel_values"].shape == (len(TEXTS), 3, 32, 32)
    # Torchvision's and Pillow's resizing differ by one grey level here and there.
    pixels = ours.pixels.permute(0, 3, 1, 2) / 127.5 - 1
    assert torch.allclose(inputs["pixel_values"], pixels, atol=2.1 / 127.5)
    assert torch.equal(scores.argsort(dim=1), expected.argsort(dim=1))
    # exp(log(x)): float32's rounding of a logarithm up to 3.5, and of the exponential.
    assert close(theirs.temperature, 0.031, terms=5)
    with torch.no_grad():
        same = theirs(**inputs | {"pixel_values": pixels})
    terms = summed_terms(model)
    assert close(same.logits_per_image, expected, terms=terms, scale=1 / 0.031)


def test_temperature_stays_above_its_floor_and_can_leave_it():
    model = small_model(replace(SETTINGS, temperature=0.1, min_temperature=0.05))
    assert close(model.temperature, 0.1, terms=5)
    with torch.no_grad():
        model.log_temperature -= 9.0
    model.clamp_temperature()
    assert close(model.temperature, 0.05, terms=5)
    model.temperature.backward()
    assert close(model.log_temperature.grad, 0.05, terms=5)  # d exp(x) = exp(x)


def test_no_dropout_of_the_image_tower_is_element_wise():
    # transformers drops elements where EfficientNet drops the block for an image.
    model = small_model(replace(SETTINGS, drop_path=0.4))
    assert not any(isinstance(m, nn.Dropout) for m in model.align.vision_model.modules())
    blocks = model.align.vision_model.encoder.blocks
    drops = [block.projection.dropout for block in blocks]
    assert [drop.drop_prob for drop in drops] == pytest.approx([0.4 * i / 6 for i in range(6)])
    rows = drops[-1].train()(torch.ones(2000, 3, 2, 2)).flatten(1)  # [2000, 12]
    assert torch.equal(rows, rows[:, :1].expand_as(rows))  # of one image all or nothing
    kept = rows[:, 0].unique()
    assert close(kept, np.array([0.0, 1 / (1 - 0.4 * 5 / 6)]), terms=3)
    assert torch.equal(drops[-1].eval()(torch.ones(2, 1, 1, 1)), torch.ones(2, 1, 1, 1))
    align = new_align(replace(SETTINGS, drop_path=0.3), 100)  # a model that is gone on with
    DualEncoder(align, replace(SETTINGS, drop_path=0.0), batch_size=6)
    assert not any(isinstance(m, nn.Dropout) for m in align.vision_model.modules())


# With their head, as torchvision's table has them, and L2 as timm has it: a 1x1 convolution to 4
# times the width, its BatchNorm, and a classifier of 1000. Millions, with BERT's head for masked
# words: Turc et al., 2019; large: Devlin et al., 2019.
TOWERS = [
    ("b0", 5_288_548, "mini", 11.3),
    ("b3", 12_233_232, "small", 29.1),
    ("b5", 30_389_784, "medium", 41.7),
    ("b7", 66_347_960, "base", 110.1),
    ("l2", 480_309_308, "large", 340),
]


@pytest.mark.parametrize(("image", "of_image", "text", "of_text"), TOWERS)
def test_towers_have_as_many_parameters_as_published(
    image: str, of_image: int, text: str, of_text: float
):
    settings = Settings(image_tower=image, text_tower=text)
    with torch.device("meta"):
        align = new_align(settings, 30_522)
    width = align.config.projection_dim
    head = width * 4 * width + 2 * 4 * width + 4 * width * 1000 + 1000
    assert parameters(align.vision_model) == of_image - head
    vision = align.config.vision_config
    assert vision.hidden_dim == 289  # the pooling window, which has to cover the last map
    d = TEXT_TOWERS[text].hidden
    millions = (parameters(align.text_model) + d * d + d + 2 * d + 30_522) / 1e6
    assert round(millions, -1 if text == "large" else 1) == of_text
    assert align.text_projection.weight.shape == (width, d)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_bf16_computes_in_bf16_and_scores_in_fp32(device, tokenizer):
    inputs = small_inputs(tokenizer)
    full, half = (
        small_model(numbers, vocabulary_size=len(tokenizer)).to(device)
        for numbers in (SETTINGS, replace(SETTINGS, precision="bf16"))
    )
    with torch.no_grad():
        (images, texts, _), (images_16, texts_16, _) = full(inputs), half(inputs)  # training mode
    for exact, rounded in ((images, images_16), (texts, texts_16)):
        assert rounded.dtype == torch.float32
        assert not torch.equal(exact, rounded)
        assert (exact * rounded).sum(dim=1).min() > 0.99  # cosine


@pytest.mark.slow
def test_compiled_towers_give_the_same_for_texts_of_any_length(tokenizer, monkeypatch):
    # "eager": what is traced is run by Python; to compile it takes minutes.
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    settings = replace(SETTINGS, batch_norm_group_size=3)  # two groups
    model = small_model(settings, vocabulary_size=len(tokenizer)).train()
    several = [[f"{text} {'red ' * n}" for text in TEXTS] for n in (0, 3, 5, 9)]
    inputs = [small_inputs(tokenizer, texts) for texts in several]
    expected = [model(batch) for batch in inputs]
    terms = summed_terms(model)
    compile_towers(model.align)
    of_compiled = [model(batch) for batch in inputs]
    for plain_pair, compiled_pair in zip(expected, of_compiled, strict=True):
        for plain, compiled in zip(plain_pair, compiled_pair, strict=True):
            assert close(plain, compiled, terms=terms)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs == 3  # images, several texts, and one: a bucket of the six has but one
