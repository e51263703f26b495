"""The memory of a step: what torch keeps for the backward pass is what the formula says."""

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
from alignset.train.memory import StepMemory, check_memory, step_memory
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
def test_activations_are_those_that_torch_keeps(precision: str, monkeypatch):
    sizes = {"image_tower": "tiny", "crop_px": 96, "resize_px": 96}
    settings = replace(B0_MINI, precision=precision, text_buckets=1, **sizes)
    computed, of_torch = {}, {}
    for freeze in ("", "image"):
        frozen = replace(settings, freeze=freeze)
        computed[freeze] = step_memory(frozen, 1).activations / 64
        of_torch[freeze] = kept_of_a_pair(frozen, monkeypatch)
    assert computed[""] == pytest.approx(of_torch[""], rel=0.06)
    saved = computed[""] - computed["image"]
    assert saved == pytest.approx(of_torch[""] - of_torch["image"], rel=0.04)


def test_state_is_twenty_bytes_a_trained_parameter():
    with torch.device("meta"):
        align = new_align(B0_MINI, B0_MINI.vocabulary_size)
    parameters = sum(parameter.numel() for parameter in align.parameters())
    temperature = 1
    assert step_memory(B0_MINI, 1).state == 20 * (parameters - temperature)
    activations = 0
    for freeze, tower in (("image", align.vision_model), ("text", align.text_model)):
        frozen = sum(parameter.numel() for parameter in tower.parameters())
        trained = parameters - temperature - frozen
        memory = step_memory(replace(B0_MINI, freeze=freeze), 1)
        assert memory.state == 20 * trained + 4 * frozen
        assert memory.activations > 0
        activations += memory.activations
    assert activations == step_memory(B0_MINI, 1).activations


def test_more_at_once_and_more_pairs_take_more_and_computing_twice_takes_less():
    base = step_memory(B0_MINI, 1)
    more = step_memory(replace(B0_MINI, batch_size=128, micro_batch_size=128), 1)
    assert more.activations == 2 * base.activations
    assert more.batch > base.batch
    assert more.state == base.state
    twice = step_memory(replace(B0_MINI, checkpoint_activations=True), 1)
    assert twice.activations < 0.5 * base.activations
    assert StepMemory(400, 300, 200, 100).total("cpu") == 1050 + (3 << 28)


def test_what_does_not_fit_is_refused_with_what_would():
    settings = replace(B0_MINI, precision="bf16")
    needed = step_memory(settings, 1).total("cuda")
    half = step_memory(replace(settings, micro_batch_size=32), 1).total("cuda")
    check_memory(settings, 1, needed)
    with pytest.raises(SettingsError) as raised:
        check_memory(settings, 1, needed - 1)
    assert str(raised.value) == (
        f"a step takes about {needed / 1e9:.1f} GB of the {needed / 1e9:.1f} GB that the GPU has: "
        "with --micro_batch_size=32 it takes "
        f"{half / 1e9:.1f} GB"
    )
    # BatchNorm's groups of 16 are not cut: what lies within a block is computed twice before.
    smallest = step_memory(replace(settings, micro_batch_size=16), 1).total("cuda")
    with pytest.raises(
        SettingsError, match=r"--micro_batch_size=\d+ --checkpoint_activations=true"
    ):
        check_memory(settings, 1, smallest - 1)
    with pytest.raises(SettingsError, match="no smaller micro-batch fits: name smaller towers"):
        check_memory(settings, 1, 1 << 30)


def test_a_run_that_does_not_fit_is_refused_before_it_is_made(tmp_path, capsys, monkeypatch):
    shards = colour_shards(tmp_path / "shards")
    monkeypatch.setattr("alignset.train.runs.device.memory_of", lambda _: 500_000_000)
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run"), "--steps=1"]
    flags += ["--crop_px=32", "--resize_px=32", "--batch_size=8"]
    assert main(flags) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: a step takes about 0.8 GB of the 0.5 GB that each process has")
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert main([*flags, "--check_memory=false"]) == 0
