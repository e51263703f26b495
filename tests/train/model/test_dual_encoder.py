"""The model: its layers, and that a user's AlignModel sees what we trained."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AlignModel, AlignProcessor

from alignset.train.loss import contrastive_loss
from alignset.train.model.dual_encoder import DualEncoder, export_model, new_align
from alignset.train.model.tower_layers import tower_blocks, use_ghost_groups
from alignset.train.optim.optimizer import make_optimizer
from alignset.train.settings import Settings
from alignset.train.step import step_gradients
from alignset.train.towers import TEXT_TOWERS
from tests.support.closeness import close, largest, summed_terms
from tests.support.small_training import (
    SETTINGS,
    TEXTS,
    in_float64,
    pictures,
    small_inputs,
    small_model,
    small_tokenizer,
)

pytestmark = pytest.mark.numeric


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


def test_the_loss_decides_the_first_temperature_and_bias():
    by_loss = replace(SETTINGS, temperature=Settings().temperature)
    softmax, sigmoid = (small_model(replace(by_loss, loss=of)) for of in ("softmax", "sigmoid"))
    assert (softmax.temperature.item(), softmax.bias) == (1.0, None)
    assert close(sigmoid.temperature, 0.1, terms=5)
    assert sigmoid.bias is not None
    assert sigmoid.bias.item() == -10
    assert Settings(loss="sigmoid").resolve("cpu").temperature == 0.1


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


@pytest.mark.parametrize("micro_batch_size", [6, 3])
def test_activations_that_are_computed_twice_change_nothing(device, micro_batch_size: int):
    tokenizer = small_tokenizer()
    settings = replace(SETTINGS, micro_batch_size=micro_batch_size, text_dropout=0.3, drop_path=0.4)
    twice = replace(settings, checkpoint_activations=True)
    after = []
    with in_float64():
        for numbers in (settings, twice):
            model = small_model(numbers, vocabulary_size=len(tokenizer))
            model.double().to(device).train()
            texts = small_inputs(tokenizer).captions
            parts = [
                small_inputs(tokenizer, texts[i : i + micro_batch_size], numbers)
                for i in range(0, 6, micro_batch_size)
            ]
            step_gradients(model, iter(parts), numbers, 1)
            gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            after.append(copy.deepcopy(gradients | dict(model.named_buffers())))
    assert after[0].keys() == after[1].keys()
    terms, scale = 2 * summed_terms(model), largest(after[0].values())
    for name, value in after[0].items():
        assert close(value, after[1][name], terms=terms, scale=scale), name


def test_first_weights_are_those_of_efficientnets_code():
    """By the sizes of each kind of kernel; squeeze-excite's second has few inputs."""
    torch.manual_seed(4)
    tower = new_align(replace(SETTINGS, image_tower="b0"), 100).vision_model
    block = list(tower_blocks(tower))[5]
    depthwise = block.depthwise_conv.depthwise_conv
    kernels = {
        tower.embeddings.convolution: 3 * 3 * 32,
        block.expansion.expand_conv: block.expansion.expand_conv.out_channels,
        depthwise: depthwise.kernel_size[0] ** 2,
        block.squeeze_excite.expand: block.squeeze_excite.expand.out_channels,
        block.projection.project_conv: block.projection.project_conv.out_channels,
    }
    for kernel, fan_out in kernels.items():
        deviation = kernel.weight.std(correction=0).item()
        spread = 4 / (2 * kernel.weight.numel()) ** 0.5
        assert deviation == pytest.approx((2 / fan_out) ** 0.5, rel=spread)
    assert not block.squeeze_excite.reduce.bias.any()


@pytest.fixture
def norm_of_groups(device):
    def make(group_size: int, *, batch_size: int = 12, momentum: float = 0.1) -> nn.Module:
        model = nn.Sequential(nn.BatchNorm2d(3))
        nn.init.uniform_(model[0].weight)
        nn.init.uniform_(model[0].bias)
        names = list(model.state_dict())
        sizes = {"group_size": group_size, "batch_size": batch_size}
        use_ghost_groups(model, **sizes, momentum=momentum)
        assert list(model.state_dict()) == names
        return model.to(device)

    return make


TERMS = 2 * 12 * 5 * 4  # the mean and the variance of at most all pixels of a channel


@pytest.fixture
def images(device):
    return lambda seed=0: scaled_noise(seed).to(device)


def scaled_noise(seed: int) -> torch.Tensor:
    noise = torch.randn(12, 3, 5, 4, generator=torch.Generator().manual_seed(seed))
    return (noise * torch.arange(1, 13)[:, None, None, None]).to(memory_format=torch.channels_last)


def test_each_group_is_normalised_by_itself(norm_of_groups, images):
    model, x = norm_of_groups(4), images()
    y = model(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    norm = model[0]
    for group, normalised in zip(x.split(4), y.split(4), strict=True):
        var, mean = torch.var_mean(group, dim=(0, 2, 3), keepdim=True, correction=0)
        scaled = (group - mean) / (var + norm.eps).sqrt()
        expected = scaled * norm.weight[:, None, None] + norm.bias[:, None, None]
        assert close(normalised, expected, terms=TERMS)


@pytest.mark.parametrize("group_size", [4, 12, 16])
def test_running_statistics_take_a_step_in_with_the_momentum(
    norm_of_groups, images, group_size: int
):
    model, x = norm_of_groups(group_size), images()
    model(x)
    groups = x.split(group_size)
    mean = torch.stack([g.mean(dim=(0, 2, 3)) for g in groups]).mean(0)
    var = torch.stack([g.var(dim=(0, 2, 3)) for g in groups]).mean(0)
    # The step's last group weighs a little more, by the momentum's share at most.
    assert torch.allclose(model[0].running_mean, 0.1 * mean, atol=0.01)
    assert torch.allclose(model[0].running_var, 0.9 + 0.1 * var, rtol=0.1)
    # A step of all equal groups, which shows that they weigh 0.1 together and not each.
    same = x[:4].repeat(3, 1, 1, 1)
    model = norm_of_groups(4)
    model(same)
    expected = 0.9 + 0.1 * x[:4].var(dim=(0, 2, 3))
    assert close(model[0].running_var, expected, terms=TERMS)
