"""The training loader alone: against webdataset's own pipeline, and against the step it feeds.

Both loaders read the same shards with two workers (ours: threads; webdataset's: processes of
torch's DataLoader), shuffle as many samples, decode, resize and crop with the very same functions,
and give batches of the `tiny` preset. Sides run by turns, each in a process of its own; a figure is
samples per second from the 6th batch on, CPU time is that of all its processes. What ours reads
once a run, before its first batch (where samples begin), is not in the figures. The step is that of
the training loop with the `tiny` preset, on a batch that lies ready.
"""

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from photo_server import make_photos  # noqa: E402
from results import print_results  # noqa: E402

IMAGES = {
    "scenes": "the demo's, as it trains on them",
    "photographs": "640x480",
    "photographs, 346 px": "640x480, for the paper's crops",
}
SIDES = ("ours", "webdataset", "step")
SHARDS, WORKERS, WARM_UP = 4, 2, 5


def make_shards(cache: Path, photos: int) -> dict[str, Path]:
    from demo.scenes import encode, random_scene, render

    make_photos(cache / "photos", photos)
    rng = random.Random(1)

    def scene(number: int) -> bytes:
        return encode(render(random_scene(rng), (1, number)))

    def photo(number: int) -> bytes:
        return (cache / "photos" / f"{number}.jpg").read_bytes()

    folders = {"scenes": cache / "scenes", "photographs": cache / "photographs"}
    for (name, folder), image in zip(folders.items(), (scene, photo), strict=True):
        folder.mkdir(exist_ok=True)
        for shard in range(SHARDS):
            path = folder / f"{shard:05d}.tar"
            if not path.exists():
                numbers = range(shard, photos, SHARDS)
                _write(path, {f"{n:016x}": (image(n), f"{name} {n}") for n in numbers})
    return folders | {"photographs, 346 px": folders["photographs"]}


def _write(path: Path, pairs: dict[str, tuple[bytes, str]]) -> None:
    aside = path.with_suffix(".tmp")
    with tarfile.open(aside, "w") as tar:
        for key, (image, text) in pairs.items():
            about = json.dumps({"key": key, "caption": text}).encode()
            for extension, data in (("jpg", image), ("txt", text.encode()), ("json", about)):
                entry = tarfile.TarInfo(f"{key}.{extension}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    aside.rename(path)


def settings(images: str):
    from alignset.train.presets import TINY
    from alignset.train.settings import Settings

    paper = Settings()
    large = {"resize_px": paper.resize_px, "crop_px": paper.crop_px}
    sizes = large if images.endswith("346 px") else {}
    return replace(TINY, decode_threads=WORKERS, cached_images=0, shuffle_samples=1_000, **sizes)


def ours(folder: Path, numbers) -> Iterator:
    from alignset.train.data.batches import TrainingData
    from alignset.train.data.find_shards import find_sets
    from alignset.train.data.position import Position

    return TrainingData(find_sets(str(folder)), numbers).batches(Position())


def webdataset(folder: Path, numbers) -> Iterator:
    import numpy as np
    import torch
    import webdataset as wds

    from alignset.train.data.images import decode_square, random_crop

    def crop(sample: tuple) -> tuple:
        pixels = decode_square(sample[0], numbers.resize_px)
        rng = random.Random(hash(sample[1]))
        crop = random_crop(pixels, numbers.crop_px, rng, flip=numbers.horizontal_flip)
        return crop, sample[1].decode()

    def stack(samples: list) -> tuple:
        return np.stack([pixels for pixels, _ in samples]), [text for _, text in samples]

    shards = sorted(map(str, folder.glob("*.tar")))
    pipeline = (
        wds.WebDataset(shards, shardshuffle=len(shards))
        .shuffle(numbers.shuffle_samples // WORKERS)
        .to_tuple("jpg", "txt")
        .map(crop)
        .batched(numbers.micro_batches(1)[1], collation_fn=stack, partial=False)
        .repeat()
    )
    return iter(torch.utils.data.DataLoader(pipeline, batch_size=None, num_workers=WORKERS))


def step(folder: Path, numbers) -> Iterator:
    import torch

    from alignset.train.data.inputs import to_inputs
    from alignset.train.data.pairs import read_pairs
    from alignset.train.model.dual_encoder import DualEncoder, new_align
    from alignset.train.model.tokenizer import learn_tokenizer
    from alignset.train.optim.guarded_step import GuardedStep
    from alignset.train.optim.optimizer import make_optimizer, set_learning_rate
    from alignset.train.step import step_gradients

    size = numbers.micro_batches(1)[1]
    batch = next(ours(folder, numbers))
    sizes = {"vocabulary_size": numbers.vocabulary_size, "max_tokens": numbers.max_tokens}
    shards = map(str, sorted(folder.glob("*.tar")))
    texts = [text for _, _, text in read_pairs(shards)]
    tokenizer = learn_tokenizer(lambda: texts, **sizes)
    model = DualEncoder(new_align(numbers, len(tokenizer)), numbers, batch_size=size)
    model.to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, numbers)
    guard = GuardedStep(model, optimizer, numbers)
    for number in count(1):
        optimizer.zero_grad()
        micro_batches = [to_inputs(batch, tokenizer, numbers)] * numbers.micro_batches(1)[0]
        step_gradients(model, iter(micro_batches), numbers, number)
        set_learning_rate(optimizer, number, numbers)
        guard.step(number)
        model.clamp_temperature()
        yield from micro_batches


def measure(side: str, images: str, folder: Path, samples: int) -> dict[str, float]:
    numbers = settings(images)
    size = numbers.micro_batches(1)[1]
    batches = {"ours": ours, "webdataset": webdataset, "step": step}[side](folder, numbers)
    for _ in islice(batches, WARM_UP):
        pass
    start, cpu = time.perf_counter(), _cpu_s()
    taken = sum(1 for _ in islice(batches, max(1, samples // size))) * size
    wall = time.perf_counter() - start
    return {"per_second": taken / wall, "per_cpu_second": taken / (_cpu_s() - cpu)}


def _cpu_s() -> float:
    """User and system, of this process and of those that it has started and that still run."""
    ticks = 0
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for process in ("self", *children):
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(stat[11]) + int(stat[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--cache", type=Path, help="kept inputs; default: made anew each time")
    flags.add_argument("--photos", type=int, default=1_000)
    flags.add_argument("--samples", type=int, default=4_000)
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--images", choices=IMAGES, action="append")
    flags.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    flags.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args.images[0], args.folder, args.samples)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        _compare(args, make_shards(args.cache or Path(temporary), args.photos))


def _compare(args: argparse.Namespace, folders: dict[str, Path]) -> None:
    rows, figures = [], {}
    for images in args.images or IMAGES:
        sides = SIDES[:2] if images.endswith("346 px") else SIDES
        runs: dict[str, list[dict]] = {side: [] for side in sides}
        for _ in range(args.repeats):
            for side in sides:
                command = [sys.executable, __file__, f"--side={side}", f"--images={images}"]
                command += [f"--folder={folders[images]}", f"--samples={args.samples}"]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                runs[side].append(json.loads(done.stdout))
        for side in sides:
            medians = {
                name: statistics.median(run[name] for run in runs[side])
                for name in ("per_second", "per_cpu_second")
            }
            figures[f"{images}: {side}"] = medians
            rows.append({"images": images, "side": side, **medians})
    print_results(rows, figures, ("torch", "webdataset", "simplejpeg", "pillow"))


if __name__ == "__main__":
    main()
