"""Trains the copy descriptor and writes its file: `python -m benchmarks.overlap.train_descriptor`.

It downloads the packages of `packages.py`, cuts their pictures into tiles, and trains for a fixed
number of steps from fixed seeds, on one thread: 800 CPU-seconds. On another processor sums differ
in their last bits, so the file is another one; its recall hardly is.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from alignset.transforms.decontamination.copy_descriptor import MODEL_PATH
from benchmarks.overlap.descriptor_file import descriptor_file, whitening
from benchmarks.overlap.net import OUTPUTS, CopyNet, copy_loss
from benchmarks.overlap.tiles import Tiles, tile_planes, training_tiles
from benchmarks.overlap.views import two_views

STEPS = 2000
BATCH = 256
LEARNING_RATE = 2e-3
WARM_UP_STEPS = 100
WEIGHT_DECAY = 1e-3
MAX_GRADIENT = 5.0
PAST = 4096  # pictures of earlier steps that a copy is told from
PAST_FROM = 0.25  # of the steps: before it the vectors move too fast
SEED = 0
TILE_BLUR_PX = 0.7  # tiles are sampled at half their size: what is finer would be noise
STEPS_A_LINE = 100
WHITENED_ON = 50_000  # tiles
NET_NAME = "copy_net.pt"


def trained_net(tiles: Tiles, steps: int, report: Callable[[str, CopyNet], None]) -> CopyNet:
    """A net trained for so many steps on the tiles; every hundred, a line and the net are told."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    net = CopyNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    past = torch.zeros(0, OUTPUTS)
    losses: deque[float] = deque(maxlen=STEPS_A_LINE)
    begun = time.process_time()
    for step, (pixels, aspects) in enumerate(_batches(tiles, steps, generator)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate(step, steps)
        with torch.no_grad():
            views = torch.cat(two_views(pixels, aspects, generator))
        with torch.autocast("cpu", torch.bfloat16):
            vectors = net(views.contiguous(memory_format=torch.channels_last))
        faithful, altered = vectors.float().chunk(2)
        loss = copy_loss(faithful, altered, past)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT)
        optimizer.step()
        if step >= PAST_FROM * steps:
            past = torch.cat([faithful.detach(), past])[:PAST]
        losses.append(loss.item())
        if (step + 1) % STEPS_A_LINE == 0:
            near = (faithful * altered).sum(1).mean().item()
            spent = time.process_time() - begun
            mean = sum(losses) / len(losses)
            line = f"step {step + 1}: loss {mean:.3f}, copies' cosine {near:.3f}"
            report(f"{line}, {spent:.0f} CPU-s", net)
    return net


def rate(step: int, steps: int) -> float:
    """The share of the learning rate: linear warm-up, then half a cosine down to almost zero."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.005)


@torch.no_grad()
def net_vectors(net: CopyNet, planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The net's own vectors, float32[n, 96], of planes uint8[n, 64, 64]."""
    net.eval()
    parts = [net(part.unsqueeze(1).float()) for part in torch.from_numpy(planes).split(512)]
    return torch.cat(parts).numpy()


def _batches(
    tiles: Tiles, steps: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """So many batches of different tiles: float32[n, 128, 128], float32[n]."""
    smooth = np.stack([cv2.GaussianBlur(tile, (0, 0), TILE_BLUR_PX) for tile in tiles.pixels])
    pixels, aspects = torch.from_numpy(smooth), torch.from_numpy(tiles.aspects)
    size = min(BATCH, len(pixels))
    for _ in range(steps):
        # Drawn with repeats, which are dropped: a tile is no other picture than itself.
        rows = torch.randint(len(pixels), (size,), generator=generator).unique()
        yield pixels[rows].float(), aspects[rows]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(tempfile.gettempdir()) / "overlap_packages"
    parser.add_argument("--folder", type=Path, default=default, help="where packages are kept")
    parser.add_argument("--output", type=Path, default=MODEL_PATH, help="the ONNX file")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    tiles = training_tiles(args.folder)
    print(f"{len(tiles.pixels)} tiles", flush=True)
    net = trained_net(tiles, args.steps, lambda line, _: print(line, flush=True))
    torch.save(net.state_dict(), args.folder / NET_NAME)
    planes = tile_planes(tiles)
    some = np.random.default_rng(SEED).permutation(len(planes))[:WHITENED_ON]
    body = descriptor_file(net, whitening(net_vectors(net, planes[some])))
    args.output.write_bytes(body)
    print(f"{args.output}: {len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1:])
