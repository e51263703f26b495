"""What is in a dataset's folder, which pairs are shown, and images found in tars."""

import hashlib
import io
import json
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alignset.pipeline.datasets.contents import format_example, look_into
from alignset.pipeline.datasets.sample import ENOUGH_FILES, LONGEST, Pair, take_sample
from alignset.pipeline.datasets.set_files import find_set
from alignset.pipeline.datasets.stored_images import (
    CHUNK,
    Headers,
    images_in,
    read_image,
    shown_picture,
)
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Manifest, ShardEntry
from alignset.transforms.shards.shard_files import TarWriter
from alignset.transforms.storage.documents import read_document
from alignset.transforms.storage.parquet_files import read_columns
from tests.support.golden_run import Golden
from tests.support.hostile_tars import header, padded
from tests.support.picture_files import encoded, photograph
from tests.support.small_sets import image, keys, put, put_shard, put_table


def shown(files: list[str], count: int, **values: str) -> list[str]:
    return [pair.key for pair in take_sample(files, count, **values)[0]]


def test_what_is_no_set_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="there is no folder"):
        find_set(str(tmp_path / "none"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.parquet").write_bytes(b"")
    with pytest.raises(UsageError, match="is not a dataset"):
        find_set(str(tmp_path / "other"))
    with pytest.raises(UsageError, match="is not a dataset"):
        find_set("mem://bucket/nothing")


def test_no_more_files_are_read_than_needed(tmp_path: Path):
    files = list[str]()
    for number in range(ENOUGH_FILES + 4):
        table = pa.table({"key": keys(10 * number, 3), "url": ["http://a/b"] * 3})
        files.append(f"{tmp_path}/{number}.parquet")
        put_table(files[-1], table)
    assert take_sample(files, 20)[1] == ENOUGH_FILES
    assert take_sample(files, 3 * ENOUGH_FILES + 1)[1] == ENOUGH_FILES + 1
    assert take_sample([*files[:-1], f"{tmp_path}/gone.parquet"], 5)[1] == ENOUGH_FILES
    wanted = pa.array(keys(10, 3)[:2])
    pairs, files_read, _ = take_sample(files, 2, lambda _: wanted)
    assert (sorted(pair.key for pair in pairs), files_read) == (wanted.to_pylist(), 2)


def test_null_columns_missing_columns_and_repeats(tmp_path: Path):
    rows = {
        "key": pa.nulls(2, pa.string()),
        "url": ["http://a.org/1", "http://[broken"],
        "caption": pa.nulls(2),
        "width": pa.array([None, 3], pa.int32()),
        "score": pa.array([{"a": 1}, None]),
    }
    put_table(f"{tmp_path}/a.parquet", pa.table(rows))
    pairs = take_sample([f"{tmp_path}/a.parquet"], 5)[0]
    assert sorted((pair.url, pair.host, pair.caption, pair.size) for pair in pairs) == [
        ("http://[broken", "[broken", "", ""),
        ("http://a.org/1", "a.org", "", ""),
    ]
    assert Pair(url="HTTP://me:secret@Host.org:80/x").host == "host.org:80"
    put_table(f"{tmp_path}/b.parquet", pa.table({"other": [1]}))
    assert take_sample([f"{tmp_path}/b.parquet"], 5)[0] == []
    (key, other) = keys(0, 2)
    put_table(f"{tmp_path}/c.parquet", pa.table({"key": [key, key, other, key]}))
    assert sorted(shown([f"{tmp_path}/c.parquet"], 9)) == sorted([key, other])


@pytest.mark.parametrize(("dictionary", "hidden"), [(True, False), (True, True), (False, False)])
def test_one_text_that_stands_for_many_is_cut(tmp_path: Path, dictionary: bool, hidden: bool):
    """A file of 300 KB may hold 16,384 times 1 MB. Here 4,096 times: whole they take 4 GB. A row
    group may give its columns other names than the schema."""
    count = 4096 if dictionary else 3
    text = "w " * 500_000
    captions: pa.Array = pa.array([text] * 3)
    if dictionary:
        indices = pa.array(np.zeros(count, np.int32))
        captions = pa.DictionaryArray.from_arrays(indices, pa.array([text]))
    own = keys(7, count)
    table = pa.table({"key": own, "url": ["http://a/b"] * count, "caption": captions})
    put_table(f"{tmp_path}/a.parquet", table)
    if hidden:
        body = (tmp_path / "a.parquet").read_bytes()
        at = body.rindex(b"\x07caption")  # its length and name, behind those of the schema
        put(f"{tmp_path}/a.parquet", body[:at] + b"\x07another" + body[at + 8 :])
        assert pq.read_metadata(f"{tmp_path}/a.parquet").row_group(0).column(2).path_in_schema == (
            "another"
        )
    before = pa.total_allocated_bytes()
    schema = pa.schema([(n, pa.string()) for n in ("key", "url", "caption", "detail")])
    (rows,) = read_columns(f"{tmp_path}/a.parquet", schema, LONGEST)
    assert rows["detail"].null_count == count
    assert rows["caption"].to_pylist() == [text[:LONGEST]] * count
    assert pa.total_allocated_bytes() - before < 100e6
    assert sorted(shown([f"{tmp_path}/a.parquet"], 9999)) == own


def stored_image(tar: str, key: str) -> bytes | None:
    return dict(images_in(tar, [key])).get(key)


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        body = super().read(size)
        self.count += len(body)
        return body


def made_tar(bodies: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    tar = TarWriter(sink)
    for key, body in sorted(bodies.items()):
        tar.add((f"{key}.jpg", body), (f"{key}.json", b"{}"), (f"{key}.txt", b"text"))
    tar.finish()
    return sink.getvalue()


def test_every_image_is_found_and_little_of_a_large_tar_is_read(folder: str):
    own = put_shard(folder, 3, 40)
    path = f"{folder}/shards/00003.tar"
    bodies = dict(images_in(path, [*own, "0" * 16, "f" * 16, own[7][:-1] + "~", ""]))
    assert bodies == {key: image(3, place) for place, key in enumerate(own)}
    for place, key in enumerate(own):
        picture = Image.open(io.BytesIO(shown_picture(bodies[key])))
        assert picture.size == (40 + place, 40)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    sizes = [0, 1, 511, 512, 513, CHUNK - 1, CHUNK, 3 * CHUNK + 7, 2_000_000]
    bodies = {f"{rng.getrandbits(64):016x}": rng.randbytes(rng.choice(sizes)) for _ in range(60)}
    body = made_tar(bodies)
    for key, expected in bodies.items():
        assert read_image(io.BytesIO(body), len(body), key) == expected
    bodies = {f"{n:016x}": bytes([n % 256]) * 30_000 for n in range(1000)}
    body = made_tar(bodies)
    for key in (min(bodies), f"{500:016x}", max(bodies)):
        source = Counted(body)
        assert read_image(source, len(body), key) == bodies[key]
        assert source.count < len(body) / 10
    source, headers = Counted(body), Headers()
    for key in bodies:
        assert read_image(source, len(body), key, headers) == bodies[key]
    assert source.count < 2 * len(body)  # each chunk once, and each image


def test_what_is_cut_or_no_picture_says_why(folder: str):
    for size in (0, 1, 511, 512, 1000, 10_240, 100_000):
        body = made_tar({"a" * 16: b"x" * 90_000})[:size]
        assert read_image(io.BytesIO(body), len(body), "b" * 16) is None
        noise = random.Random(size).randbytes(size)
        assert read_image(io.BytesIO(noise), size, "a" * 16) is None
        assert read_image(io.BytesIO(b"ustar" * size), 5 * size, "a" * 16) is None
    put(f"{folder}/a.tar", made_tar({"1" * 16: b"<html>", "2" * 16: image(0, 1)[:900]}))
    said = [shown_picture(stored_image(f"{folder}/a.tar", n * 16)) for n in "123"]
    assert said == ["not_an_image: html", "undecodable: truncated", "not found in its shard"]


def test_images_that_pretend_to_be_tars_cost_a_picture_at_most():
    inner = made_tar({"0" * 16: b"x" * 600, "f" * 16: b"y" * 600})
    bodies = {f"{n:016x}": inner for n in range(1, 40)}
    body = made_tar(bodies)
    answers = {read_image(io.BytesIO(body), len(body), key) for key in bodies}
    assert answers <= {inner, None}


def forged(victims: dict[str, bytes], fake: bytes) -> bytes:
    """An image with headers of tars behind its end, as a host may serve it."""
    body = encoded(photograph(5, 900, 700), "JPEG", quality=95)
    body += bytes(-len(body) % 512)
    for key in victims:
        body += (header(f"{key}.jpg".encode(), len(fake)) + padded(fake)) * 60
    return body


@pytest.mark.parametrize("resized", [False, True])
def test_headers_within_an_image_forge_no_other_image(folder: str, resized: bool):
    own = {f"{n * 7919:016x}": encoded(photograph(n, 60, 40), "JPEG") for n in range(1, 40)}
    fake = encoded(photograph(99, 60, 40), "JPEG")
    forger = "0" * 15 + "1"
    bodies = own if resized else own | {forger: forged(own, fake)}
    put(f"{folder}/a.tar", made_tar(bodies))
    digests = [
        hashlib.sha256(body + b"x" * resized).hexdigest() for _, body in sorted(bodies.items())
    ]
    put_table(f"{folder}/a.parquet", pa.table({"key": sorted(bodies), "sha256": digests}))
    if not resized:
        body = made_tar(bodies)
        found = {read_image(io.BytesIO(body), len(body), key) for key in own}
        assert not found <= {*own.values()}, "the headers mislead"
    assert {key: stored_image(f"{folder}/a.tar", key) for key in bodies} == bodies
    assert stored_image(f"{folder}/a.tar", "f" * 16) is None


def test_a_digest_that_all_rows_share_is_not_kept(folder: str):
    keys = [f"{n:016x}" for n in range(300)]
    put(f"{folder}/a.tar", made_tar({keys[0]: b"image"}))
    shared = pa.array(["x" * (1 << 20)]).dictionary_encode().take(pa.array([0] * len(keys)))
    put_table(f"{folder}/a.parquet", pa.table({"key": keys, "sha256": shared}))
    tracemalloc.start()
    try:
        assert stored_image(f"{folder}/a.tar", keys[0]) == b"image"
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def manifest_of(output: Path) -> Manifest:
    return read_document(f"{output}/manifest.json", Manifest)


def test_what_is_in_a_set(golden: Golden):
    manifest = manifest_of(golden.output)
    contents = look_into(str(golden.output), manifest)
    tables = [pq.read_table(path) for path in sorted(golden.output.glob("shards/*.parquet"))]
    widths = sorted(width for table in tables for width in table["width"].to_pylist())
    assert contents.pairs == len(widths) == manifest.pairs
    assert contents.quantiles["width, px"][2] == widths[(len(widths) - 1) // 2]
    assert contents.tar_bytes == sum(p.stat().st_size for p in golden.output.glob("shards/*.tar"))
    rows = [row for table in tables for row in table.to_pylist()][:5]
    assert [json.loads(line)["key"] for line in contents.examples] == [row["key"] for row in rows]


def test_words_licences_and_languages_are_counted(tmp_path: Path) -> None:
    texts = ["a brown dog", "a brown,dog", "犬が庭で遊んでいる", "dog"]
    columns = {
        "key": ["00"] * 16,
        "caption": texts * 4,
        "url": [""] * 16,
        "language": ["de", *["en"] * 15],
        "page_license": ["by", "by", None, "x" * 200, *map(str, range(12))],
        "web_statement": [None, "", *[None] * 14],
        "License": ["cc0", None, *[None] * 14],
        "Terms": [1.5] * 16,
    }
    (tmp_path / "pairs").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "pairs/a.parquet")
    own = {"License": "string", "Terms": "double", "score": "double"}
    contents = look_into(str(tmp_path), SimpleNamespace(job={"text_only": True}, columns=own))
    assert (contents.pairs, contents.shards, contents.quantiles) == (16, 0, {})
    assert contents.languages == {"en": 15, "de": 1}
    licences = contents.licences
    assert [*licences] == ["page_license", "License"]
    assert [*licences["page_license"].items()][:2] == [("by", 2), ("0", 1)]
    assert licences["page_license"][""] == 4  # rarer values
    assert licences["License"] == {"cc0": 1}
    assert contents.licensed == 15  # of 16 pairs one has no text in any column
    assert [sorted(json.loads(line)) for line in contents.examples] == [
        ["caption", "key", "url"]
    ] * 5


def test_of_many_shards_a_few_are_read(plain: Golden, tmp_path: Path):
    """The same sixteen of 10,000 are read each time; the others need not be there."""
    (tmp_path / "shards").mkdir()
    for number in range(0, 10_000, 625):
        path = plain.output / "shards" / "00001.parquet"
        (tmp_path / "shards" / f"{number:05d}.parquet").symlink_to(path)
    manifest = manifest_of(plain.output)
    shards = {f"{number:05d}": ShardEntry(10, "") for number in range(10_000)}
    shards["99999"] = ShardEntry(0, "")  # not looked for
    contents = look_into(str(tmp_path), replace(manifest, shards=shards))
    assert contents.shards == 16


HOSTILE = 'a | b ``` <script>alert(1)</script> &amp; \n---\n# \u202e\u2028\U000e0041 \\u003c " é 犬'


@given(st.text(max_size=40), st.sampled_from([HOSTILE, "```", ""]))
def test_an_example_is_one_line_of_json_without_markup(text: str, more: str):
    row = {"key": "00", "caption": text + more, "url": more + text, "width": 1, "height": 2}
    line = format_example(row)
    assert json.loads(line) == row
    long = json.loads(format_example(row | {"caption": "a" * 10_000, "url": "b" * 10_000}))
    assert (long["caption"], long["url"]) == ("a" * 300 + "…", "b" * 200 + "…")
    assert line.isprintable()
    assert not set("<>&`") & set(line)
