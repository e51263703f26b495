"""Where the trainer's tests compute: on the CPU, and those that ask for a device on a GPU too, if
there is one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizerFast

from alignset.train.runs import processes as devices
from tests.support.small_training import held_out_shards, small_tokenizer
from tests.support.train_shards import colour_shards

# At a process's first backward pass torch looks for devices. Tensors of a GPU that is not there
# (FakeTensorMode) would count as one, and then no fork of the process could run such a pass.
torch.ones(1, requires_grad=True).sum().backward()


GPUS = ["cuda"] if torch.cuda.is_available() else []


@pytest.fixture(params=["cpu", *GPUS])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Each device that is there, computing as exactly as it can."""
    there = torch.device(request.param)
    monkeypatch.setattr(devices, "gpu_is_there", lambda: there.type == "cuda")
    for setting in ("allow_tf32", "benchmark"):
        monkeypatch.setattr(torch.backends.cudnn, setting, False)
    return there


@pytest.fixture(autouse=True)
def products_as_before() -> Iterator[None]:
    """A run on a GPU sets how exactly products are computed, for its whole process."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="session", autouse=True)
def others_on_the_cpu() -> Iterator[None]:
    """What runs within a test does not take a GPU that the test did not ask for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "gpu_is_there", lambda: False)
        yield


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    """Two shards of plain colours, of twelve pairs each. Do not write into their folder."""
    return colour_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="session")
def holdout(tmp_path_factory) -> Path:
    """Pairs to validate on; one sample of them has no image. Do not write into their folder."""
    return held_out_shards(tmp_path_factory.mktemp("held"))


@pytest.fixture(scope="session")
def tokenizer() -> BertTokenizerFast:
    return small_tokenizer()


@pytest.fixture
def refused(capsys) -> Callable[..., None]:
    """Asserts that a command refuses its flags by one line, which has the text."""

    def check(text: str, main: Callable[[list[str]], int], *flags: object) -> None:
        capsys.readouterr()
        assert main([str(flag) for flag in flags]) == 2, flags
        printed = capsys.readouterr()
        assert text in printed.err
        assert (printed.err.count("\n"), printed.out) == (1, ""), printed.err

    return check
