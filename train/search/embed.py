"""alignset embed --model=RUNS/a --data=OUT/shards --out=embeddings.parquet

Writes a row for each image of shards, or of a folder: its key, caption, URL
and embedding. A FILE.npy is float32[n, width], and FILE.npy.keys has the key of
each row.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
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
                rows = [picture._replace(data=None) for picture, _ in items]
                result["rows"] += len(rows)
                yield rows, _embed(model, towers, items)
    if not result["rows"]:
        raise TrainingError("no image of --data can be decoded: name others")


def _embed(
    model: DualEmbedder, towers: tuple[str, ...], items: list[tuple[Picture, Image.Image]]
) -> dict[str, Embeddings]:
    embed: dict[str, Callable[[], Embeddings]] = {
        "image": lambda: model.embed_images([image for _, image in items]),
        "text": lambda: model.embed_texts([picture.caption for picture, _ in items]),
    }
    vectors = {tower: embed[tower]() for tower in towers}
    if not all(np.isfinite(rows).all() for rows in vectors.values()):
        raise TrainingError(
            "the model's embeddings are not all finite numbers: it diverged, take an earlier one"
        )
    return vectors


def _write_parquet(
    path: Path, batches: Iterator[Batch], towers: tuple[str, ...], result: dict[str, Any]
) -> None:
    vector = pa.list_(pa.float32(), result["width"])
    fields = [(name, pa.string()) for name in _COLUMNS]
    fields += [(f"{tower}_embedding", vector) for tower in towers]
    schema = pa.schema(fields, {"model": result["model"], "sha256": result["sha256"]})

    def write(file: IO[bytes]) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows, vectors in batches:
                columns = [[getattr(row, name) for row in rows] for name in _COLUMNS]
                columns += [pa.array(vectors[tower].reshape(-1)) for tower in towers]
                arrays = [
                    pa.array(column, field.type)
                    if isinstance(column, list)
                    else pa.FixedSizeListArray.from_arrays(column, result["width"])
                    for column, field in zip(columns, schema, strict=True)
                ]
                writer.write_batch(pa.record_batch(arrays, schema=schema))

    write_whole(path, write)


def _write_npy(
    path: Path, batches: Iterator[Batch], towers: tuple[str, ...], result: dict[str, Any]
) -> None:
    """Rows wait in a temporary file, since the header before them says how many they are."""
    (tower,) = towers
    keys: list[str] = []
    with tempfile.TemporaryFile(dir=path.parent) as rows_file:
        for rows, vectors in batches:
            keys += [row.key for row in rows]
            rows_file.write(np.ascontiguousarray(vectors[tower], np.float32).tobytes())
        shape = (len(keys), result["width"])

        def write(file: IO[bytes]) -> None:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            rows_file.seek(0)
            shutil.copyfileobj(rows_file, file)
            keys_file.unlink(missing_ok=True)  # a kill leaves rows without keys, never with others

        keys_file = path.with_name(f"{path.name}.keys")
        names = "".join(f"{' '.join(key.splitlines())}\n" for key in keys)  # a line a row
        write_whole(path, write)
        write_whole(keys_file, names)


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
