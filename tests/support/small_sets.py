"""Sets made by hand, as a run leaves them or is about to."""

import io
import json
from collections.abc import Sequence
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.columns.hashing import string_hashes
from alignset.transforms.columns.records import REJECTED, key_column
from alignset.transforms.shards.shard_files import SHARD_SCHEMA, TarWriter
from alignset.transforms.storage.files import write_atomically
from tests.support.picture_files import encoded, photograph


def keys(first: int, count: int) -> list[str]:
    """So many keys, in their order."""
    hashes = string_hashes(pa.array(map(str, range(first, first + count)), pa.string()))
    return sorted(key_column(hashes).to_pylist())


def put_shard(folder: str, number: int, rows: int, *, finished: bool = True) -> list[str]:
    """Writes a shard whose images are all different; returns its keys."""
    own, samples, tar = keys(1000 * number, rows), [], io.BytesIO()
    writer = TarWriter(tar)
    for place, key in enumerate(own):
        sample = dict.fromkeys(SHARD_SCHEMA.names) | {
            "key": key,
            "url": f"http://host{place}.example/{key}.jpg",
            "caption": f"caption {place} of shard {number}",
            "width": 40 + place,
            "height": 40,
        }
        samples.append(sample)
        writer.add_sample(sample, image(number, place), "jpg")
    writer.finish()
    stem = f"{folder}/shards/{number:05d}"
    put(f"{stem}.tar", tar.getvalue())
    put_table(f"{stem}.parquet", pa.Table.from_pylist(samples, SHARD_SCHEMA))
    if finished:
        put(f"{stem}_stats.json", b"{}")
    return own


def image(shard: int, place: int) -> bytes:
    """The file of an image of a shard."""
    return encoded(photograph(1000 * shard + place, 40 + place, 40), "JPEG")


def put_rejected(folder: str, name: str, whys: Sequence[tuple[str, str | None]]) -> list[str]:
    """Writes a file of dropped pairs, one for each (reason, detail); returns their keys."""
    own = keys(crc32(name.encode()), len(whys))
    rows = [
        {"key": key, "url": f"http://h/{key}", "caption": key, "reason": reason, "detail": detail}
        for key, (reason, detail) in zip(own, whys, strict=True)
    ]
    put_table(f"{folder}/rejected/{name}.parquet", pa.Table.from_pylist(rows, REJECTED))
    return own


def put_funnel(folder: str, pairs: int, dropped: dict[str, int], details: dict[str, int]) -> None:
    """Writes a funnel of one step."""
    step = {"step": "all", "seen": pairs + sum(dropped.values()), "kept": pairs, "dropped": dropped}
    fetch = {"tried": pairs, "failed": sum(details.values()), "details": details, "hosts": []}
    funnel = {"fetch": fetch, "pairs": pairs, "steps": [step], "vocabulary": {"vocabulary": 1}}
    put(f"{folder}/funnel.json", json.dumps(funnel).encode())


def put_table(path: str, table: pa.Table) -> None:
    write_atomically(path, lambda sink: pq.write_table(table, sink))


def put(path: str, body: bytes) -> None:
    write_atomically(path, lambda sink: sink.write(body))
