"""Gradient caching: a step over a batch that goes through the towers a few pairs at a time,
against as many plain passes (forward and backward, each few pairs with their own loss).

Each side runs in a process of its own. Time is of the passes, without the optimiser's step; memory
is the peak above what the process has before its first pass, model and optimiser included there.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.results import print_results
from benchmarks.train_step import captions, tokenizer

SIDES = ("plain", "cached")
MIB = 1 << 20


def settings(flags: argparse.Namespace):
    from alignset.train.presets import LAPTOP

    return replace(
        LAPTOP,
        crop_px=flags.px,
        resize_px=flags.px,
        batch_size=flags.batch_size,
        micro_batch_size=flags.micro_batch_size,
    )


def micro_batches(flags: argparse.Namespace, count: int):
    """Made as they are asked for, as a loader does."""
    from alignset.train.data.batches import Batch
    from alignset.train.data.inputs import to_inputs
    from alignset.train.data.position import Position

    texts = captions(flags.micro_batch_size)
    pieces, numbers = tokenizer(texts), settings(flags)
    shape = (flags.micro_batch_size, flags.px, flags.px, 3)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8)
        yield to_inputs(Batch(pixels, texts, Position()), pieces, numbers)


def run_side(flags: argparse.Namespace) -> None:
    import torch

    from alignset.train.model.dual_encoder import DualEncoder, new_align
    from alignset.train.optim.optimizer import make_optimizer
    from alignset.train.runs.allocator import keep_freed_memory
    from alignset.train.step import step_gradients

    keep_freed_memory()
    torch.set_num_threads(flags.threads)
    numbers = settings(flags)
    vocabulary = numbers.vocabulary_size
    model = DualEncoder(new_align(numbers, vocabulary), numbers, batch_size=flags.batch_size)
    model.to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, numbers)
    for p in model.parameters():  # the optimiser's state, and gradients to add to
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer.step()

    at_once = replace(numbers, batch_size=flags.micro_batch_size)
    count = flags.batch_size // flags.micro_batch_size
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    if flags.side == "cached":
        step_gradients(model, micro_batches(flags, count), numbers, step=1)
    else:
        for i, inputs in enumerate(micro_batches(flags, count)):
            step_gradients(model, iter([inputs]), at_once, step=i)
    used = {
        "seconds": time.perf_counter() - wall,
        "CPU seconds": time.process_time() - cpu,
        "start MiB": before / MIB,
        "above MiB": (memory("VmHWM") - before) / MIB,
    }
    print(json.dumps(used))


def memory(name: str) -> int:
    """Bytes that this process has resident, now (VmRSS) or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--batch_size", type=int, default=4096)
    parser.add_argument("--micro_batch_size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.side:
        run_side(flags)
        return
    figures = {}
    for side in SIDES:
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        figures[side] = json.loads(said.splitlines()[-1])
    ratios = {name: figures["cached"][name] / figures["plain"][name] for name in figures["plain"]}
    rows = [{"side": side, **figures[side]} for side in SIDES] + [{"side": "ratio", **ratios}]
    chosen = {k: v for k, v in vars(flags).items() if k != "side"}
    print_results(
        rows,
        {"benchmark": "gradient_caching", **chosen, "sides": figures, "ratios": ratios},
        ["torch", "transformers"],
    )


if __name__ == "__main__":
    main()
