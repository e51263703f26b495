"""1 and 2 processes: the same loss, the same gradients, the same statistics."""

import os
import select
import signal
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from alignset.train.data.batches import Batch, make_inputs
from alignset.train.data.images import resize_square
from alignset.train.data.order import Position
from alignset.train.loss import contrastive_loss
from alignset.train.runs import processes
from alignset.train.step import step_gradients
from tests.support.closeness import close, largest
from tests.support.forks import start
from tests.support.small_training import (
    SETTINGS,
    in_float64,
    pictures,
    small_model,
    small_tokenizer,
)
from tests.support.stores import free_port

pytestmark = pytest.mark.numeric

TEXTS = [f"{a} {b}" for a in ("two stars", "a", "no", "one red") for b in ("x", "yz", "o", "")]
# Each of the 16 pairs goes through both towers (5,900 terms) and back.
TERMS = 2 * 5900 * len(TEXTS)
COUNT = 2
STEP = replace(SETTINGS, batch_size=16, micro_batch_size=2, batch_norm_group_size=2)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> tuple[dict, list[dict]]:
    """What one process found, and what each of two."""
    folder = tmp_path_factory.mktemp("outcomes")
    process = start(f"{__name__}:training", folder)
    printed = process.communicate()[1]
    assert process.returncode == 0, printed
    return outcome(), [torch.load(folder / f"{rank}.pt") for rank in range(COUNT)]


def training(arguments: list[str]) -> int:
    """Writes the outcomes of two processes into a folder. They are forks, since new ones would
    import torch for 4 s each, and not of the tests' process: what another test has begun of
    autograd's threads there does not outlive a fork."""
    rest = (free_port(), arguments[0])
    mp.start_processes(one_of, rest, nprocs=COUNT, start_method="fork")
    return 0


def one_of(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=COUNT)
    torch.save(outcome(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def outcome() -> dict:
    """This process's loss of its rows of 12, and a whole step of its part of 16 pairs."""
    rank, count = processes.rank(), processes.count()
    images, texts = (
        unit_rows(12, seed=seed).double().chunk(count)[rank].clone() for seed in (1, 2)
    )
    temperature = torch.tensor(0.2, dtype=torch.float64)
    for leaf in (images, texts, temperature):
        leaf.requires_grad_()
    loss = contrastive_loss(images, texts, temperature)
    loss.backward()
    bias = torch.tensor(-10.0, dtype=torch.float64)
    own = [leaf.detach().requires_grad_() for leaf in (images, texts, temperature, bias)]
    sigmoid = contrastive_loss(*own)
    sigmoid.backward()

    tokenizer = small_tokenizer()
    pixels = [resize_square(np.array(image), 32) for image in pictures(16)]
    model = small_model(STEP, vocabulary_size=len(tokenizer), processes=count).double().train()
    replica = processes.replicate(model)
    mine = range(16)[rank * 16 // count :][: 16 // count]
    micro_batches = [
        Batch(np.stack(pixels[i : i + 2]), TEXTS[i : i + 2], Position()) for i in mine[::2]
    ]
    inputs = (make_inputs(batch, tokenizer, STEP) for batch in micro_batches)
    with in_float64():
        step = step_gradients(replica, inputs, STEP, step=1)
    processes.average_buffers(model)
    return {
        "loss": loss.detach(),
        "images": images.grad,
        "texts": texts.grad,
        "temperature": temperature.grad,
        "sigmoid": sigmoid.detach(),
        "sigmoid_images": own[0].grad,
        "sigmoid_texts": own[1].grad,
        "bias": own[3].grad,
        "step_loss": processes.mean(step.loss),
        "gradients": {n: p.grad for n, p in model.named_parameters() if p.requires_grad},
        "buffers": {n: b for n, b in model.named_buffers() if b.is_floating_point()},
    }


def test_loss_and_its_gradients_are_those_of_one_process(outcomes):
    whole, parts = outcomes
    for name in ("loss", "sigmoid"):
        mean = torch.stack([part[name] for part in parts]).mean()
        assert close(mean, whole[name], terms=TERMS)
    # A row's gradient is whole on its own process, but counts 1 / count there: DDP takes the mean,
    # as each process's loss is one over its own rows.
    for name in ("images", "texts", "sigmoid_images", "sigmoid_texts"):
        shared = torch.cat([part[name] for part in parts]) / COUNT
        assert close(shared, whole[name], terms=TERMS)
    for name in ("temperature", "bias"):
        shared = torch.stack([part[name] for part in parts]).mean()
        assert close(shared, whole[name], terms=TERMS)


def test_a_cached_step_has_the_gradients_and_statistics_of_one_process_on_all(outcomes):
    whole, parts = outcomes
    scale = largest(whole["gradients"].values())
    assert scale > 0.01
    for part in parts:
        assert close(part["step_loss"], whole["step_loss"], terms=TERMS)
        for name, gradient in whole["gradients"].items():
            assert close(part["gradients"][name], gradient, terms=TERMS, scale=scale), name
        for name, buffer in whole["buffers"].items():
            assert torch.equal(part["buffers"][name], parts[0]["buffers"][name])
            # The last of a step's groups weighs a little more than its first.
            assert torch.allclose(part["buffers"][name], buffer, rtol=0.02, atol=1e-3), name


def test_waiting_for_the_first_process_has_no_limit():
    # It reads all shards before the first step; gloo gives up after 30 minutes, nccl after 10.
    mp.start_processes(wait_for_a_slow_one, (free_port(),), nprocs=2, start_method="fork")


def wait_for_a_slow_one(rank: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    start = dist.init_process_group
    dist.init_process_group = partial(start, timeout=timedelta(seconds=1))
    processes.start_processes()
    time.sleep(2 * (1 - rank))
    processes.wait_for_all()
    processes.stop_processes()


def unit_rows(n: int, *, seed: int) -> torch.Tensor:
    rows = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


@pytest.mark.slow
def test_a_killed_torchrun_takes_its_processes_with_it(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    reading, writing = os.pipe()
    torchrun = os.fork()
    if not torchrun:
        if not os.fork():
            processes.end_with_torchrun()
            os.write(writing, b"up")
        time.sleep(60)
        os._exit(0)
    os.close(writing)
    assert os.read(reading, 2) == b"up"
    os.kill(torchrun, signal.SIGKILL)
    os.waitpid(torchrun, 0)
    ended, _, _ = select.select([reading], [], [], 10)
    assert ended
    assert os.read(reading, 1) == b""  # nobody is left to write
