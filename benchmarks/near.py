"""Near-duplicates within a dataset: recall, accepted pairs and cost; and memory at many records.

  python benchmarks/near.py --pictures FOLDER … [--sheets=FOLDER]
  python benchmarks/near.py --records=2000000 --hot=1000000

Of pictures below folders, each once: which altered copies are found of some, and which pairs of
different ones are accepted, drawn beside each other in `--sheets` to be looked at. Of records:
sidecars are made, of which `--hot` look like one, and the search goes over them in this process.
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
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.duplicates.contents import CopyRules
from alignset.transforms.duplicates.find_copies import FindCopies, bucket_count
from alignset.transforms.duplicates.near_groups import GRAPHIC_TONE, NODE, cell_count, compared
from alignset.transforms.images.displayed_picture import displayed_picture
from alignset.transforms.images.examine import Image as Looked
from alignset.transforms.images.examine import examine
from alignset.transforms.shards.descriptors import LOOK, look_columns, looks_of, planes_of
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.workers.fencing import Fence
from benchmarks.overlap.alterations import SINGLE

SHARD_ROWS = 10_000
KINDS = {
    "mild": ("JPEG", "resize", "squeeze", "grey", "the same", "WebP"),
    "medium": ("crop 95", "letterbox 12", "border"),
    "hard": ("crop 90", "crop 80", "banner", "logo 15"),
}


def look_at(body: bytes) -> np.ndarray | None:
    image = examine(body, keep_grey=True)
    return planes_of(body, image, in_colour=True) if isinstance(image, Looked) else None


def kind_of(name: str) -> str:
    return next((kind for kind, of in KINDS.items() if name.startswith(of)), "other")


def measure_pictures(paths: list[Path], altered: int, sheets: Path | None) -> None:
    started = time.thread_time()
    found = {path: planes for path in paths if (planes := look_at(path.read_bytes())) is not None}
    looked_s, started = time.thread_time() - started, time.thread_time()
    looks = looks_of(np.concatenate([*found.values()]))
    described_s, paths = time.thread_time() - started, [*found]
    nodes = np.zeros(len(looks), NODE)
    nodes["look"] = looks
    near = [
        (row + first, column)
        for first in range(0, len(nodes), 512)
        for row, column in zip(*compared(nodes[first : first + 512], nodes)[1:3], strict=True)
        if column < row + first
    ]
    tones = looks["one_tone"]
    photos = [pair for pair in near if max(tones[list(pair)]) < GRAPHIC_TONE]
    rows = []
    rng = random.Random(7)
    plain = [at for at in range(len(paths)) if tones[at] < GRAPHIC_TONE]
    chosen = rng.sample(plain, min(altered, len(plain)))
    for change in SINGLE:
        hits = 0
        for at in chosen:
            with Image.open(paths[at]) as opened:
                picture = displayed_picture(opened).convert("RGB")
            picture.thumbnail((640, 640), Image.Resampling.LANCZOS)
            planes = look_at(change.file_of(picture, paths[at].name))
            other = np.zeros(1, NODE)
            other["look"] = looks_of(planes)
            hits += bool(compared(nodes[at : at + 1], other).leaves.any())
        rows.append(
            {"change": change.name, "kind": kind_of(change.name), "found": hits / len(chosen)}
        )
    print_table(rows)
    for kind in KINDS:
        of_kind = [row["found"] for row in rows if row["kind"] == kind]
        print(kind, round(float(np.mean(of_kind)), 3))
    if sheets is not None:
        draw_sheets([(paths[row], paths[column]) for row, column in photos], sheets)
    us = 1e6 / len(looks)
    figures = {"images": len(looks), "accepted": len(photos), "graphic pairs": len(near)}
    figures |= {"us looked at": looked_s * us, "us described": described_s * us}
    print_results([figures], figures, ("numpy", "opencv-python-headless"))


def draw_sheets(pairs: list[tuple[Path, Path]], folder: Path, side: int = 160) -> None:
    """50 pairs a sheet, each beside each other."""
    folder.mkdir(parents=True, exist_ok=True)
    random.Random(0).shuffle(pairs)
    for first in range(0, min(len(pairs), 200), 50):
        sheet = Image.new("RGB", (10 * (side + 4), 10 * (side + 4)), "white")
        for place, pair in enumerate(pairs[first : first + 50]):
            for half, path in enumerate(pair):
                shown = displayed_picture(Image.open(path)).convert("RGB")
                small = ImageOps.pad(shown, (side, side), color="grey")
                x = (place % 5) * 2 + half
                sheet.paste(small, (x * (side + 4) + 4 * (half == 0), place // 5 * (side + 4)))
        sheet.save(folder / f"pairs-{first:03d}.png")


def made_shards(out: Path, records: int, hot: int) -> Iterator[int]:
    """Sidecars of pictures that are all different, but for those that look like one."""
    rng = np.random.default_rng(0)
    (out / "shards").mkdir()
    one = rng.integers(-127, 128, 64)
    for shard in range(records // SHARD_ROWS):
        looks = np.zeros(SHARD_ROWS, LOOK)
        vectors = rng.integers(-127, 128, (SHARD_ROWS, 64))
        is_hot = rng.random(SHARD_ROWS) < hot / records
        vectors[is_hot] = np.clip(one + rng.integers(-9, 10, (int(is_hot.sum()), 64)), -127, 127)
        looks["descriptor"] = vectors
        looks["trimmed_phash"] = np.where(is_hot, 0, rng.integers(0, 1 << 63, SHARD_ROWS))
        keys = key_column(np.sort(rng.integers(0, 1 << 63, SHARD_ROWS).astype(np.uint64)))
        texts = [f"text {key}" for key in keys.to_pylist()]
        sizes = {f"original_{n}": pa.array(rng.integers(99, 999, SHARD_ROWS)) for n in WIDE}
        columns = {
            "key": keys,
            "url": pa.array([f"http://h/{text}" for text in texts]),
            "caption": pa.array(texts),
            "sha256": pa.array([rng.bytes(32).hex() for _ in texts]),
        }
        table = pa.table(columns | sizes | look_columns(looks))
        pq.write_table(table, out / f"shards/{shard:05d}.parquet", compression="zstd")
        yield shard


WIDE = ("width", "height")


def measure_records(records: int, hot: int) -> None:
    with tempfile.TemporaryDirectory(prefix="near-") as name:
        out = Path(name)
        shards = [*made_shards(out, records, hot)]
        (out / "blocks").mkdir()
        fence = Fence(f"{out}/start", "benchmark")
        fence.take()
        how = Blocks(f"{out}/blocks"), fence, bucket_count(records), cell_count(records)
        find = FindCopies(str(out), f"{out}/plan", CopyRules(1000, once=True, near=True), *how)
        before, started = time.process_time(), time.monotonic()
        with Engine(PipelineOptions([]), "benchmark").pipeline("near") as pipeline:
            pipeline | beam.Create(shards) | beam.Reshuffle() | find | beam.Map(lambda _: None)
        cpu_s, wall_s = time.process_time() - before, time.monotonic() - started
        gone = sum(pq.read_table(path).num_rows for path in out.glob("plan/*-leaving.parquet"))
        shuffled = sum(path.stat().st_size for path in out.glob("blocks/*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"records": records, "hot": hot, "left": gone, "us CPU": cpu_s / records * 1e6}
    figures |= {"wall_s": wall_s, "peak_mib": peak, "bytes shuffled": shuffled / records}
    print_results([figures], figures, ("apache-beam", "numpy", "pyarrow"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", nargs="*", type=Path, default=[])
    parser.add_argument("--altered", type=int, default=100)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--hot", type=int, default=0)
    flags = parser.parse_args()
    if flags.records:
        measure_records(flags.records, flags.hot)
    if flags.pictures:
        files = [p for f in flags.pictures for p in sorted(f.rglob("*")) if p.is_file()]
        measure_pictures(files, flags.altered, flags.sheets)


if __name__ == "__main__":
    main()
