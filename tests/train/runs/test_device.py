"""The device and the memory of a run; folders that are of this machine."""

import re
from dataclasses import replace

import pytest
import torch

from alignset.train.__main__ import main
from alignset.train.__main__ import main as train
from alignset.train.classify.__main__ import main as classify
from alignset.train.errors import SettingsError
from alignset.train.evaluate.__main__ import main as evaluate
from alignset.train.model.dual_encoder import new_align
from alignset.train.presets import PRESETS
from alignset.train.runs import processes as devices
from alignset.train.runs.processes import full_precision, memory_of, prepare_device
from alignset.train.search.__main__ import main as search
from alignset.train.start import check_memory, step_bytes


@pytest.fixture
def restored():
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    kept = cudnn.benchmark, cudnn.allow_tf32
    yield
    cudnn.benchmark, cudnn.allow_tf32 = kept
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("precision", "of_products"), [("bf16", "high"), ("fp32", "high"), ("highest", "highest")]
)
def test_a_gpu_computes_as_exactly_as_is_said(restored, precision: str, of_products: str):
    prepare_device(torch.device("cuda"), precision)
    assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.allow_tf32 == (precision != "highest")
    assert torch.get_float32_matmul_precision() == of_products
    with full_precision():  # as for the loss
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == of_products


def test_memory_of_a_container_is_what_it_may_use(tmp_path, monkeypatch):
    limit, whole = tmp_path / "max", memory_of(torch.device("cpu"))
    assert whole > 1 << 28
    monkeypatch.setattr(devices, "CGROUPS", (limit, tmp_path / "missing"))
    for said, expected in (("max", whole), ("123456", 123_456), (str(1 << 60), whole)):
        limit.write_text(said + "\n")
        assert memory_of(torch.device("cpu")) == expected


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


def test_a_run_is_refused_before_it_is_made_or_says_what_it_took(
    shards, tmp_path, refused, capsys, monkeypatch
):
    monkeypatch.setattr("alignset.train.start.memory_of", lambda _: 500_000_000)
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run"), "--steps=2"]
    flags += ["--crop_px=32", "--resize_px=32", "--batch_size=8"]
    refused("error: a step takes about 0.8 GB, and a process has 0.5 GB: pass ", main, *flags)
    assert not (tmp_path / "run").exists()
    assert main([*flags, "--check_memory=false"]) == 0
    said = capsys.readouterr().err
    (took,) = re.findall(r"the first step took up to (.*) GB of memory", said)
    assert 0.1 < float(took) < 64


URL = "s3://bucket/a"


def test_a_url_is_no_folder_to_write_to(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    for command, flags in (
        (train, ["--shards=x", f"--run={URL}"]),
        (classify, [f"--run={URL}"]),
        (evaluate, ["retrieval", "--data=x", "--model=x", f"--cache={URL}"]),
        (search, ["index", "--data=x", "--model=x", f"--index={URL}"]),
    ):
        refused(f"{URL} is a URL, and a folder of this machine is written to", command, *flags)
    assert not [*tmp_path.iterdir()]
