"""The samples of a shard: what is kept, in its tar, its sidecar and the list of its answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.columns.pair_columns import PAGE_URL, SOURCE_LICENSE, SOURCE_OPTED_OUT
from alignset.transforms.columns.rejects import with_columns
from alignset.transforms.images.resize_settings import Encoded
from alignset.transforms.shards.measure_images import Measured
from alignset.transforms.shards.shard_files import SHARD_SCHEMA, Spool, TarWriter
from alignset.transforms.shards.shared_images import SafeEncoder, SharedImages, encoded_once
from alignset.transforms.shards.stated_wishes import ANSWER, joined_opt_outs, write_answers

# What a pair brings with it into its sample.
_OF_SOURCE = ("key", "url", "caption", PAGE_URL, SOURCE_LICENSE, SOURCE_OPTED_OUT)
_OF_IMAGE = ("width", "height", "sha256", "phash")


class Verdicts(NamedTuple):
    """What became of each pair, and what was measured of it, by column; `own`: the columns that
    hold what rules of users measured."""

    reasons: pa.StringArray
    details: pa.StringArray
    measures: dict[str, pa.Array]
    own: Sequence[str] = ()


class Samples(NamedTuple):
    """The kept pairs of a shard.

    Fields:
      rows: of the sidecar. pairs: the number of the pair of each.
      unwritable: the numbers of the pairs whose images cannot be encoded.
    """

    rows: list[dict[str, Any]]
    pairs: list[int]
    unwritable: list[int]


def add_samples(
    tar: TarWriter,
    pairs: pa.Table,
    images: SharedImages,
    measured: Measured,
    verdicts: Verdicts,
    spool: Spool,
    encoder: SafeEncoder,
) -> Samples:
    """Adds the kept images to a tar in the order of their keys."""
    kept = np.flatnonzero(verdicts.reasons.is_null().to_numpy(zero_copy_only=False))
    of_kept = images.of_pairs[kept].tolist()

    def encode(wanted: Iterable[int]) -> Iterable[Encoded | None]:
        bodies = ((measured.columns["image"][at], spool.get(measured.places[at])) for at in wanted)
        return encoder.map(encoder, bodies)

    samples = Samples([], [], [])
    stated = _stated(pairs, verdicts, kept)
    encodings = encoded_once(of_kept, encode, spool)
    for pair, image, known, encoded in zip(kept.tolist(), of_kept, stated, encodings, strict=True):
        if encoded is None:
            samples.unwritable.append(pair)
            continue
        width, height, sha256, phash = (measured.columns[name][image] for name in _OF_IMAGE)
        sample = known | {
            "status": "success",
            "error_message": None,
            "width": encoded.width,
            "height": encoded.height,
            "original_width": width,
            "original_height": height,
            "sha256": sha256,
            "phash": f"{phash:016x}",
        }
        tar.add_sample(sample, encoded.body, encoded.extension)
        samples.rows.append(sample)
        samples.pairs.append(pair)
    return samples


def _stated(
    pairs: pa.Table, verdicts: Verdicts, kept: np.ndarray[Any, Any]
) -> Iterator[dict[str, Any]]:
    """What the sample of each kept pair has of its source, and of what was measured and stated."""
    taken = pa.array(kept)
    columns = {name: pairs[name] for name in _OF_SOURCE if name in pairs.column_names}
    wanted = {*SHARD_SCHEMA.names, *verdicts.own}
    columns |= {name: of for name, of in verdicts.measures.items() if name in wanted}
    names = dict.fromkeys([*_OF_SOURCE, *columns])
    values = (
        columns[name].take(taken).to_pylist() if name in columns else [None] * len(kept)
        for name in names
    )
    for row in zip(*values, strict=True):
        sample = dict(zip(names, row, strict=True))
        sample["page_license"] = sample.pop(SOURCE_LICENSE)
        of_page, of_image = sample.pop(SOURCE_OPTED_OUT), sample["opted_out"]
        if of_page or of_image:
            opt_outs = ",".join(filter(None, (of_page, of_image))).split(",")
            sample["opted_out"] = joined_opt_outs(opt_outs)
        yield sample


def write_sidecar(samples: Samples, path: Path, columns: Sequence[str] = ()) -> None:
    """Writes the rows of the kept pairs; columns: of what rules of users measured."""
    schema = with_columns(SHARD_SCHEMA, columns)
    pq.write_table(pa.Table.from_pylist(samples.rows, schema), path, compression="zstd")


def write_sample_answers(samples: Samples, pairs: pa.Table, verdicts: Verdicts, path: Path) -> None:
    """Writes the answers by which the samples came, where any did.

    Args:
      pairs: columns key (string) and url.
    """
    written = pa.array(samples.pairs, pa.int64())
    answers = verdicts.measures[ANSWER].take(written)
    came = answers.is_valid()
    write_answers(
        pairs.select(["key", "url"]).take(written).filter(came), answers.filter(came), path
    )
