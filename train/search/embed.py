"""alignset embed --model=RUNS/a --data=OUT/shards --output=embeddings.parquet

Writes a row for each image of shards, or of a folder: its key, caption, URL,
SHA-256 and embedding. Rows that a FILE.parquet of the same model has are kept.
A FILE.npy is float32[n, width], and FILE.npy.keys has the key of each
row.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
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
from alignset.train.search.known_rows import WRITING, KnownRows
from alignset.train.search.pictures import Picture, PictureSource, find_sources

if TYPE_CHECKING:
    from alignset.train.model.embed import DualEmbedder, Embeddings

NAME = "python -m alignset.train.search.embed"
_STOPPED = "stopped; nothing was written"
_COLUMNS = ("key", "caption", "url", "image_sha256")
# Of the images of a batch: what a row says of each, and their embeddings by tower.
Batch = tuple[list[Picture], "dict[str, Embeddings]"]


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name), stop_message=_STOPPED)


def _run(arguments: list[str], name: str) -> int:
    parser = Parser(prog=name, description=str(__doc__).replace("alignset embed", name))
    add = parser.add_argument
    add("--model", required=True, help="as alignset evaluate takes it")
    add("--data", required=True, help="shards, as train's --shards, or a folder of images")
    writes = {"dest": "out", "metavar": "FILE", "help": ".parquet or .npy"}
    add("--output", "--out", required=True, type=local_folder, **writes)
    add(
        "--tower",
        default="image",
        choices=("image", "text", "both"),
        help="embeds images, their captions, or both (image)",
    )
    add("--batch_size", type=int, default=64, help="images at once, on each GPU (64)")
    flags = parser.parse_args(arguments)
    writers = {".parquet": _write_parquet, ".npy": _write_npy}
    write = writers.get(flags.out.suffix)
    if write is None or (flags.out.suffix == ".npy" and flags.tower == "both"):
        raise SettingsError(
            f"--output={flags.out} must end with .parquet, or with .npy for one --tower"
        )
    if flags.batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1; got {flags.batch_size}")
    if not flags.out.parent.is_dir():
        raise SettingsError(f"--output={flags.out}: there is no folder {flags.out.parent}: make it")
    sources = find_sources(flags.data)
    from alignset.train.model.embed import open_embedder  # only now: torch takes seconds

    model = open_embedder(flags.model)
    towers = ("image", "text") if flags.tower == "both" else (flags.tower,)
    result: dict[str, Any] = {
        **{"rows": 0, "width": model.width, "left_out": {"no_image": 0, "undecodable": 0}},
        **{"model": model.name, "sha256": model.digest, "out": str(flags.out), "known": 0},
    }
    vector = pa.list_(pa.float32(), model.width)
    columns = pa.schema([(f"{tower}_embedding", vector) for tower in towers])
    known = KnownRows(flags.out, columns, lambda m: m[b"sha256"] == model.digest.encode())
    batches = _batches(sources, model, known, towers, flags.batch_size, result)
    write(flags.out, batches, towers, result)
    print(json.dumps(result))
    return 0


def _batches(
    sources: list[PictureSource],
    model: DualEmbedder,
    known: KnownRows,
    towers: tuple[str, ...],
    size: int,
    result: dict[str, Any],
) -> Iterator[Batch]:
    """Counts rows, and what is left out, in `result`.

    Raises:
      TrainingError: nothing could be embedded, or an embedding is not finite.
    """
    from alignset.train.model.embed import embed_ahead, finite  # only now, as above

    def look(picture: Picture, row: dict[str, Any] | None) -> Any:  # None: it is not decoded
        image = None if row else readable_image(picture.data or b"")
        return image and (model.prepare(image, picture.key) if "image" in towers else True)

    def read(batch: list[Picture], pool: Executor) -> tuple[tuple[Any, list[Any]], list[Any]]:
        rows = [*map(known.find, batch)]
        looks = zip(batch, rows, pool.map(look, batch, rows), strict=True)
        items = [(*item, new) for *item, new in looks if item[1] or new is not None]
        return (batch, items), [new for _, row, new in items if not row and "image" in towers]

    pictures = (picture for source in sources for picture in source.pictures())
    parts = parts_by_pixels(pictures, size * model.devices)
    with tqdm(unit=" pictures", leave=False, disable=not sys.stderr.isatty()) as bar:
        for (batch, items), images in embed_ahead(model, parts, read):
            without = sum(picture.data is None for picture in batch)
            result["left_out"]["no_image"] += without
            result["left_out"]["undecodable"] += len(batch) - without - len(items)
            bar.update(len(batch))
            if items:
                captions = [picture.caption for picture, row, _ in items if not row]
                result["rows"] += len(items)
                result["known"] += len(items) - len(captions)
                vectors = {}
                for tower in towers:
                    is_text = tower == "text" and captions
                    new = finite(model.embed_texts(captions)) if is_text else images
                    name, vector = f"{tower}_embedding", iter(new)
                    values = [row[name] if row else next(vector) for _, row, _ in items]
                    vectors[tower] = np.array(values, np.float32)
                yield [picture for picture, *_ in items], vectors
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
        with pq.ParquetWriter(file, schema, **WRITING) as writer:
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
