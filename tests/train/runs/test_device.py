"""The device of a run: which it is, how exactly it computes, what it can hold."""

import pytest
import torch

from alignset.train.errors import SettingsError
from alignset.train.runs import device as devices
from alignset.train.runs.device import find_device, full_precision, memory_of, prepare_device


def test_a_device_by_its_name(device):
    assert find_device("auto").type == device.type
    assert find_device("cpu").type == "cpu"
    if device.type == "cuda":
        assert find_device("cuda").type == "cuda"
        return
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


def test_memory_of_a_container_is_what_it_may_use(tmp_path, monkeypatch):
    limit, whole = tmp_path / "max", memory_of(torch.device("cpu"))
    assert whole > 1 << 28
    monkeypatch.setattr(devices, "CGROUPS", (limit, tmp_path / "missing"))
    for said, expected in (("max", whole), ("123456", 123_456), (str(1 << 60), whole)):
        limit.write_text(said + "\n")
        assert memory_of(torch.device("cpu")) == expected
