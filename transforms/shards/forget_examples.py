"""Changes what shards recorded of pairs that leave: what is taken down must not be shown, and
copies are shown as such.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.record_files import (
    MOST_BYTES,
    RecordError,
    decode_record,
    encode_record,
)
from alignset.transforms.columns.records import KEPT, RECORDS, Outcomes, Record, Top
from alignset.transforms.columns.rejects import REJECTED
from alignset.transforms.storage.files import exists, match, open_to_read, remove, write_atomically

LOG = logging.getLogger("alignset")
# Why each of some rows, in the form of `rejected/`, may not be shown any more, or null: string[n].
FindRows = Callable[[pa.RecordBatch], pa.StringArray]
# Why a pair of each of some texts may not, or null: string[n].
FindTexts = Callable[[pa.StringArray], pa.StringArray]
_ENDING = ".json"
_THREADS = 16  # since a store answers slowly
_TOLD: set[str] = set()  # folders with records that cannot be read, of this process


def forget_examples(out: str, find: FindRows, find_texts: FindTexts) -> int:
    """Removes the examples that are taken down, their thumbnails, and the names of hosts and texts
    that are, from all records of a dataset; done again it does nothing. The counts stay. A record
    that cannot be read is removed, since it may show anything.

    Args:
      out: the output folder.

    Returns:
      how many records were written anew or removed.
    """
    paths = [path for path, _ in match(f"{out}/{RECORDS}") if path.endswith(_ENDING)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(partial(_forget, find=find, find_texts=find_texts), paths))


def mark_copies(path: str, reasons: Mapping[str, tuple[str, str]], counts: Outcomes) -> None:
    """Has a shard's record show pairs as dropped that left since their image is there twice. A
    dataset without records, as one that was downloaded, stays so.

    Args:
      reasons: reason and detail by key. counts: how many pairs of the shard left for each reason.
    """
    if (record := _find(path)) is None:
        return
    examples = [
        msgspec.structs.replace(e, lists=[why[0]], reason=why[0], detail=why[1])
        if (why := reasons.get(e.key)) and not e.reason
        else e
        for e in record.examples
    ]
    outcomes = {name: of for name, of in record.outcomes.items() if name not in counts}
    before = sum(sum(record.outcomes.get(name, {}).values()) for name in (KEPT, *counts))
    outcomes[KEPT] = {"": before - sum(counts.values())}
    outcomes |= {name: {"": count} for name, count in counts.items()}
    new_record = dataclasses.replace(record, examples=examples, outcomes=outcomes)
    write_atomically(path, lambda sink: sink.write(encode_record(new_record)))


def _find(path: str) -> Record | None:
    """The record, or None if there is none. One that cannot be read, as of another version, is
    removed with its thumbnails: no record decides whether a pair can leave a dataset."""
    if not exists(path):
        return None
    with open_to_read(path) as source:
        body = source.read(MOST_BYTES + 1)
    try:
        return decode_record(body, path)
    except RecordError as error:
        if (folder := path.rpartition("/")[0]) not in _TOLD:
            _TOLD.add(folder)
            message = "%s; such records are removed, and the report lacks their counts and examples"
            LOG.warning(message, error)
        remove(_thumbnails_of(path))
        remove(path)
        return None


def _thumbnails_of(path: str) -> str:
    return path.removesuffix(_ENDING) + ".thumbnails"


def _forget(path: str, find: FindRows, find_texts: FindTexts) -> bool:
    if (record := _find(path)) is None:
        return True
    rows = [(e.key, e.url, e.caption, e.reason) for e in record.examples]
    to_hide = [why is not None for why in find(_rows(rows)).to_pylist()]
    tops = {name: _shown_top(top, name, find, find_texts) for name, top in record.tops.items()}
    if not any(to_hide) and tops == record.tops:
        return False
    pictures = _thumbnails_of(path)
    if exists(pictures):
        with open_to_read(pictures) as source:
            bodies = bytearray(source.read())
        for example, is_hidden in zip(record.examples, to_hide, strict=True):
            if is_hidden and example.picture:
                place = slice(example.picture[0], sum(example.picture))
                size = len(bodies[place])  # never more than there is, whatever the record says
                bodies[place] = bytes(size)  # the others stay where they are said to be
        write_atomically(pictures, lambda sink: sink.write(bodies))
    examples = [e for e, is_hidden in zip(record.examples, to_hide, strict=True) if not is_hidden]
    body = encode_record(dataclasses.replace(record, examples=examples, tops=tops))
    write_atomically(path, lambda sink: sink.write(body))
    return True


def _shown_top(top: Top, name: str, find: FindRows, find_texts: FindTexts) -> Top:
    """The names that may be shown; what the others counted is of others then."""
    names = [*top.counts]
    hosts = name == "hosts"
    rows = [("0" * 16, f"http://{n}/" if hosts else "", "" if hosts else n, "") for n in names]
    why = find(_rows(rows))
    if not hosts:  # also one that other pairs have: it may name somebody
        why = pc.coalesce(why, find_texts(pa.array(names, pa.string())))
    reasons = why.to_pylist()
    rest = {n: top.counts[n] for n, why in zip(names, reasons, strict=True) if why is None}
    hidden_count = sum(sum(counts.values()) for n, counts in top.counts.items() if n not in rest)
    return Top(rest, top.others + hidden_count)


def _rows(rows: Sequence[tuple[str, str, str, str]]) -> pa.RecordBatch:
    names = ("key", "url", "caption", "reason")
    columns = [dict(zip(names, row, strict=True)) for row in rows]
    return pa.RecordBatch.from_pylist(columns, REJECTED)
