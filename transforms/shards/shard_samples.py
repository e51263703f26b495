"""The samples of a shard: what is kept, in its tar, its sidecar and the list of its responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.arrivals.image_looks import LOOK, look_columns, looks_of, stored_planes
from alignset.transforms.arrivals.images import RESPONSES, Images, Span, Spool
from alignset.transforms.arrivals.shard_settings import ShardSettings
from alignset.transforms.columns.carried import carried_columns, json_values
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, SOURCE_LICENSE
from alignset.transforms.columns.rejects import key_column, with_columns, with_values
from alignset.transforms.images.decode import turn_of
from alignset.transforms.images.examine import Image
from alignset.transforms.images.resize import Encoder
from alignset.transforms.images.resize_settings import Encoded, EncodingError
from alignset.transforms.shards.shard_files import LOOK_SCHEMA, METADATA, SHARD_SCHEMA, TarWriter
from alignset.transforms.storage.files import PieceFile
from alignset.transforms.workers.threads import in_threads
from alignset.transforms.workers.unexpected import tell_once

_AT_ONCE = 64  # images; the network has batches of 16


def write_samples(
    pairs: pa.Table, images: Images, settings: ShardSettings, tar: Path, sidecar: Path
) -> tuple[list[int], str | None]:
    """Writes the pairs without a reason to a tar and a sidecar, in the order of their keys; no file
    where nothing can be written.

    Returns:
      the rows of the pairs whose images cannot be encoded, which are in neither file; and the
      SHA-256 of the tar, in hex, None where there is none.
    """
    kept_rows = np.flatnonzero(pairs["reason"].is_null())
    kept = pairs.take(pa.array(kept_rows))
    table, names = sidecar_table(kept, images, settings), [*METADATA]
    names += LANGUAGE_COLUMNS if settings.rules.has_vote else ()
    carried = [field.name for field in settings.rules.carried]
    values = [table[name].to_pylist() for name in names]
    values += [json_values(table[name].combine_chunks()) for name in carried]
    names += carried
    sizes, unwritable = list[tuple[int, int]](), list[int]()
    encodings = _encoded_files(kept["image"].to_pylist(), images, settings)
    with PieceFile(tar, "wb") as sink:
        writer = TarWriter(sink)
        for row, file, *sample_values in zip(range(len(kept)), encodings, *values, strict=True):
            if file is None:
                unwritable.append(row)
                continue
            sizes.append((file.width, file.height))
            size = {"width": file.width, "height": file.height}
            sample = dict(zip(names, sample_values, strict=True)) | size
            writer.add_sample(sample, file.body, file.extension, names)
        sha256 = writer.finish()
    if not sizes:
        tar.unlink()
        return kept_rows[unwritable].tolist(), None
    table = table.take(pa.array(np.delete(np.arange(len(kept)), unwritable)))
    widths, heights = (pa.array(column, pa.int32()) for column in zip(*sizes, strict=True))
    table = with_values(table, {"width": widths, "height": heights})
    pq.write_table(table, sidecar, compression="zstd")
    return kept_rows[unwritable].tolist(), sha256


def sidecar_table(kept: pa.Table, images: Images, settings: ShardSettings) -> pa.Table:
    """The sidecar of some pairs; width and height, which follow from the encoding, are null."""
    rules, carried = settings.rules, carried_columns(kept, settings.rules.carried)
    schema = with_columns(SHARD_SCHEMA, rules.measured_columns)
    columns = {name: kept[name] for name in kept.column_names} | {
        "key": key_column(kept["key"].to_numpy()),
        "status": pa.repeat("success", len(kept)),
        **carried,
    }
    if SOURCE_LICENSE in columns:
        columns["page_license"] = columns[SOURCE_LICENSE]
    if settings.looks:
        schema = pa.schema([*schema, *LOOK_SCHEMA])
        rows, look_rows = np.unique(kept["image"].to_numpy(), return_inverse=True)
        parts = in_threads(
            lambda part: looks_of(stored_planes(images, part)), batches(rows.tolist())
        )
        looks = np.concatenate([np.zeros(0, LOOK), *parts])[look_rows]
        columns |= look_columns(looks)
    schema = with_columns(schema, [pa.field(name, of.type) for name, of in carried.items()])
    return pa.table(
        [
            columns[field.name].cast(field.type)
            if field.name in columns
            else pa.nulls(len(kept), field.type)
            for field in schema
        ],
        schema=schema,
    )


def batches(rows: Sequence[int]) -> Iterable[list[int]]:
    """Rows in parts that are described together."""
    return ([*rows[at : at + _AT_ONCE]] for at in range(0, len(rows), _AT_ONCE))


def _encoded_files(
    rows: Sequence[int], images: Images, settings: ShardSettings
) -> Iterator[Encoded | None]:
    encode = partial(_encoded, Encoder(settings.resize))
    # Bytes that stay as they are need no second core.
    in_order = map if settings.resize.resize_mode == "original" else in_threads
    return encoded_once(
        rows, lambda some: in_order(encode, map(images.stored_file, some)), images.spool
    )


def _encoded(encode: Encoder, item: tuple[bytes, Image]) -> Encoded | None:
    body, image = item
    try:
        with turn_of(image.width * image.height):
            return encode(body, image)
    except EncodingError:
        return None
    except Exception as error:  # whatever an image makes an encoder raise costs it alone
        tell_once("encoding an image", error)
        return None


def encoded_once(
    images: Sequence[int],
    encode: Callable[[Iterable[int]], Iterable[Encoded | None]],
    spool: Spool,
) -> Iterator[Encoded | None]:
    """The encoded images, one for each pair. The bytes of an image of several pairs are put aside
    in between.

    Args:
      images: the image of each pair, in the order of the pairs.
      encode: encodes images, each given once, in their order; None where one cannot be.
    """
    uses = Counter(images)
    encodings = iter(encode(dict.fromkeys(images)))
    aside: dict[int, tuple[Encoded, Span] | None] = {}
    for image in images:
        if image in aside:
            entry = aside[image]
            yield entry and entry[0]._replace(body=spool.get(entry[1]))
            continue
        encoding = next(encodings)
        if uses[image] > 1:
            aside[image] = encoding and (encoding._replace(body=b""), spool.put(encoding.body))
        yield encoding


def write_responses(kept: pa.Table, path: Path) -> None:
    """Writes the responses by which kept images came, where any did."""
    kept = kept.filter(kept["response"].is_valid()).combine_chunks()
    if len(kept):
        keys, responses = key_column(kept["key"].to_numpy()), kept["response"].combine_chunks()
        table = pa.table([keys, kept["url"], *responses.flatten()], schema=RESPONSES)
        pq.write_table(table, path, compression="zstd")
