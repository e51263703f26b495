"""The device of a run: which it is, how exactly it computes, what it can hold."""

import pytest
import torch

from alignset.train.errors import SettingsError
from alignset.train.runs import device as devices
from alignset.train.runs.device import (
    find_device,
    free_host_memory,
    full_precision,
    memory_of,
    prepare_device,
)


def test_a_device_by_its_name(device):
    assert find_device("auto").type == device.type
    assert find_device("cpu").type == "cpu"
    if device.type == "cuda":
        assert find_device("cuda").type == "cuda"


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(SettingsError, match="--device=cuda: torch finds no GPU"):
        find_device("cuda")


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


def test_memory_of_a_device(device):
    assert memory_of(device) > 1 << 28
    assert 0 < free_host_memory() < memory_of(torch.device("cpu")) << 10


@pytest.mark.parametrize("cached", ["inactive_file", "total_inactive_file"])
def test_memory_of_a_container_is_what_it_may_use(tmp_path, monkeypatch, cached: str):
    limit, used, stat = (tmp_path / name for name in ("max", "current", "stat"))
    missing = (tmp_path / "missing",) * 3
    monkeypatch.setattr(devices, "CGROUPS", ((limit, used, stat), missing))
    whole, free = memory_of(torch.device("cpu")), free_host_memory()
    stat.write_text(f"inactive_file 7\n{cached} 1000\nactive_file 9\n")
    used.write_text("100456\n")
    for said, expected, left in (
        ("max", whole, free),
        ("123456", 123_456, 24_000),
        ("99000", 99_000, 0),
        (str(1 << 60), whole, free),
    ):
        limit.write_text(said + "\n")
        assert memory_of(torch.device("cpu")) == expected
        assert free_host_memory() == pytest.approx(left, rel=0.5)
