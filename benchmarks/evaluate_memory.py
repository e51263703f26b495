"""What an evaluation of a million images costs in memory, beside one of fewer.

  python -m benchmarks.evaluate_memory [--images=125000,250000,500000,1000000] [--folder=FOLDER]

Zero-shot classification of small JPEGs in shards, no two of the same bytes, by a model that takes
no time and whose embeddings have 640 numbers. Each number of images is evaluated by a process of
its own and then once more, with its embeddings kept. The peak is of that process alone, looked at
ten times a second; files that it maps are not in it, since the system takes their pages back.
Numbers are multiples of 25,000, the images of a shard.
"""

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import gettempdir
from unittest import mock

import numpy as np
from PIL import Image

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200))
WIDTH, A_SHARD = 640, 25_000


class MadeModel:
    """Each picture's embedding follows from its mean colour, each text's from its number."""

    name, kind, digest, width = "made", "made", "00" * 32, WIDTH

    def __init__(self) -> None:
        self._axes = np.random.default_rng(0).normal(size=(3, WIDTH)).astype(np.float32)

    def _unit(self, colours: np.ndarray) -> np.ndarray:
        rows = (colours.astype(np.float32) - 115) @ self._axes
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return self._unit(np.stack([np.asarray(image).mean(axis=(0, 1)) for image in images]))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._unit(np.array([COLOURS[int(text[-2])] for text in texts]))


def write_shards(folder: Path, images: int) -> None:
    """Shards of pictures with their classes, and the names of the classes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("".join(f"{n}\n" for n in range(len(COLOURS))))
    bodies = []
    for colour in COLOURS:
        file = io.BytesIO()
        Image.new("RGB", (16, 16), colour).save(file, "JPEG")
        bodies.append(file.getvalue())
    for first in range(0, images, A_SHARD):
        path = folder / f"{first // A_SHARD:05d}.tar"
        if path.exists():
            continue
        with tarfile.open(path.with_suffix(".tmp"), "w") as tar:
            for n in range(first, min(images, first + A_SHARD)):
                body = bodies[n % len(COLOURS)]
                # A comment tells the file from all others.
                comment = b"\xff\xfe\x00\x06" + n.to_bytes(4, "big")
                for name, data in (
                    ("jpg", body[:2] + comment + body[2:]),
                    ("cls", b"%d" % (n % len(COLOURS))),
                ):
                    member = tarfile.TarInfo(f"{n:08d}.{name}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        path.with_suffix(".tmp").rename(path)


def evaluate(folder: Path, images: int, cache: Path) -> None:
    """In this process; prints its figures."""
    from alignset.train.evaluate.__main__ import main

    peak = watch_memory()
    shards = f"{folder}/{{00000..{(images - 1) // A_SHARD:05d}}}.tar"
    flags = [f"--data={shards}", f"--classes={folder}/classes.txt", "--prompts={}."]
    start, told = time.perf_counter(), io.StringIO()
    with (
        mock.patch("alignset.train.model.embed.open_embedder", return_value=MadeModel()),
        contextlib.redirect_stdout(told),
    ):
        status = main(["zero_shot", "--model=made", f"--cache={cache}", *flags])
    if status:
        raise SystemExit(status)
    result = json.loads(told.getvalue())
    figures = {"images": result["n"], "top-1": result["top1"]}
    figures |= {"seconds": round(time.perf_counter() - start, 1), "peak MiB": max(peak)}
    print(json.dumps(figures))


def watch_memory() -> list[int]:
    """MiB of this process without mapped files, in a list that grows."""
    seen = [0]

    def watch() -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            seen.append(int(status.partition("RssAnon:")[2].split()[0]) // 1024)
            time.sleep(0.1)

    threading.Thread(target=watch, daemon=True).start()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--images", default="125000,250000,500000,1000000")
    default = Path(gettempdir()) / "alignset-benchmarks" / "evaluate_memory"
    parser.add_argument("--folder", type=Path, default=default)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        evaluate(flags.folder, flags.one, flags.cache)
        return
    counts = [int(count) for count in flags.images.split(",")]
    if any(count % A_SHARD for count in counts):
        parser.error(f"--images must be multiples of {A_SHARD:,}")
    write_shards(flags.folder, max(counts))
    for count in counts:
        shutil.rmtree(flags.folder / f"cache-{count}", ignore_errors=True)
        for what in ("embedded", "again, with its embeddings kept"):
            command = [sys.executable, "-m", "benchmarks.evaluate_memory", f"--one={count}"]
            command += [f"--folder={flags.folder}", f"--cache={flags.folder}/cache-{count}"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(what, done.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
