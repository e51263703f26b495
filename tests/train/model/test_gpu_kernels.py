"""Layers for a GPU: they compute what the plain ones do, with few operations, and in float32 where
that is needed."""

import copy
from dataclasses import replace

import pytest
import torch
from functorch.compile import aot_module, make_boxed_func
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from alignset.train.loss import contrastive_loss
from alignset.train.model.batch_norm import frozen_statistics, use_ghost_groups
from alignset.train.model.dual_encoder import DualEncoder, new_align
from alignset.train.model.gpu_kernels import FusedSelfAttention, GpuGhostBatchNorm2d
from alignset.train.model.kernels import GPU, PLAIN, use_kernels
from tests.support.closeness import close
from tests.support.small_training import (
    SETTINGS,
    small_inputs,
    small_model,
    small_tokenizer,
)

pytestmark = pytest.mark.numeric

# The mean, the variance and the gradients of a channel sum over all its pixels, 4x3 of at most 12
# images. Values are up to 31, which the variance squares.
TERMS, SCALE = 4 * 12 * 4 * 3, 31.0**2


def norms(*, momentum: float = 0.1) -> tuple[nn.Module, nn.Module]:
    """A BatchNorm over groups of 4, plain and for a GPU."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.BatchNorm2d(5)).double()
    for parameter in plain.parameters():
        nn.init.uniform_(parameter)
    use_ghost_groups(plain, group_size=4, batch_size=12, momentum=momentum)
    fast = copy.deepcopy(plain)
    use_kernels(fast, GPU)
    assert type(fast[0]) is GpuGhostBatchNorm2d
    return plain, fast


def maps(images: int = 12, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    noise = torch.randn(images, 5, 4, 3, generator=torch.Generator().manual_seed(3), dtype=dtype)
    return (noise * torch.arange(1, images + 1)[:, None, None, None] + 7).to(
        memory_format=torch.channels_last
    )


def outcome(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradients and buffers."""
    x = x.clone().requires_grad_()
    y = model(x)
    weights = (torch.arange(y.numel(), device=y.device) % 7 - 3).reshape(y.shape).to(y.dtype)
    gradients = torch.autograd.grad((y * weights).sum(), [x, *model.parameters()])
    return [y, *gradients, *(buffer.clone() for buffer in model.buffers())]


@pytest.mark.parametrize("images", [12, 8, 4, 3, 10])  # of 10 the last group is smaller
@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("last", [True, False])
def test_groups_at_once_are_the_groups_one_by_one(device, images: int, momentum: float, last: bool):
    x = maps(images).to(device)
    x = x if last else x.contiguous()
    plain, fast = (norm.to(device) for norm in norms(momentum=momentum))
    for _ in range(2):  # the second time the running statistics are no longer 0 and 1
        for ours, expected in zip(outcome(fast, x), outcome(plain, x), strict=True):
            assert close(ours, expected, terms=TERMS, scale=SCALE)
    with frozen_statistics(fast), frozen_statistics(plain):
        for ours, expected in zip(outcome(fast, x), outcome(plain, x), strict=True):
            assert close(ours, expected, terms=TERMS, scale=SCALE)


def test_statistics_of_bfloat16_are_float32(device):
    plain, fast = (norm.to(device) for norm in norms())
    half = maps(dtype=torch.float32).bfloat16().to(device)
    expected = outcome(plain, half.double())
    with torch.autocast(device.type, torch.bfloat16):
        y, of_x, *rest = outcome(fast.float(), half)
    assert (y.dtype, of_x.dtype) == (torch.bfloat16, torch.bfloat16)
    for ours, wanted in ((y, expected[0]), (of_x, expected[1])):
        assert close(ours, wanted, terms=2)  # rounded to bfloat16 once
    for ours, wanted in zip(rest, expected[2:], strict=True):  # of which none is rounded to 8 bits
        assert ours.dtype == (torch.int64 if ours.ndim == 0 else torch.float32)
        assert close(ours, wanted, terms=TERMS, scale=SCALE)


def test_attention_by_its_formula(device):
    model = small_model(replace(SETTINGS, text_dropout=0.5), kernels=GPU).double().to(device)
    attention = next(m for m in model.modules() if isinstance(m, FusedSelfAttention))
    hidden = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(0)).double().to(device)
    mask = torch.zeros(2, 1, 5, 5, device=device).double()
    mask[1, :, :, 3:] = torch.finfo(torch.float32).min  # two tokens of padding
    query, key, value = (
        layer(hidden).unflatten(-1, (2, 64)).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    weights = (query @ key.mT / 8 + mask).softmax(-1)
    expected = (weights @ value).transpose(1, 2).flatten(2)
    assert close(attention.eval()(hidden, mask)[0], expected, terms=128 + 64 + 5 + 5)
    first, second = (attention.train()(hidden, mask)[0] for _ in range(2))
    assert not torch.equal(first, second)  # dropout


def test_attention_gets_a_mask_that_the_host_does_not_look_into(device, monkeypatch):
    settings = replace(SETTINGS, text_buckets=1)
    tokenizer = small_tokenizer()
    texts = small_inputs(tokenizer, settings=settings).texts.mapped(lambda t: t.to(device))
    ((_, mask),) = texts.buckets
    assert not mask.all()
    plain = small_model(settings, kernels=PLAIN).double().to(device).eval()
    fast = small_model(settings, kernels=GPU).double().to(device).eval()
    expected = plain.embed_texts(texts)
    masks: list[torch.Tensor] = []
    for module in fast.modules():
        if isinstance(module, FusedSelfAttention):
            module.register_forward_pre_hook(
                lambda _, arguments, named: masks.append((*arguments, *named.values())[1]),
                with_kwargs=True,
            )

    def looked_into(*_: object, **__: object) -> None:
        raise AssertionError("transformers makes a mask, for which it looks into this one")

    monkeypatch.setattr("transformers.masking_utils.sdpa_mask", looked_into)
    found = fast.embed_texts(texts)
    assert masks
    terms = settings.max_tokens * len(masks)  # transformers takes each layer's softmax in float32
    assert close(found, expected, terms=terms, precision=torch.float32)
    for got in masks:
        assert torch.equal(got, mask[:, None, None, :].bool())
    with pytest.raises(AssertionError, match="transformers makes a mask"):
        plain.embed_texts(texts)  # the test sees it


def operations(model: nn.Module, x: torch.Tensor) -> int:
    """Of what torch.compile is given for a pass forward and back."""
    counts = []

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        counts.append(len(graph.graph.nodes))
        return make_boxed_func(graph.forward)

    traced = aot_module(model, fw_compiler=count)
    traced(x).sum().backward()
    return sum(counts)


def test_groups_cost_a_graph_few_operations():
    x = torch.randn(24, 5, 4, 4)
    sizes = []
    for kernels, group_size in ((PLAIN, 24), (GPU, 4), (GPU, 2), (PLAIN, 4)):
        norm = nn.Sequential(nn.BatchNorm2d(5))
        use_ghost_groups(norm, group_size=group_size, batch_size=24, momentum=0.1)
        use_kernels(norm, kernels)
        sizes.append(operations(norm, x))
    ungrouped, of_six, of_twelve, one_by_one = sizes
    assert of_six == of_twelve  # however many groups there are
    assert ungrouped < of_six < 3 * ungrouped < one_by_one


def test_a_pass_forward_has_all_its_tensors_on_the_gpu(monkeypatch):
    """Without one: torch follows the devices and types of tensors that have no memory, and refuses
    operations between devices."""
    settings = replace(SETTINGS, precision="bf16", batch_norm_group_size=3, text_buckets=1)
    tokenizer = small_tokenizer()
    inputs = small_inputs(tokenizer, settings=settings)
    with FakeTensorMode(allow_non_fake_inputs=False) as fake:
        torch.set_default_device("cuda")
        try:
            align = new_align(settings, len(tokenizer))
            model = DualEncoder(align, settings, batch_size=6, kernels=GPU).train()
        finally:
            torch.set_default_device(None)
        on_gpu = inputs.mapped(lambda tensor: fake.from_tensor(tensor).cuda())
        widths: list[torch.dtype] = []
        for module in model.modules():
            if isinstance(module, nn.Conv2d | FusedSelfAttention):
                module.register_forward_hook(
                    lambda _, __, out: widths.append(
                        (out[0] if isinstance(out, tuple) else out).dtype
                    )
                )
        for name in ("is_available", "is_bf16_supported"):  # or there is no autocast
            monkeypatch.setattr(torch.cuda, name, lambda *_: True)
        images, texts, temperature = model(on_gpu)
        loss = contrastive_loss(images, texts, temperature)
    for tensor in (images, texts, temperature, loss):
        assert tensor.device.type == "cuda"
        assert tensor.dtype == torch.float32
    assert {*widths} == {torch.bfloat16}
