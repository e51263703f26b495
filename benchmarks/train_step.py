"""A training step, ours against open_clip's, with the same towers, resolution and batch.

Each side runs in a process of its own, by turns. Both train the very same AlignModel (by default
EfficientNet-B0 and BERT-Mini) on the same pixels and captions. open_clip's side is its own
train_one_epoch with its ClipLoss, its AdamW and its default flags, on a loader whose batches lie
ready: float pixels, and texts padded to the context length. Ours is the training loop's step with
the paper's recipe (LAMB, BatchNorm over 16 images), tokenisation and pixels' scaling included.
"""

import argparse
import json
import logging
import math
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.results import print_results

SIDES = {
    "ours": "the recipe: LAMB, BatchNorm over 16",
    "ours, AdamW": "fused, as open_clip's",
    "open_clip": "as it comes",
    "open_clip, free settings": "channels-last, fused AdamW, freed memory kept, few spins",
}
MAX_TOKENS = 64
VOCABULARY = 100_000
WARM_UP = 2


def captions(count: int) -> list[str]:
    """3 to 20 words, as the paper keeps them, most often 8; each word is one or two wordpieces."""
    rng = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(3000)]
    return [" ".join(rng.choices(words, k=round(rng.triangular(3, 20, 8)))) for _ in range(count)]


def tokenizer(texts: list[str]):
    from train.model.tokenizer import learn_tokenizer

    return learn_tokenizer(lambda: texts, vocabulary_size=5_000, max_tokens=MAX_TOKENS)


def settings(flags: argparse.Namespace, optimizer: str):
    from train.settings import Settings

    return Settings(
        image_tower=flags.image_tower,
        text_tower=flags.text_tower,
        vocabulary_size=VOCABULARY,
        crop_px=flags.px,
        resize_px=flags.px,
        batch_size=flags.batch_size,
        micro_batch_size=flags.batch_size,
        optimizer=optimizer,
    )


def pixels(flags: argparse.Namespace) -> np.ndarray:  # uint8[b, px, px, 3]
    shape = (flags.batch_size, flags.px, flags.px, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def ours(flags: argparse.Namespace, optimizer: str) -> list[float]:
    """Seconds of each step."""
    import torch

    from train.data.batches import Batch
    from train.data.inputs import to_inputs
    from train.data.position import Position
    from train.model.dual_encoder import DualEncoder, new_align
    from train.optim.optimizer import make_optimizer, set_learning_rate
    from train.runs.allocator import keep_freed_memory
    from train.step import step_gradients

    keep_freed_memory()
    torch.manual_seed(0)
    numbers = settings(flags, optimizer)
    model = DualEncoder(new_align(numbers, VOCABULARY), numbers, batch_size=flags.batch_size)
    model.to(memory_format=torch.channels_last).train()
    optimize = make_optimizer(model, numbers)
    texts = captions(flags.batch_size)
    pieces, batch = tokenizer(texts), Batch(pixels(flags), texts, Position())
    times = []
    for step in range(1, WARM_UP + flags.steps + 1):
        start = flags.clock()
        optimize.zero_grad()
        step_gradients(model, iter([to_inputs(batch, pieces, numbers)]), numbers, step)
        set_learning_rate(optimize, step, numbers)
        optimize.step()
        model.clamp_temperature()
        times.append(flags.clock() - start)
    return times


def open_clip(flags: argparse.Namespace, free: bool) -> list[float]:
    """Seconds of each step of open_clip's train_one_epoch."""
    import torch
    from open_clip import ClipLoss
    from open_clip_train.train import train_one_epoch

    if free:
        from train.runs.allocator import keep_freed_memory

        keep_freed_memory()
    torch.manual_seed(0)
    model = _clip_model(flags).train()
    if free:
        model.to(memory_format=torch.channels_last)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(  # as open_clip_train/main.py makes it
        [
            {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
            {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": 0.2},
        ],
        lr=5e-4,
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=free or None,
    )
    times: list[float] = []
    loader = _Loader(flags, free, times)
    data = {"train": SimpleNamespace(set_epoch=lambda epoch: None, dataloader=loader)}
    arguments = SimpleNamespace(
        device="cpu",
        precision="fp32",
        distill=False,
        accum_freq=1,
        skip_scheduler=True,
        grad_clip_norm=None,
        horovod=False,
        rank=0,
        local_rank=0,
        world_size=1,
        batch_size=flags.batch_size,
        log_every_n_steps=100,
        wandb=False,
        log_local=False,
    )
    train_one_epoch(model, data, ClipLoss(), 0, optimizer, None, None, None, arguments)
    return times


def _clip_model(flags: argparse.Namespace):
    """The same AlignModel behind the interface of open_clip's models."""
    import torch
    import torch.nn.functional as F

    from train.model.dual_encoder import new_align, use_stochastic_depth

    numbers = settings(flags, "adamw")

    class Clip(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.align = new_align(numbers, VOCABULARY)
            self.align.text_model.pooler = None
            use_stochastic_depth(self.align.vision_model, numbers.drop_path)
            self.logit_scale = torch.nn.Parameter(torch.ones([]) * math.log(1 / 0.07))

        def forward(self, image, text):
            images = self.align.get_image_features(image).pooler_output
            # open_clip's HFTextEncoder makes its mask of the padding too.
            texts = self.align.get_text_features(text, (text != 0).long()).pooler_output
            return {
                "image_features": F.normalize(images, dim=-1),
                "text_features": F.normalize(texts, dim=-1),
                "logit_scale": self.logit_scale.exp(),
            }

    return Clip()


class _Loader:
    """Batches that lie ready; notes how long the step behind each took."""

    def __init__(self, flags: argparse.Namespace, free: bool, times: list[float]):
        import torch

        scaled = torch.from_numpy(pixels(flags)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        layout = torch.channels_last if free else torch.contiguous_format
        texts = captions(flags.batch_size)
        ids = tokenizer(texts)(
            texts, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )["input_ids"]
        self.batch = scaled.contiguous(memory_format=layout), ids
        self.num_batches = WARM_UP + flags.steps
        self.num_samples = self.num_batches * flags.batch_size
        self.times, self.clock = times, flags.clock

    def __iter__(self):
        for _ in range(self.num_batches):
            start = self.clock()
            yield self.batch
            self.times.append(self.clock() - start)


def run_side(flags: argparse.Namespace) -> None:
    if flags.side != "open_clip":
        import train  # noqa: F401 - first: it has the threads spin less while they wait
    import torch

    logging.disable()
    torch.set_num_threads(flags.threads)
    side = flags.side
    flags.clock = lambda: time.perf_counter() * 1e3
    cpu_before: list[float] = []
    wall = flags.clock

    def clock() -> float:  # also notes the CPU time, at the end of warming up and at the last step
        cpu_before.append(time.process_time())
        return wall()

    flags.clock = clock
    if side.startswith("ours"):
        times = ours(flags, "adamw" if "AdamW" in side else "lamb")
    else:
        times = open_clip(flags, "free" in side)
    cpu = cpu_before[-1] - cpu_before[2 * WARM_UP]
    print(json.dumps({"wall_ms": times[WARM_UP:], "cpu_ms": 1e3 * cpu / flags.steps}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--image_tower", default="b0")
    parser.add_argument("--text_tower", default="mini")
    parser.add_argument("--px", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5, help="timed ones of a run, after two")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.side:
        run_side(flags)
        return
    by_side: dict[str, list[dict]] = {side: [] for side in SIDES}
    for _ in range(flags.repeats):
        for side, runs in by_side.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs.append(json.loads(said.splitlines()[-1]))
    figures = {}
    for side, runs in by_side.items():
        wall_ms = statistics.median(ms for run in runs for ms in run["wall_ms"])
        cpu_ms = statistics.median(run["cpu_ms"] for run in runs)
        figures[side] = {"samples/s": 1e3 * flags.batch_size / wall_ms, "CPU ms": cpu_ms}
    first = figures["ours"]
    rows = [
        {
            "side": f"{side}: {SIDES[side]}",
            "samples/s": round(figure["samples/s"], 1),
            "CPU ms a step": round(figure["CPU ms"]),
            "ours is": f"{first['samples/s'] / figure['samples/s']:.2f} times as fast",
            "by CPU time": f"{figure['CPU ms'] / first['CPU ms']:.2f}",
        }
        for side, figure in figures.items()
    ]
    chosen = {k: v for k, v in vars(flags).items() if k != "side"}
    packages = ["torch", "transformers", "open-clip-torch", "timm"]
    print_results(rows, {"benchmark": "train_step", **chosen, "sides": figures}, packages)


if __name__ == "__main__":
    main()
