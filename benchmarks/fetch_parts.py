"""What each part of fetching and keeping a photograph costs, in CPU us, ours alone.

  python benchmarks/fetch_parts.py [--photos=400] [--repeats=5]

The photographs of `fetch.py`, each part alone in one thread, process time, the best of the repeats.
`whole image plane` is `ShardWriter.write` over as many pairs, all threads at once.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import simplejpeg
from photo_server import find_nginx, make_photos, serve
from results import print_results

from alignset.transforms.decontamination.perceptual_overlap import PerceptualMeasure
from alignset.transforms.fetching.fetch import fetch_all
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.examine import examine
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.images.perceptual_hash import plane_hash
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.shards.build_shard import ShardSettings
from alignset.transforms.shards.measure_images import ImageRules, Measured
from alignset.transforms.shards.plan_shards import plan_path, write_plan
from alignset.transforms.shards.shard_examples import write_record
from alignset.transforms.shards.shard_files import Spool, TarWriter
from alignset.transforms.shards.shard_record import ShardPairs
from alignset.transforms.shards.shards_under_way import Beginning
from alignset.transforms.shards.write_shards import ShardWriter
from alignset.transforms.wishes.file_wishes import file_wishes
from alignset.transforms.workers.fencing import Fence

PACKAGES = ("pycurl", "simplejpeg", "numpy", "pyarrow")
SETTINGS = FetchSettings(allow_private_addresses=True, connections_per_host=64)


def cost_us(work: Callable[[Any], object], items: Iterable[Any], repeats: int) -> float:
    """CPU us an item, of all threads of this process; the best of some repeats."""
    items, best = list(items), float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        for item in items:
            work(item)
        best = min(best, (time.process_time() - begun) / len(items))
    return best * 1e6


def tar_costs(bodies: list[bytes], folder: Path, repeats: int) -> dict[str, float]:
    row = {"key": "0" * 16, "url": "http://127.0.0.1/1.jpg", "caption": "a photograph"}
    names = ("status", "error_message", "width", "height", "original_width", "original_height")
    sample = row | dict.fromkeys((*names, "sha256", "phash", "page_url"), "x")
    spool = Spool(folder / "spool")
    put = cost_us(spool.put, bodies, repeats)
    places = [spool.put(body) for body in bodies]
    with (folder / "parts.tar").open("wb") as sink:
        tar = TarWriter(sink)
        add = cost_us(lambda body: tar.add_sample(sample, body, "jpg"), bodies, repeats)
    return {
        "put aside": put,
        "read back": cost_us(spool.get, places, repeats),
        "tar, with its sha256": add,
    }


def plane(urls: list[str], folder: Path, repeats: int) -> float:
    """The whole image plane of one shard, without Beam."""
    keys = pa.array(np.arange(len(urls), dtype=np.uint64))
    texts = [f"photograph number {n} of the benchmark" for n in range(len(urls))]
    pairs = pa.table({"key": keys, "url": urls, "caption": texts})

    def once(number: int) -> None:
        write_plan(pairs, plan_path(str(folder / "plan"), number))
        rules = ImageRules(200, 3.0, 6)
        plan, out = str(folder / "plan"), str(folder / "out")
        fence = Fence(str(folder / "start"), "benchmark")
        fence.take()
        settings = ShardSettings(rules, SETTINGS, ResizeSettings())
        stats = ShardWriter(plan, out, settings, fence, PerceptualMeasure()).write(
            number, Beginning()
        )
        if stats.successes != len(urls):
            raise RuntimeError(f"of {len(urls)} images {stats.successes} were kept")

    return min(cost_us(once, [n], 1) for n in range(repeats)) / len(urls)


def recording(bodies: list[bytes], folder: Path, thumbnails: int, pairs: int = 10_000) -> float:
    """What a shard of so many of these photographs records for the report, an image."""
    spool, images = Spool(folder / f"spool-{thumbnails}"), [examine(body) for body in bodies]
    places = [spool.put(body) for body in bodies]
    rows = [n % len(bodies) for n in range(pairs)]
    random = np.random.default_rng(0)
    columns = {
        "image": [images[row] for row in rows],
        "width": [images[row].width for row in rows],
        "height": [images[row].height for row in rows],
    }
    of_shard = ShardPairs(
        random.integers(0, 1 << 64, pairs, np.uint64),
        pa.array([f"https://host{n % 97}.example/pictures/{n}.jpg" for n in range(pairs)]),
        pa.array([f"photograph number {n} of the benchmark" for n in range(pairs)]),
        [(None, "too_small", "too_elongated")[n % 3] for n in range(pairs)],
        [None] * pairs,
        Measured(columns, [places[row] for row in rows], 0),
        {},
    )
    rules = ImageRules(min_side=200, max_aspect=3.0, min_evaluation_distance=6)
    paths = folder / "record.json", folder / "record.thumbnails"
    return (
        cost_us(lambda count: write_record(of_shard, rules, spool, count, *paths), [thumbnails], 3)
        / pairs
    )


def grey_plane(body: bytes) -> np.ndarray:
    return simplejpeg.decode_jpeg(body, "GRAY", min_height=60, min_width=60)[:, :, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="a folder for the photographs")
    flags = parser.parse_args()
    find_nginx()
    make_photos(flags.cache / "photos", flags.photos)
    paths = [flags.cache / "photos" / f"{n}.jpg" for n in range(flags.photos)]
    bodies = [path.read_bytes() for path in paths]
    planes = [grey_plane(body) for body in bodies]
    parts = {
        "sha256": cost_us(lambda body: hashlib.sha256(body).hexdigest(), bodies, flags.repeats),
        "XMP and C2PA": cost_us(
            lambda body: file_wishes(FileLook(body), SETTINGS), bodies, flags.repeats
        ),
        "header": cost_us(lambda body: FileLook(body).jpeg, bodies, flags.repeats),
        "grey plane": cost_us(grey_plane, bodies, flags.repeats),
        "perceptual hash": cost_us(plane_hash, planes, flags.repeats),
        "examine: header, plane, hash": cost_us(examine, bodies, flags.repeats),
    }
    with tempfile.TemporaryDirectory(prefix="alignset-bench-") as name:
        folder = Path(name)
        parts |= tar_costs(bodies, folder, flags.repeats)
        (folder / "nginx").mkdir()
        with serve(flags.cache / "photos", folder / "nginx") as server:
            urls = [f"{server}/{n % flags.photos}.jpg?{n}" for n in range(4000)]
            everything = cost_us(lambda all_: list(fetch_all(all_, SETTINGS)), [urls], 3)
            parts["fetch"] = everything / len(urls)
            parts["whole image plane"] = plane(urls, folder, 3)
            parts["record for the report"] = recording(bodies, folder, 16)
            parts["the same without thumbnails"] = recording(bodies, folder, 0)
    rows = [{"part": part, "CPU us": cost} for part, cost in parts.items()]
    figures = {"benchmark": "fetch_parts", "cores": os.cpu_count(), "rows": rows}
    print_results(rows, figures, PACKAGES)


if __name__ == "__main__":
    main()
