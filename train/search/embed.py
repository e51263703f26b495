"""alignset embed --model=RUNS/a --data=OUT/shards --out=embeddings.parquet

Writes a row for each image of shards, or of a folder: its key, caption, URL
and embedding. A FILE.npy is float32[n, width], and FILE.npy.keys has the key of
each row.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from alignset.signals import run_main
from alignset.train.data.images import parts_by_pixels, readable_image
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.runs.flags import Parser, exit_status, local_folder
from alignset.train.search.pictures import Picture, PictureSource, find_sources

if TYPE_CHECKING:
    from alignset.train.model.embed import DualEmbedder, Embeddings

NAME = "python -m alignset.train.search.embed"
_STOPPED = "stopped; nothing was written"
_COLUMNS = ("key", "caption", "url")
# Of the images of a batch: what a row says of each, and their embeddings by tower.
Batch = tuple[list[Picture], "dict[str, Embeddings]"]


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name), stop_message=_STOPPED)


def _run(arguments: list[str], name: str) -> int:
    parser = Parser(prog=name, description=str(__doc__).replace("alignset embed", name))
    add = parser.add_argument
    add("--model", required=True, help="as alignset evaluate takes it")
    add("--data", required=True, help="shards, as train's --shards, or a folder of images")
    add("--out", required=True, type=local_folder, metavar="FILE", help=".parquet or .npy")
    add(
        "--tower",
        default="image",
        choices=("image", "text", "both"),
        help="embeds images, their captions, or both (image)",
    )
    add("--batch_size", type=int, default=64, help="images at once (64)")
    flags = parser.parse_args(arguments)
    writers = {".parquet": _write_parquet, ".npy": _write_npy}
    write = writers.get(flags.out.suffix)
    if write is None or (flags.out.suffix == ".npy" and flags.tower == "both"):
        raise SettingsError(
            f"--out={flags.out} must end with .parquet, or with .npy for one --tower"
        )
    if flags.batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1; got {flags.batch_size}")
    if not flags.out.parent.is_dir():
        raise SettingsError(f"--out={flags.out}: there is no folder {flags.out.parent}: make it")
    sources = find_sources(flags.data)
    from alignset.train.model.embed import open_embedder  # only now: torch takes seconds

    model = open_embedder(flags.model)
    towers = ("image", "text") if flags.tower == "both" else (flags.tower,)
    result: dict[str, Any] = {
        **{"rows": 0, "width": model.width, "left_out": {"no_image": 0, "undecodable": 0}},
        **{"model": model.name, "sha256": model.digest, "out": str(flags.out)},
    }
    write(flags.out, _batches(sources, model, towers, flags.batch_size, result), towers, result)
    print(json.dumps(result))
    return 0


def _batches(
    sources: list[PictureSource],
    model: DualEmbedder,
    towers: tuple[str, ...],
    size: int,
    result: dict[str, Any],
) -> Iterator[Batch]:
    """Counts rows, and what is left out, in `result`.

    Raises:
      TrainingError: nothing could be embedded, or an embedding is not finite.
    """
    pictures = (picture for source in sources for picture in source.pictures())
    bar = tqdm(unit=" pictures", leave=False, disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        for batch in parts_by_pixels(pictures, size, lambda picture: picture.data):
            images = pool.map(lambda picture: readable_image(picture.data or b""), batch)
            pairs = zip(batch, images, strict=True)
            items = [(picture, image) for picture, image in pairs if image is not None]
            without = sum(picture.data is None for picture in batch)
            result["left_out"]["no_image"] += without
            result["left_out"]["undecodable"] += len(batch) - without - len(items)
            bar.update(len(batch))
            if items:
                result["rows"] += len(items)
                vectors = {
                    tower: model.embed_images([image for _, image in items])
                    if tower == "image"
                    else model.embed_texts([picture.caption for picture, _ in items])
                    for tower in towers
                }
                if not all(np.isfinite(rows).all() for rows in vectors.values()):
                    raise TrainingError(
                        "the model's embeddings are not all finite numbers: it diverged, take an "
                        "earlier one"
                    )
                yield [picture._replace(data=None) for picture, _ in items], vectors
    if not result["rows"]:
        raise TrainingError("no image of --data can be decoded: name others")


def _write_parquet(
    path: Path, batches: Iterator[Batch], towers: tuple[str, ...], result: dict[str, Any]
) -> None:
    width = result["width"]
    fields = [(name, pa.string()) for name in _COLUMNS]
    fields += [(f"{tower}_embedding", pa.list_(pa.float32(), width)) for tower in towers]
    schema = pa.schema(fields, {"model": result["model"], "sha256": result["sha256"]})

    def write(file: IO[bytes]) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows, vectors in batches:
                columns: dict[str, Any] = {n: [getattr(row, n) for row in rows] for n in _COLUMNS}
                for tower in towers:
                    numbers = pa.array(vectors[tower].reshape(-1))
                    array = pa.FixedSizeListArray.from_arrays(numbers, width)
                    columns[f"{tower}_embedding"] = array
                writer.write_batch(pa.RecordBatch.from_pydict(columns, schema))

    write_whole(path, write)


def _write_npy(
    path: Path, batches: Iterator[Batch], towers: tuple[str, ...], result: dict[str, Any]
) -> None:
    (tower,) = towers
    keys: list[str] = []
    keys_file = path.with_name(f"{path.name}.keys")

    def write(file: IO[bytes]) -> None:
        def write_header() -> None:  # of one length, however many rows there are
            shape = (len(keys), result["width"])
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)

        write_header()
        for rows, vectors in batches:
            keys.extend(row.key for row in rows)
            file.write(np.ascontiguousarray(vectors[tower], np.float32).tobytes())
        file.seek(0)
        write_header()
        keys_file.unlink(missing_ok=True)  # a kill leaves rows without keys, never with others

    write_whole(path, write)
    write_whole(keys_file, "".join(f"{' '.join(key.splitlines())}\n" for key in keys))


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
