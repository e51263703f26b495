"""Every check and figure that needs a GPU, in at most nine minutes, as one JSON file.

  python benchmarks/gpu.py --output=gpu.json
  python benchmarks/gpu.py --output=gpu.json --device=cpu --small    (to see that all of it works)

Each check is a process of its own, so that one which fails, or runs out of memory, is a line of the
file and no more. They are: peak memory against the formula that refuses runs, and launches of
kernels, by preset; a step against open_clip's with the same towers, and one of 16,384 pairs by
cached gradients; and the same compiled.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

LONGEST_S = 540.0
PRESETS = ("one-gpu", "b1-mini", "b3-medium", "b7-base", "l2-large")
SMALL = {"crop_px": 32, "resize_px": 36, "batch_size": 8, "micro_batch_size": 4}


def checks(device: str, *, small: bool) -> Iterator[tuple[str, list[str]]]:
    """Yields the name of each check and its command, the most wanted first."""
    step = ["benchmarks/train_step.py", f"--device={device}", "--image_tower=b0"]
    step += ["--text_tower=mini", "--px=224", "--batch_size=256", "--repeats=1"]
    cached = "16384"
    if small:
        step = [*step, "--image_tower=tiny", "--text_tower=tiny", "--px=32", "--batch_size=8"]
        step, cached = [*step, "--steps=1"], "16"
    yield "step", [*step, f"--cached={cached}"]
    for preset in ("tiny",) if small else PRESETS:
        small_flag = ["--small"] if small else []
        own = ["benchmarks/gpu.py", f"--preset={preset}", f"--device={device}", *small_flag]
        yield f"preset {preset}", own
    yield "compile", [*step, "--compile"]


def look_at_preset(name: str, device: str, *, small: bool) -> dict[str, Any]:
    """Some steps of one micro-batch of a preset: their memory, launches and time."""
    import numpy as np
    import torch

    from alignset.train.data.batches import Batch, make_inputs
    from alignset.train.data.order import Position
    from alignset.train.model.dual_encoder import DualEncoder, new_align
    from alignset.train.optim.optimizer import GuardedStep, make_optimizer
    from alignset.train.presets import PRESETS as BY_NAME
    from alignset.train.runs.processes import capability, most_used, prepare_device
    from alignset.train.start import step_bytes
    from alignset.train.step import step_gradients
    from benchmarks.step_inputs import VOCABULARY, captions, tokenizer

    on = torch.device(device)
    settings = BY_NAME[name].resolve(device, capability(on))
    settings = replace(settings, **SMALL) if small else settings
    pairs = settings.micro_batch_size
    settings = replace(settings, batch_size=pairs)
    once, of_pair = step_bytes(settings, 1)
    prepare_device(on, settings.precision)
    model = DualEncoder(new_align(settings, VOCABULARY), settings, batch_size=pairs)
    model.to(on).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, settings)
    guard, texts = GuardedStep(model, optimizer, settings), captions(pairs)
    shape = (pairs, settings.crop_px, settings.crop_px, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    gpu = 0 if on.type == "cuda" else None
    words = tokenizer(texts)

    def step(number: int) -> None:
        batch = Batch(pixels, texts, Position())
        optimizer.zero_grad()
        step_gradients(
            model, iter([make_inputs(batch, words, settings, gpu=gpu)]), settings, number
        )
        guard.step(number)
        if on.type == "cuda":
            torch.cuda.synchronize()

    step(1)
    step(2)
    begun_s = time.perf_counter()
    step(3)
    step_s = time.perf_counter() - begun_s
    with torch.profiler.profile() as profiler:
        step(4)
    on_gpu = (event for event in profiler.events() if event.device_type.name == "CUDA")
    kernels = [event for event in on_gpu if not event.name.startswith(("Memcpy", "Memset"))]
    operations = [event for event in profiler.events() if event.name.startswith("aten::")]
    return {
        "micro_batch": pairs,
        "precision": settings.precision,
        "formula_gb": round((once + pairs * of_pair) / 1e9, 2),
        "peak_gb": round(most_used(on) / 1e9, 2),
        "step_s": round(step_s, 4),
        "samples_per_second": round(pairs / step_s, 1),
        "kernels": len(kernels),
        "operations": len(operations),
    }


def run_check(command: list[str], rest_s: float) -> dict[str, Any]:
    """The JSON that a check ends with, or why there is none."""
    whole = [sys.executable, *command]
    try:
        done = subprocess.run(
            whole, cwd=ROOT, capture_output=True, text=True, timeout=max(1.0, rest_s)
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no time was left after {rest_s:.0f} s"}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"failed": (done.stderr.strip().splitlines() or [""])[-1][:500]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="the JSON file")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    parser.add_argument("--preset", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.preset:
        print(json.dumps(look_at_preset(flags.preset, flags.device, small=flags.small)))
        return 0
    if not flags.output:
        parser.error("--output names the JSON file")
    if flags.small:  # kernels for a CPU take 95 CPU-s to compile; the graphs of a step 10
        os.environ["TORCH_COMPILE_OVERRIDE_BACKENDS"] = ">=0:eager"
    ends_s, found = time.monotonic() + LONGEST_S, dict[str, Any]()
    for name, command in checks(flags.device, small=flags.small):
        begun_s = time.monotonic()
        found[name] = run_check(command, ends_s - begun_s)
        found[name]["took_s"] = round(time.monotonic() - begun_s, 1)
        print(f"{name}: {json.dumps(found[name])[:300]}", file=sys.stderr, flush=True)
        # Each time, so that it has what there is where this is killed.
        flags.output.write_text(json.dumps(found, indent=1) + "\n")
    return int(any("failed" in one for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
