"""A training step, ours against open_clip's, with the same towers, resolution and batch.

Each side runs in a process of its own, by turns. Both train the very same AlignModel (by default
EfficientNet-B0 and BERT-Mini; on a GPU B3 and Medium, as `one-gpu` has them) on the same pixels and
captions. open_clip's side is its own train_one_epoch with its ClipLoss, its AdamW and its default
flags, on a GPU its amp in bfloat16, on a loader whose batches lie ready: float pixels, and texts
padded to the context length. Ours is the training loop's step with the paper's recipe (LAMB,
BatchNorm over 16 images) and its guard against bad steps; a thread tokenises (and for a GPU pins)
the next micro-batch meanwhile, and pixels are scaled.

On a GPU, `--cached=4096,16384` adds steps of so many pairs by gradient caching, and each side tells
its peak memory.
"""

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from itertools import islice, repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.results import print_results
from benchmarks.step_inputs import VOCABULARY, WARM_UP, captions, pixels, settings, tokenizer

SIDES = {
    "ours": "the recipe: LAMB, BatchNorm over 16",
    "ours, AdamW": "fused, as open_clip's",
    "open_clip": "as it comes",
    "open_clip, free settings": "channels-last, fused AdamW, freed memory kept, few spins",
}
CACHED = "ours, cached"
# By device: what is trained where nothing else is said.
DEFAULTS = {
    "cpu": {"image_tower": "b0", "text_tower": "mini", "px": 128, "batch_size": 64},
    "cuda": {"image_tower": "b3", "text_tower": "medium", "px": 224, "batch_size": 256},
}


def ours(flags: argparse.Namespace, optimizer: str) -> list[float]:
    """Milliseconds of each step."""
    import torch

    from alignset.train.data.batches import Batch, make_inputs, prefetch
    from alignset.train.data.order import Position
    from alignset.train.model.dual_encoder import DualEncoder, compile_towers, new_align
    from alignset.train.optim.optimizer import GuardedStep, make_optimizer, set_learning_rate
    from alignset.train.runs.processes import keep_freed_memory, prepare_device
    from alignset.train.step import step_gradients

    keep_freed_memory()
    torch.manual_seed(0)
    numbers, gpu = settings(flags, optimizer), 0 if flags.device == "cuda" else None
    prepare_device(torch.device(flags.device), numbers.precision)
    align = new_align(numbers, VOCABULARY)
    model = DualEncoder(align, numbers, batch_size=numbers.batch_size)
    model.to(flags.device).to(memory_format=torch.channels_last).train()
    if flags.compile:
        compile_towers(model.align, numbers)
    optimize = make_optimizer(model, numbers)
    guard = GuardedStep(model, optimize, numbers)
    texts = captions(flags.batch_size)
    batches = (batch for batch in repeat(Batch(pixels(flags), texts, Position())))
    prepare = partial(make_inputs, tokenizer=tokenizer(texts), settings=numbers, gpu=gpu)
    inputs = prefetch(batches, prepare)
    number, _ = numbers.micro_batches(1)
    times = []
    for step in range(1, WARM_UP + flags.steps + 1):
        start = flags.clock()
        optimize.zero_grad()
        step_gradients(model, islice(inputs, number), numbers, step)
        set_learning_rate(optimize, step, numbers)
        guard.step(step)
        model.clamp_temperature()
        times.append(flags.clock() - start)
    inputs.close()
    return times


def run_side(flags: argparse.Namespace) -> None:
    if flags.side != "open_clip":
        import alignset.train  # noqa: F401 - first: it has the threads spin less while they wait
    import torch

    logging.disable()
    torch.set_num_threads(flags.threads)
    gpu = flags.device == "cuda"
    cpu_before: list[float] = []

    def clock() -> float:  # ms; notes the CPU time, at the end of warming up and at the last step
        if gpu:
            torch.cuda.synchronize()
        cpu_before.append(time.process_time())
        return time.perf_counter() * 1e3

    flags.clock = clock
    if flags.side.startswith("ours"):
        times = ours(flags, "adamw" if "AdamW" in flags.side else "lamb")
    else:
        from benchmarks.open_clip_step import open_clip

        times = open_clip(flags, "free" in flags.side)
    cpu = cpu_before[-1] - cpu_before[2 * WARM_UP]
    peak = torch.cuda.max_memory_reserved() if gpu else peak_memory()
    said = {"wall_ms": times[WARM_UP:], "cpu_ms": 1e3 * cpu / flags.steps, "peak_bytes": peak}
    print(json.dumps(said))


def peak_memory() -> int:
    """Peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=DEFAULTS, default="cpu")
    parser.add_argument("--image_tower")
    parser.add_argument("--text_tower")
    parser.add_argument("--px", type=int)
    parser.add_argument("--batch_size", type=int, help="pairs at once")
    parser.add_argument(
        "--cached", default="", help="pairs of further steps of ours, comma-separated"
    )
    parser.add_argument("--compile", action="store_true", help="ours by torch.compile")
    parser.add_argument("--steps", type=int, default=5, help="timed ones of a run, after two")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=[*SIDES, CACHED], help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=int, default=0, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    for name, value in DEFAULTS[flags.device].items():
        if getattr(flags, name) is None:
            setattr(flags, name, value)
    return flags


def main() -> None:
    flags = parse()
    if flags.side:
        run_side(flags)
        return
    told = {side: (side, 0) for side in SIDES}
    told |= {f"{CACHED}: {n} pairs": (CACHED, int(n)) for n in flags.cached.split(",") if n}
    by_side: dict[str, list[dict]] = {name: [] for name in told}
    for _ in range(flags.repeats):
        for name, (side, pairs) in told.items():
            command = [
                sys.executable,
                __file__,
                *sys.argv[1:],
                f"--side={side}",
                f"--pairs={pairs}",
            ]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            by_side[name].append(json.loads(said.splitlines()[-1]))
    figures = {}
    for name, runs in by_side.items():
        wall_ms = statistics.median(ms for run in runs for ms in run["wall_ms"])
        figures[name] = {
            "samples/s": 1e3 * (told[name][1] or flags.batch_size) / wall_ms,
            "CPU ms": statistics.median(run["cpu_ms"] for run in runs),
            "peak GB": max(run["peak_bytes"] for run in runs) / 1e9,
        }
    first = figures["ours"]
    rows = [
        {
            "side": f"{name}: {SIDES[name]}" if name in SIDES else name,
            "samples/s": round(figure["samples/s"], 1),
            "CPU ms a step": round(figure["CPU ms"]),
            "peak GB": round(figure["peak GB"], 2),
            "ours is": f"{first['samples/s'] / figure['samples/s']:.2f} times as fast",
            "by CPU time": f"{figure['CPU ms'] / first['CPU ms']:.2f}" if name in SIDES else "",
        }
        for name, figure in figures.items()
    ]
    chosen = {k: v for k, v in vars(flags).items() if k not in ("side", "pairs")}
    packages = ["torch", "transformers", "open-clip-torch", "timm"]
    print_results(rows, {"benchmark": "train_step", **chosen, "sides": figures}, packages)


if __name__ == "__main__":
    main()
