"""The memory of a step: a bound that follows the settings, and a run that does not fit refused."""

import re
from dataclasses import replace

import pytest
import torch

from alignset.train.__main__ import main
from alignset.train.errors import SettingsError
from alignset.train.memory import check_memory, step_bytes
from alignset.train.model.dual_encoder import new_align
from alignset.train.presets import PRESETS
from tests.support.train_shards import colour_shards

B0_MINI = replace(
    PRESETS["one-gpu"],
    image_tower="b0",
    text_tower="mini",
    vocabulary_size=1_000,
    batch_size=64,
    micro_batch_size=64,
    precision="bf16",
)


def test_the_bound_follows_the_settings():
    with torch.device("meta"):
        align = new_align(B0_MINI, B0_MINI.vocabulary_size)
    once, of_pair = step_bytes(B0_MINI, 1)
    towers = {"image": align.vision_model, "text": align.text_model}
    for name, tower in towers.items():  # a trained weight takes 20 bytes, a frozen one 4
        frozen, _ = step_bytes(replace(B0_MINI, freeze=name), 1)
        assert once - frozen == 16 * sum(p.numel() for p in tower.parameters())
    assert 40e6 < of_pair < 80e6  # what torch keeps of a pair of 224 px for the backward pass
    for setting, least, most in (
        ({"precision": "fp32"}, 1.5, 2.0),
        ({"crop_px": 112}, 0.2, 0.35),
        ({"checkpoint_activations": True}, 0.05, 0.5),
    ):
        assert least < step_bytes(replace(B0_MINI, **setting), 1)[1] / of_pair < most, setting


def test_what_does_not_fit_is_refused_with_what_would():
    once, of_pair = step_bytes(B0_MINI, 1)
    check_memory(B0_MINI, 1, once + 64 * of_pair)
    for available, advice in (
        (once + 64 * of_pair - 1, "pass --micro_batch_size=32; or --check_memory=false"),
        (once + 16 * of_pair, "pass --micro_batch_size=16;"),
        # BatchNorm's groups of 16 are not cut.
        (once + 15 * of_pair, "pass --checkpoint_activations, or a smaller --image_tower and"),
    ):
        with pytest.raises(SettingsError, match=advice) as raised:
            check_memory(B0_MINI, 1, available)
        needed = f"a step takes about {(once + 64 * of_pair) / 1e9:.1f} GB, and a process has "
        assert str(raised.value).startswith(needed)


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
    (took,) = re.findall(r"the first step took up to (.*) GB of memory", said)
    assert 0.1 < float(took) < 64
