"""Near-duplicates within a dataset: recall, accepted pairs and cost; and memory at many records.

  python benchmarks/near.py --pictures FOLDER … [--sheets=FOLDER]
  python benchmarks/near.py --records=2000000 --hot=1000000

With folders of images: how many altered copies of 150 are found, and which pairs of different
images are accepted; `--sheets` draws these beside each other. With `--records` it makes sidecars,
where `--hot` rows look like one image, and searches them in this process.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image, ImageOps
from results import print_results, print_table

from alignset.pipeline.runs.engine import Engine
from alignset.pipeline.settings import Settings
from alignset.transforms.arrivals.image_looks import (
    LOOK,
    look_columns,
    looks_of,
    make_thumbnail_row,
)
from alignset.transforms.columns.records import key_column
from alignset.transforms.duplicates.find_copies import FindCopies, bucket_count
from alignset.transforms.duplicates.find_near import GRAPHIC_TONE, NODE, cell_count, compare
from alignset.transforms.images.decode import displayed_picture
from alignset.transforms.images.examine import Image as Looked
from alignset.transforms.images.examine import examine
from alignset.transforms.storage.blocks import Blocks
from benchmarks.overlap.alterations import SINGLE

SHARD_ROWS, ALTERED, SIDE_PX = 10_000, 150, 160


def nodes_of(bodies: list[bytes]) -> np.ndarray:
    """The images of files; of one that is none the numbers are 0, which is near nothing."""
    looks = np.zeros(len(bodies), NODE)
    for at, body in enumerate(bodies):
        if isinstance(image := examine(body, keep_grey=True, keep_picture=True), Looked):
            looks["look"][at] = looks_of(make_thumbnail_row(image, in_colour=True))[0]
    return looks


def opened(path: Path) -> Image.Image:
    return displayed_picture(Image.open(path)).convert("RGB")


def measure_pictures(paths: list[Path], sheets: Path | None) -> None:
    started = time.process_time()
    nodes = nodes_of([path.read_bytes() for path in paths])
    cpu_s, tones = time.process_time() - started, nodes["look"]["one_tone"]
    pairs = [
        (paths[row + first], paths[column])
        for first in range(0, len(nodes), 512)
        for found in [compare(nodes[first : first + 512], nodes)]
        for row, column in zip(found.rows[found.leaves], found.columns[found.leaves], strict=True)
        if column < row + first
    ]
    plain = np.flatnonzero((tones < GRAPHIC_TONE) & (tones > 0)).tolist()
    chosen = random.Random(7).sample(plain, min(ALTERED, len(plain)))
    rows = []
    for change in SINGLE:
        pictures = [ImageOps.contain(opened(paths[at]), (640, 640)) for at in chosen]
        altered = nodes_of(
            [change.file_of(p, str(at)) for p, at in zip(pictures, chosen, strict=True)]
        )
        ours = (compare(nodes[[at]], altered[[n]]).leaves.any() for n, at in enumerate(chosen))
        rows.append({"change": change.name, "found": sum(ours) / len(chosen)})
    print_table(rows)
    random.Random(0).shuffle(pairs)
    for first in range(0, min(len(pairs), 200) if sheets else 0, 50):
        draw_sheet(pairs[first : first + 50]).save(sheets / f"pairs-{first:03d}.png")
    us = cpu_s / len(nodes) * 1e6
    figures = {"images": len(nodes), "accepted": len(pairs), "us CPU, examined too": us}
    print_results([figures], figures, ("numpy", "opencv-python-headless"))


def draw_sheet(pairs: list[tuple[Path, Path]]) -> Image.Image:
    sheet = Image.new("RGB", (10 * SIDE_PX, 10 * SIDE_PX), "white")
    for place, path in enumerate(path for pair in pairs for path in pair):
        small = ImageOps.pad(opened(path), (SIDE_PX - 4, SIDE_PX - 4), color="grey")
        sheet.paste(small, (place % 10 * SIDE_PX, place // 10 * SIDE_PX))
    return sheet


def made_shards(out: Path, records: int, hot: int) -> Iterator[int]:
    """Sidecars of images that are all different, but for those that look like one."""
    rng = np.random.default_rng(0)
    (out / "shards").mkdir()
    one = rng.integers(-127, 128, 64)
    for shard in range(records // SHARD_ROWS):
        looks, is_hot = np.zeros(SHARD_ROWS, LOOK), rng.random(SHARD_ROWS) < hot / records
        vectors = rng.integers(-127, 128, (SHARD_ROWS, 64))
        vectors[is_hot] = np.clip(one + rng.integers(-9, 10, (int(is_hot.sum()), 64)), -127, 127)
        looks["descriptor"] = vectors
        looks["trimmed_phash"] = np.where(is_hot, 0, rng.integers(0, 1 << 63, SHARD_ROWS))
        keys = key_column(np.sort(rng.integers(0, 1 << 63, SHARD_ROWS).astype(np.uint64)))
        rest = {"sha256": pa.array([rng.bytes(32).hex() for _ in range(SHARD_ROWS)])}
        rest |= {f"original_{n}": rng.integers(9, 999, SHARD_ROWS) for n in ("width", "height")}
        table = pa.table({"key": keys, "url": keys, "caption": keys} | rest | look_columns(looks))
        pq.write_table(table, out / f"shards/{shard:05d}.parquet", compression="zstd")
        yield shard


def measure_records(records: int, hot: int) -> None:
    with tempfile.TemporaryDirectory(prefix="near-") as name:
        out = Path(name)
        shards = [*made_shards(out, records, hot)]
        (out / "blocks").mkdir()
        how = Blocks(f"{out}/blocks"), bucket_count(records), cell_count(records)
        settings = Settings(input="in", output="out", duplicates="near")
        find = FindCopies(str(out), f"{out}/plan", str(out), settings, *how)
        before, started = time.process_time(), time.monotonic()
        with Engine(PipelineOptions([]), "benchmark").pipeline("near") as pipeline:
            pipeline | beam.Create(shards) | beam.Reshuffle() | find | beam.Map(lambda _: None)
        cpu_s, wall_s = time.process_time() - before, time.monotonic() - started
        gone = sum(pq.read_metadata(p).num_rows for p in out.glob("plan/rejected/*.parquet"))
        shuffled = sum(path.stat().st_size for path in out.glob("blocks/*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"records": records, "hot": hot, "left": gone, "us CPU": cpu_s / records * 1e6}
    figures |= {"wall_s": wall_s, "peak_mib": peak, "bytes shuffled": shuffled / records}
    print_results([figures], figures, ("apache-beam", "numpy", "pyarrow"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", nargs="*", type=Path, default=[])
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--hot", type=int, default=0)
    flags = parser.parse_args()
    if flags.records:
        measure_records(flags.records, flags.hot)
    if flags.pictures:
        found = [p for folder in flags.pictures for p in sorted(folder.rglob("*")) if p.is_file()]
        measure_pictures(found, flags.sheets)
