"""Takes pairs out of what shards recorded for the report: what is taken down must not be shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from transforms.columns.records import RECORDS, decode_record, encode_record
from transforms.storage.files import exists, open_to_read, write_atomically
from transforms.storage.matching import match

_ENDING = ".json"
_THREADS = 16  # since a store answers slowly


def forget_examples(out: str, keys: Collection[str]) -> int:
    """Takes the examples with these keys, and their thumbnails, out of all records of a set; done
    again it does nothing. The counts stay those of the run.

    Args:
      out: the output folder. keys: of 16 hex digits each.

    Returns:
      how many records were written anew.

    Raises:
      RecordError: a file is no record.
    """
    paths = [path for path, _ in match(f"{out}/{RECORDS}") if path.endswith(_ENDING)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(partial(_forget, keys=frozenset(keys)), paths))


def _forget(path: str, keys: frozenset[str]) -> bool:
    with open_to_read(path) as source:
        record = decode_record(source.read(), path)
    left = [example for example in record.examples if example.key not in keys]
    if len(left) == len(record.examples):
        return False
    pictures = path.removesuffix(_ENDING) + ".thumbnails"
    if exists(pictures):
        with open_to_read(pictures) as source:
            bodies = bytearray(source.read())
        for at, size in (e.picture for e in record.examples if e.key in keys and e.picture):
            bodies[at : at + size] = bytes(size)  # the others stay where they are said to be
        write_atomically(pictures, lambda sink: sink.write(bodies))
    encoded = encode_record(dataclasses.replace(record, examples=left))
    write_atomically(path, lambda sink: sink.write(encoded))
    return True
