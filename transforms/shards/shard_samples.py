"""The samples of a shard: what is kept, in its tar, its sidecar and the list of its responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.columns.carried import json_values
from alignset.transforms.columns.pair_columns import PAGE_URL, SOURCE_LICENSE, SOURCE_OPTED_OUT
from alignset.transforms.columns.rejects import key_column, with_columns
from alignset.transforms.images.decode import turn_of
from alignset.transforms.images.examine import Image
from alignset.transforms.images.resize import Encoder
from alignset.transforms.images.resize_settings import Encoded, EncodingError
from alignset.transforms.rules import given
from alignset.transforms.shards.shard_files import LOOK_SCHEMA, METADATA, SHARD_SCHEMA, TarWriter
from alignset.transforms.shards.shard_images import Place, Spool
from alignset.transforms.shards.shard_pairs import ShardPairs
from alignset.transforms.shards.stated_opt_outs import RESPONSE, RESPONSES, joined_opt_outs
from alignset.transforms.workers.threads import in_threads
from alignset.transforms.workers.unexpected import tell_once

# What a pair brings with it into its sample.
_OF_SOURCE = ("key", "url", "caption", PAGE_URL, SOURCE_LICENSE, SOURCE_OPTED_OUT)


def add_samples(tar: TarWriter, pairs: ShardPairs) -> list[dict[str, Any]]:
    """Adds the kept pairs to a tar in the order of their keys, and drops those whose images cannot
    be encoded. Returns the rows of the sidecar."""
    images, samples = pairs.images, []
    encode = partial(_encoded, Encoder(images.settings.resize))
    # Bytes that stay as they are need no second core.
    in_order = map if images.settings.resize.resize_mode == "original" else in_threads

    def encode_all(rows: Iterable[int]) -> Iterable[Encoded | None]:
        return in_order(encode, map(images.stored_file, rows))

    kept_pairs = pairs.kept_pairs.tolist()
    metadata = (*METADATA, *pairs.of_languages, *pairs.carried)
    rows = [*map(pairs.kept_row, kept_pairs)]
    encodings = encoded_once(rows, encode_all, images.spool)
    for pair, row, source_values, file in zip(
        kept_pairs, rows, _stated_values(pairs, kept_pairs), encodings, strict=True
    ):
        if file is None:
            pairs.drop(pair, given.UNDECODABLE, "unwritable")
            continue
        look, size = images.looks[row], images.sizes[row]
        assert look is not None
        assert size is not None
        sample = source_values | {
            "status": "success",
            "error_message": None,
            "width": file.width,
            "height": file.height,
            "original_width": size[0],
            "original_height": size[1],
            "sha256": images.sha256[row],
            "phash": f"{look.phash:016x}",
        }
        tar.add_sample(sample, file.body, file.extension, metadata)
        samples.append(sample)
    return samples


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
    aside: dict[int, tuple[Encoded, Place] | None] = {}
    for image in images:
        if image in aside:
            entry = aside[image]
            yield entry and entry[0]._replace(body=spool.get(entry[1]))
            continue
        encoding = next(encodings)
        if uses[image] > 1:
            aside[image] = encoding and (encoding._replace(body=b""), spool.put(encoding.body))
        yield encoding


def _stated_values(pairs: ShardPairs, kept_pairs: list[int]) -> Iterator[dict[str, Any]]:
    """Values of each kept pair's sample: source, measures and statements."""
    columns = {name: pairs.table[name] for name in _OF_SOURCE if name in pairs.table.column_names}
    columns |= {"key": key_column(pairs.keys)} | pairs.of_languages
    column_names = {*SHARD_SCHEMA.names, *LOOK_SCHEMA.names, *pairs.rules.computed_columns}
    columns |= {name: of for name, of in pairs.measures.items() if name in column_names}
    names, carried_values = [*dict.fromkeys([*_OF_SOURCE, *columns])], pairs.carried
    numbers = pa.array(kept_pairs, pa.int64())
    values = [
        columns[name].take(numbers).to_pylist() if name in columns else [None] * len(kept_pairs)
        for name in names
    ]
    names += carried_values
    values += [json_values(column.take(numbers)) for column in carried_values.values()]
    for row in zip(*values, strict=True):
        sample = dict(zip(names, row, strict=True))
        sample["page_license"] = sample.pop(SOURCE_LICENSE)
        of_page, of_image = sample.pop(SOURCE_OPTED_OUT), sample["opted_out"]
        if of_page or of_image:
            opt_outs = ",".join(filter(None, (of_page, of_image))).split(",")
            sample["opted_out"] = joined_opt_outs(opt_outs)
        yield sample


def write_sidecar(samples: list[dict[str, Any]], path: Path, pairs: ShardPairs) -> None:
    """Writes the rows of the kept pairs, which have samples."""
    schema = with_columns(SHARD_SCHEMA, pairs.rules.measured_columns)
    if pairs.images.settings.looks:
        schema = pa.schema([*schema, *LOOK_SCHEMA])
    table, numbers = pa.Table.from_pylist(samples, schema), pa.array(pairs.kept_pairs)
    for name, column in pairs.carried.items():
        table = table.append_column(name, column.take(numbers))
    pq.write_table(table, path, compression="zstd")


def write_responses(pairs: ShardPairs, path: Path) -> None:
    """Writes the responses by which kept images came, where any did."""
    numbers = pa.array(pairs.kept_pairs)
    responses = pairs.measures[RESPONSE].take(numbers)
    came = responses.is_valid()
    responses = responses.filter(came)
    if len(responses):
        names = [
            column.take(numbers).filter(came) for column in (key_column(pairs.keys), pairs.urls)
        ]
        table = pa.table([*names, *responses.flatten()], schema=RESPONSES)
        pq.write_table(table, path, compression="zstd")
