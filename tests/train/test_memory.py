"""The memory of a step: the bound is near what torch keeps for the backward pass."""

import re
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from alignset.train.__main__ import main
from alignset.train.data.inputs import Inputs, TextBuckets
from alignset.train.data.position import Position
from alignset.train.errors import SettingsError
from alignset.train.memory import check_memory, step_bytes
from alignset.train.model.dual_encoder import DualEncoder, new_align
from alignset.train.presets import PRESETS
from alignset.train.settings import Settings
from tests.support.train_shards import colour_shards

B0_MINI = replace(
    PRESETS["one-gpu"],
    image_tower="b0",
    text_tower="mini",
    vocabulary_size=1_000,
    batch_size=64,
    micro_batch_size=64,
)


def kept(model: DualEncoder, settings: Settings, pairs: int) -> int:
    """Bytes that torch keeps of so many pairs for the backward pass, of tensors without memory."""
    shape = pairs, settings.crop_px, settings.crop_px, 3
    ids = torch.zeros(pairs, settings.max_tokens, dtype=torch.int64, device="cuda")
    texts = TextBuckets([(ids, torch.ones_like(ids))], torch.arange(pairs, device="cuda"))
    pixels = torch.zeros(shape, dtype=torch.uint8, device="cuda")
    own = {StorageWeakRef(parameter.untyped_storage()) for parameter in model.parameters()}
    memory: dict[StorageWeakRef, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if StorageWeakRef(storage) not in own:
            memory[StorageWeakRef(storage)] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(Inputs(pixels, texts, [], Position()))
    del outputs
    return sum(storage.nbytes() for storage in memory.values())


def kept_of_a_pair(settings: Settings, monkeypatch) -> float:
    """Bytes, less what does not grow with the pairs, as the weights in bfloat16."""
    with FakeTensorMode(), monkeypatch.context() as patched:
        torch.set_default_device("cuda")
        try:
            align = new_align(settings, settings.vocabulary_size)
            model = DualEncoder(align, settings, batch_size=64).train()
        finally:
            torch.set_default_device(None)
        for name in ("is_available", "is_bf16_supported"):  # or there is no autocast
            patched.setattr(torch.cuda, name, lambda *_: True)
        return (kept(model, settings, 48) - kept(model, settings, 32)) / 16


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_pair_takes_about_what_torch_keeps(precision: str, monkeypatch):
    sizes = {"image_tower": "tiny", "crop_px": 96, "resize_px": 96}
    settings = replace(B0_MINI, precision=precision, text_buckets=1, **sizes)
    for freeze in ("", "image"):
        frozen = replace(settings, freeze=freeze)
        ratio = step_bytes(frozen, 1)[1] / kept_of_a_pair(frozen, monkeypatch)
        assert 0.6 < ratio < 1.7, (freeze, ratio)


def test_a_trained_weight_takes_twenty_bytes():
    with torch.device("meta"):
        align = new_align(B0_MINI, B0_MINI.vocabulary_size)
    image, text = (
        sum(p.numel() for p in of.parameters()) for of in (align.vision_model, align.text_model)
    )
    both = step_bytes(B0_MINI, 1)
    assert both[0] - step_bytes(replace(B0_MINI, freeze="image"), 1)[0] == 16 * image
    assert both[0] - step_bytes(replace(B0_MINI, freeze="text"), 1)[0] == 16 * text
    assert step_bytes(replace(B0_MINI, checkpoint_activations=True), 1)[1] < 0.5 * both[1]


def test_what_does_not_fit_is_refused_with_what_would():
    settings = replace(B0_MINI, precision="bf16")
    once, of_pair = step_bytes(settings, 1)
    check_memory(settings, 1, once + 64 * of_pair)
    for available, advice in (
        (once + 64 * of_pair - 1, "pass --micro_batch_size=32; or --check_memory=false"),
        (once + 16 * of_pair, "pass --micro_batch_size=16;"),
        # BatchNorm's groups of 16 are not cut.
        (once + 15 * of_pair, "pass --checkpoint_activations, or a smaller --image_tower and"),
    ):
        with pytest.raises(SettingsError, match=advice) as raised:
            check_memory(settings, 1, available)
        needed = (once + 64 * of_pair) / 1e9
        assert str(raised.value).startswith(
            f"a step takes about {needed:.1f} GB, and a process has "
        )


def test_a_run_is_refused_before_it_is_made_or_says_what_it_took(tmp_path, capsys, monkeypatch):
    shards = colour_shards(tmp_path / "shards")
    monkeypatch.setattr("alignset.train.runs.device.memory_of", lambda _: 500_000_000)
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run"), "--steps=2"]
    flags += ["--crop_px=32", "--resize_px=32", "--batch_size=8"]
    assert main(flags) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: a step takes about 0.8 GB, and a process has 0.5 GB: pass ")
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert main([*flags, "--check_memory=false"]) == 0
    said = capsys.readouterr().err
    took = [float(gb) for gb in re.findall(r"the first step took up to (.*) GB of memory", said)]
    assert len(took) == 1
    assert 0.1 < took[0] < 64
