"""Blocklists that anybody wrote, in each of their formats: refused in a line, or asked."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.blocklists.compiled_list import compile_list
from alignset.transforms.blocklists.kinds import DIGEST_BYTES, KINDS, OF_URLS
from alignset.transforms.blocklists.read_list import ListError
from tests.fuzz.urls import PIECES, url_of

MORE = ["", "[.]", "[1]", "[::1]", "*.a.example", "*.com", "co.uk", "a..b", "…", "," * 3, '"', "#"]
JUNK = [
    b"",
    b"PAR1",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"a" * 70_000,
    b'"' * 3 + b"b" * 200_000,
]
COLUMNS: list[Callable[[list[bytes]], pa.Array]] = [
    lambda values: pa.array(values, pa.binary()),
    lambda values: pa.array(values, pa.binary()).view(pa.string()),  # any bytes
    lambda values: pa.array([value.decode("utf-8", "replace") for value in values], pa.string()),
    lambda values: pa.array([value.hex() for value in values]).dictionary_encode(),
    lambda values: pa.array([len(value) for value in values], pa.uint64()),
    lambda values: pa.array([-1.5 for _ in values]),
    lambda values: pa.array([[value] for value in values]),
    lambda values: pa.nulls(len(values)),
]


def value_of(random: Random, kind: str) -> str:
    if kind in DIGEST_BYTES and random.random() < 0.7:
        return "".join(random.choices("0123456789abcdefABCDEF", k=2 * DIGEST_BYTES[kind]))
    if kind in OF_URLS and random.random() < 0.5:
        return url_of(random)
    return "".join(random.choices([*PIECES, *MORE], k=random.choice([0, 1, 2, 5])))


def encoded(random: Random, text: str) -> bytes:
    return text.encode("utf-8", random.choice(["replace", "replace", "surrogatepass"]))


def lines_of(random: Random) -> bytes:
    lines = []
    for kind in random.choices(KINDS, k=random.choice([0, 1, 3, 20])):
        value = value_of(random, kind).replace("\n", " ")
        lines.append(kind + random.choice([":", ": ", ":", ""]) + value)
    return encoded(random, "\n".join(lines))


def rows_of(random: Random, delimiter: str) -> bytes:
    names = random.choices([*KINDS, "x", "URL"], k=3)
    rows = [delimiter.join(names)]
    for _ in range(random.randrange(4)):
        values = [value_of(random, random.choice(KINDS)) for _ in range(random.choice([3, 3, 2]))]
        if random.random() < 0.5:
            values = ['"' + value.replace('"', '""') + '"' for value in values]
        rows.append(delimiter.join(values))
    return encoded(random, "\n".join(rows))


def write_list(random: Random, folder: Path) -> Path:
    ending = random.choice(["txt", "txt", "csv", "tsv", "parquet", "parquet", "txt.gz"])
    path = folder / f"list.{ending}"
    if random.random() < 0.1:
        path.write_bytes(random.choice([*JUNK, random.randbytes(200)]))
    elif ending == "parquet":
        kind = random.choice(KINDS)
        texts = [value_of(random, kind) for _ in range(random.choice([0, 1, 3]))]
        damage = random.choice([b"", b"", b"\xff", b"\xe0\xa4"])
        values = [b"a" + damage + encoded(random, text) for text in texts]
        column = random.choice([*COLUMNS, COLUMNS[1]])(values)
        names = random.choice([[kind], [kind, kind.upper()], [kind, kind]])
        pq.write_table(pa.Table.from_arrays([column] * len(names), names=names), path)
    elif ending == "txt.gz":
        body = gzip.compress(lines_of(random))
        path.write_bytes(body[: random.choice([len(body), -9])])
    else:
        delimiter = {"csv": ",", "tsv": "\t"}.get(ending)
        path.write_bytes(rows_of(random, delimiter) if delimiter else lines_of(random))
    return path


def check(random: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_list(random, Path(folder))
        try:
            compiled = compile_list(str(path), folder)
        except ListError as error:
            said = str(error)
            assert str(path) in said
            assert len(said) < 800, said
            assert "\n" not in said
            return
        lists = Blocklists((compiled,), 3, 31)
        urls = [url_of(random).encode("utf-8", "replace").decode() for _ in range(3)]
        columns = [pa.array(texts, pa.string()) for texts in (urls, urls[::-1])]
        details = lists.match_pairs(*columns, np.arange(3, dtype=np.uint64)).to_pylist()
        kinds = {f"{compiled.name}:{kind}" for kind in compiled.entries}
        assert {*details, lists.match_file(bytes(32), b"body")} <= {None, *kinds}
        for url, detail in zip(urls, details, strict=True):
            match_url = lists.match_url(url)
            assert match_url is None or detail is not None
