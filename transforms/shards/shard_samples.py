"""The samples of a shard: what is kept, in its tar and its sidecar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.arrivals.image_looks import (
    LOOK,
    batches,
    look_columns,
    looks_of,
    read_thumbnails,
)
from alignset.transforms.arrivals.image_settings import ImageSettings
from alignset.transforms.arrivals.images import Images, Span, Spool
from alignset.transforms.columns.carried import carried_columns, json_values
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, LICENSES_OF_PAGES
from alignset.transforms.columns.records import (
    LOOK_SCHEMA,
    extend_schema,
    fill_columns,
    key_column,
    set_columns,
)
from alignset.transforms.images.decode import turn_of
from alignset.transforms.images.resize import Encoder
from alignset.transforms.images.resize_settings import Encoded, EncodingError
from alignset.transforms.shards.shard_files import METADATA, SHARD_SCHEMA, TarWriter
from alignset.transforms.storage.files import PieceFile
from alignset.transforms.workers.threads import map_in_threads
from alignset.transforms.workers.unexpected import tell_once


def write_samples(
    pairs: pa.Table, images: Images, settings: ImageSettings, tar: Path, sidecar: Path
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
    names += LANGUAGE_COLUMNS if settings.has_vote else ()
    carried = [field.name for field in settings.carried]
    values = [table[name].to_pylist() for name in names]
    values += [json_values(table[name].combine_chunks()) for name in carried]
    names += carried
    sizes, unwritable = list[tuple[int, int]](), list[int]()
    encode = partial(_encoded, Encoder(settings), images)
    # Bytes that stay as they are need no second core.
    stays = settings.resize_mode == "original" and not settings.blur_boxes
    in_order = map if stays else map_in_threads
    rows = kept["image"].to_pylist()
    encodings = encoded_once(rows, lambda some: in_order(encode, some), images.spool)
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
    if unwritable:
        table = table.take(pa.array(np.delete(np.arange(len(kept)), unwritable)))
    widths, heights = (pa.array(column, pa.int32()) for column in zip(*sizes, strict=True))
    table = set_columns(table, {"width": widths, "height": heights})
    pq.write_table(table, sidecar, compression="zstd")
    return kept_rows[unwritable].tolist(), sha256


def sidecar_table(kept: pa.Table, images: Images, settings: ImageSettings) -> pa.Table:
    """The sidecar of some pairs; width and height, which follow from the encoding, are null."""
    carried = carried_columns(kept, settings.carried)
    schema = extend_schema(SHARD_SCHEMA, settings.measured_columns)
    columns = {name: kept[name] for name in kept.column_names} | {
        "key": key_column(kept["key"].to_numpy()),
        "status": pa.repeat("success", len(kept)),
        **carried,
    }
    columns |= {name: columns[of] for name, of in LICENSES_OF_PAGES.items() if of in columns}
    if settings.keeps_looks:
        schema = pa.schema([*schema, *LOOK_SCHEMA])
        rows, look_rows = np.unique(kept["image"].to_numpy(), return_inverse=True)
        parts = map_in_threads(
            lambda part: looks_of(read_thumbnails(images, part)), batches(rows.tolist())
        )
        looks = np.concatenate([np.zeros(0, LOOK), *parts])[look_rows]
        columns |= look_columns(looks)
    schema = extend_schema(schema, [pa.field(name, of.type) for name, of in carried.items()])
    return fill_columns(schema, columns, len(kept))


def _encoded(encode: Encoder, images: Images, row: int) -> Encoded | None:
    body, image = images.stored_file(row)
    if encoded := images["encoded"][row]:
        return encoded._replace(body=body)
    try:
        with turn_of(image.width * image.height):
            return encode(body, image, images["boxes"][row])
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
