"""What datasets know of images: which of several counts, what holds by the rules of a run, and the
files of kept images, out of tars that may be damaged."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.arrivals.known_images import (
    KnownImage,
    KnownSet,
    find_known,
    read_known_set,
    read_stored,
    usable,
)
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.blocklists.compiled_list import compile_list
from alignset.transforms.columns.records import LEDGER
from alignset.transforms.safety.model_files import OPEN_NSFW
from alignset.transforms.shards.shard_files import TarWriter, write_ledger_rows
from alignset.transforms.storage.broken_files import BrokenInputError
from tests.support.made_images import image_settings

FACTS = frozenset({"outcomes", "opt_outs", "unsafe", "overlap:exam", "encoding", "rules"})
SHA256, PHASH = hashlib.sha256(b"an image").hexdigest(), "00000000000000ff"
KEPT = {"key": f"{1:016x}", "width": 300, "height": 250, "bytes": 1000, "format": "jpeg"}
KEPT |= {"sha256": SHA256, "phash": PHASH, "unsafe_score": 0.2, "evaluation_distance": 1.5}
SMALL = KEPT | {"key": None, "width": 90, "unsafe_score": None, "evaluation_distance": None}
UNSAFE = KEPT | {"key": None, "unsafe_score": 0.6}
BEATEN = KEPT | {"key": None}  # of a duplicate: nothing keeps it out but another image
REPORTED = {"opted_out": "x_robots_tag"}
TAKEN = {"reason": "taken_down", "detail": "mine:host"}


def row(image: int = 1, **values: Any) -> dict[str, Any]:
    return dict.fromkeys(LEDGER.names) | {"image": image} | values


def failed(detail: str) -> dict[str, Any]:
    return {"reason": "fetch_failed", "detail": detail}


def without(*facts: str) -> frozenset[str]:
    return FACTS.difference(facts)


ASKED, TAKEN_OVER, LOOKED_AT = "asked for again", "taken over", "looked at again"
# A row of a ledger, what holds, further settings, and what becomes of its image.
OUTCOMES: Mapping[str, tuple[dict[str, Any], frozenset[str], dict[str, Any], str]] = {
    "kept": (KEPT, FACTS, {}, TAKEN_OVER),
    "kept, by another model": (KEPT, without("unsafe"), {}, LOOKED_AT),
    "kept, other evaluation images": (KEPT, without("overlap:exam"), {}, LOOKED_AT),
    "kept, other versions": (KEPT, without("outcomes"), {}, LOOKED_AT),
    "kept, other opt-outs": (KEPT, without("opt_outs"), {}, ASKED),
    "kept as it came, now resized": (
        *(KEPT, without("encoding"), {"resize_mode": "keep_ratio"}, LOOKED_AT),
    ),
    "kept, resized": (KEPT, FACTS, {"resize_mode": "keep_ratio"}, TAKEN_OVER),
    "resized, by another model": (
        *(KEPT, without("unsafe"), {"resize_mode": "keep_ratio"}, ASKED),
    ),
    "resized, how it looks is asked": (
        *(KEPT, FACTS, {"resize_mode": "keep_ratio", "duplicates": "near"}, ASKED),
    ),
    "kept, how it looks is asked": (KEPT, FACTS, {"duplicates": "near"}, TAKEN_OVER),
    "kept, now too small": (KEPT, FACTS, {"min_image_side": 400}, TAKEN_OVER),
    "kept, now too many bytes": (KEPT, FACTS, {"max_image_bytes": 999}, ASKED),
    "kept, compared with hashes": (KEPT, FACTS, {"verify_hash": "md5=md5"}, LOOKED_AT),
    "its tar has it not": (BEATEN, FACTS, {}, ASKED),
    "too small": (SMALL, FACTS, {}, TAKEN_OVER),
    "too small, by another model": (SMALL, without("unsafe", "overlap:exam"), {}, TAKEN_OVER),
    "no longer too small": (SMALL, FACTS, {"min_image_side": 80}, ASKED),
    "unsafe": (UNSAFE | {"reason": "unsafe"}, FACTS, {}, TAKEN_OVER),
    "unsafe, by another model": (UNSAFE | {"reason": "unsafe"}, without("unsafe"), {}, ASKED),
    "no longer unsafe": (UNSAFE | {"reason": "unsafe"}, FACTS, {"max_unsafe_score": 0.7}, ASKED),
    "unsafe, now too small": (UNSAFE, FACTS, {"min_image_side": 400}, TAKEN_OVER),
    "a failure": (failed("timeout"), FACTS, {}, TAKEN_OVER),
    "a failure, asked for again": (failed("timeout"), FACTS, {"retry_failed": "timeout"}, ASKED),
    "a failure without a name": (failed("<b>"), FACTS, {}, ASKED),
    "a failure of no kind": ({"reason": "fetch_failed"}, FACTS, {}, ASKED),
    "opted out in no known way": ({"reason": "opted_out", "detail": "x"}, FACTS, {}, ASKED),
    "another failure": (failed("dns"), FACTS, {"retry_failed": "timeout"}, TAKEN_OVER),
    "a failure, other limits": (failed("too_large"), without("outcomes"), {}, ASKED),
    "by robots.txt": ({"reason": "opted_out", "detail": "robots_txt"}, FACTS, {}, ASKED),
    "by a header": ({"reason": "opted_out", "detail": "x_robots_tag"}, FACTS, {}, TAKEN_OVER),
    "by a header that was cut": (
        *({"reason": "opted_out", "detail": "x_robots_tag"} | {"opt_out_headers": "x" * 8_193},),
        *(FACTS, {}, TAKEN_OVER),
    ),
    "by another header": (
        *({"reason": "opted_out", "detail": "x_robots_tag", "opt_out_headers": "tdm: 0\n"},),
        *(FACTS, {}, ASKED),
    ),
    "by a header, no longer": (
        *({"reason": "opted_out", "detail": "x_robots_tag"}, without("opt_outs"), {}, ASKED),
    ),
    "opted out, now reported": (
        *({"reason": "opted_out", "detail": "x_robots_tag"}, FACTS, {"opt_outs": "report"}, ASKED),
    ),
    "reported": (KEPT | REPORTED, FACTS, {"opt_outs": "report"}, TAKEN_OVER),
    "reported, now rejected": (KEPT | REPORTED, FACTS, {}, ASKED),
    "too small and reported, now rejected": (SMALL | REPORTED, FACTS, {}, ASKED),
    "no image": ({"reason": "not_an_image", "detail": "html"}, FACTS, {}, TAKEN_OVER),
    "broken, other versions": ({"reason": "undecodable"}, without("outcomes"), {}, ASKED),
    "blocked by another list": (KEPT | {"reason": "blocked", "key": None}, FACTS, {}, ASKED),
    "taken down": (TAKEN | REPORTED, frozenset(), {}, TAKEN_OVER),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_holds_by_the_rules_of_a_run(name: str) -> None:
    values, facts, flags, expected = OUTCOMES[name]
    known = {5: KnownImage(row(**values), facts, "a.tar", "0" * 64)}
    model, settings = OPEN_NSFW, image_settings(**{"max_unsafe_score": 0.5} | flags)
    found = usable(known, settings, Blocklists(), model, "exam")
    kinds = [LOOKED_AT if image.is_looked_at else TAKEN_OVER for image in found.values()]
    assert kinds == ([] if expected == ASKED else [expected])
    if name == "kept, now too small":  # of such a run would measure nothing
        assert found[5].row["unsafe_score"] is found[5].row["evaluation_distance"] is None


@pytest.mark.parametrize("values", [UNSAFE, UNSAFE | {"unsafe_score": 0.1}])
def test_what_this_run_does_not_measure_drops_nothing(values: dict[str, Any]) -> None:
    values = values | {"evaluation_distance": 0.1}
    dropped = {3: KnownImage(row(**values), FACTS, "a.tar", "0" * 64)}
    assert usable(dropped, image_settings(), Blocklists(), None, "") == {}
    kept = {3: KnownImage(row(**values | {"key": "0" * 16}), FACTS, "a.tar", "0" * 64)}
    found = usable(kept, image_settings(), Blocklists(), None, "")
    assert found[3].row["unsafe_score"] is None
    assert not found[3].is_looked_at


@pytest.mark.parametrize(
    ("entry", "has_file", "expected"),
    [
        (f"sha256:{SHA256}", True, "l.txt:sha256"),
        (f"sha256:{SHA256}", False, "l.txt:sha256"),
        (f"phash:{PHASH}", False, "l.txt:phash"),
        (f"phash:{'f' * 16}", True, None),
        (f"md5:{'0' * 32}", True, None),
        (f"md5:{'0' * 32}", False, ASKED),  # nobody knows this hash of it
    ],
)
def test_lists_are_asked_of_known_images(
    tmp_path: Path, entry: str, has_file: bool, expected: str | None
) -> None:
    (tmp_path / "l.txt").write_text(f"{entry}\n")
    compiled = replace(compile_list(str(tmp_path / "l.txt"), str(tmp_path)), name="l.txt")
    values = KEPT if has_file else UNSAFE | {"unsafe_score": 0.9, "reason": "unsafe"}
    known = {0: KnownImage(row(**values), FACTS, "a.tar", "0" * 64)}
    found = usable(known, image_settings(), Blocklists((compiled,)), OPEN_NSFW, "exam")
    assert (found[0].row["detail"] if found else ASKED) == expected
    assert not found or bool(found[0].row["key"]) == (has_file and expected is None)


def write_set(folder: Path, *rows: dict[str, Any], name: str = "00000") -> KnownSet:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(sorted(rows, key=lambda of: of["image"]), LEDGER)
    write_ledger_rows(table, folder / f"images/{name}.parquet")
    found = read_known_set(str(folder), FACTS, {name: "0" * 64})
    assert found
    return found


def test_of_several_datasets_the_first_counts_but_a_file_goes_before_none(tmp_path: Path) -> None:
    high = (1 << 64) - 1
    gone = KEPT | {"key": None}
    opted_out = {"reason": "opted_out", "detail": "x_robots_tag"}
    new = write_set(
        *(tmp_path / "new", row(1, **KEPT), row(2, **failed("dns")), row(3, **opted_out)),
        *(row(4, **gone), row(5, **KEPT)),
    )
    old = write_set(
        *(tmp_path / "old", row(1, **KEPT), row(2, **KEPT), row(3, **KEPT), row(4, **KEPT)),
        *(row(5, **TAKEN), row(high, **failed("timeout"))),
    )
    assert (old.spans[0].least, old.spans[0].greatest) == (1, high)
    found = find_known((new, old), np.array([1, 2, 3, 4, 5, 6, high], np.uint64))
    assert {image: of.tar.rpartition("/")[0][-10:-7] for image, of in found.items()} == {
        **{1: "new", 2: "old", 3: "new", 4: "old", 5: "old", high: "old"}
    }
    assert found[5].row["reason"] == "taken_down"
    assert find_known((new, old), np.zeros(0, np.uint64)) == {}


CUT = row(100, **KEPT | {"opt_out_headers": "x" * 8_193})  # as a fetcher cuts them
ODD = [("key", "x" * 16), ("phash", "1"), ("sha256", "é"), ("bytes", None), ("width", None)]
ODD += [("format", None), ("unsafe_score", math.nan), ("evaluation_distance", math.inf)]
ODD += [("bytes", -9), ("height", -(1 << 31)), ("date", 1 << 62), ("date", -(1 << 62))]
ODD += [("final_url", "a" * 10_000_000), ("status", -(1 << 15)), ("etag", "a" * 9000)]


def test_a_ledger_that_cannot_be_read_knows_nothing(tmp_path: Path) -> None:
    known_set = write_set(tmp_path, row(1, **KEPT), name="holdout-00002")
    hashes, path = np.array([1], np.uint64), tmp_path / "images/holdout-00002.parquet"
    assert find_known((known_set,), hashes)[1].tar == f"{tmp_path}/holdout/00002.tar"
    images = [row(of, **KEPT | {name: value}) for of, (name, value) in enumerate(ODD)]
    of_odd = write_set(tmp_path / "odd", *images, row(99, **KEPT), row(99, **SMALL), CUT)
    found = find_known((of_odd,), np.arange(101).astype(np.uint64))
    assert {image: of.row["width"] for image, of in found.items()} == {99: 300, 100: 300}
    table = pq.read_table(path)
    for column in (None, pa.array([[["a"]]]), pa.array([None])):
        odd_table = table.drop_columns(["phash"])
        pq.write_table(odd_table.append_column("phash", column) if column else odd_table, path)
        assert find_known((known_set,), hashes) == {}
    for rows, how in (
        (table, {"write_statistics": False}),
        (table.select(["key"]), {}),
    ):
        pq.write_table(rows, path, **how)
        with pytest.raises(BrokenInputError, match=r"00002.parquet cannot be read: .*; replace"):
            read_known_set(str(tmp_path), FACTS, {})
    path.write_bytes(b"PAR1 and no more")
    assert find_known((known_set,), hashes) == {}
    path.unlink()
    assert find_known((known_set,), hashes) == {}
    assert read_known_set(str(tmp_path), FACTS, {}) is None


@pytest.mark.parametrize("count", [20_000, 40_000])
def test_a_ledger_takes_memory_by_what_it_has_of_a_shard(tmp_path: Path, count: int) -> None:
    """Its texts may be few bytes in the file, and gigabytes in its rows."""
    rows = pa.table({"image": pa.array(np.sort(np.arange(count, dtype=np.uint64) % 7))})
    long = pa.array(np.zeros(count, np.int32)), pa.array(["a" * 1_000_000])
    rows = rows.append_column("final_url", pa.DictionaryArray.from_arrays(*long))
    path = tmp_path / "images/00000.parquet"
    path.parent.mkdir()
    pq.write_table(rows, path, dictionary_pagesize_limit=1 << 22)
    known_set = read_known_set(str(tmp_path), FACTS, {})
    assert known_set
    before = pa.default_memory_pool().max_memory()
    assert find_known((known_set,), np.arange(9).astype(np.uint64)) == {}
    assert pa.default_memory_pool().max_memory() - before < 1 << 29


@pytest.mark.parametrize("damage", ["none", "a byte", "gone", "cut"])
def test_files_come_out_of_the_tar_that_was_written(tmp_path: Path, damage: str) -> None:
    with (tmp_path / "0.tar").open("wb") as sink:
        writer = TarWriter(sink)
        for key in range(4):
            writer.add((f"{key:016x}.jpg", b"image %d" % key), (f"{key:016x}.txt", b"a text"))
        sha256 = writer.finish()
    body = (tmp_path / "0.tar").read_bytes()
    at = body.index(b"image 3")
    changed = {"a byte": body[:at] + b"I" + body[at + 1 :], "cut": body[:2000]}
    (tmp_path / "0.tar").write_bytes(changed.get(damage, body))
    if damage == "gone":
        (tmp_path / "0.tar").unlink()
    images = {
        10 - key: KnownImage(row(key=f"{key:016x}"), FACTS, f"{tmp_path}/0.tar", sha256)
        for key in (3, 0)
    }
    read = list(read_stored(images))
    none_read = [(7, None), (10, None)]
    assert (4, None) in read_stored(images | {4: images[10]})  # two images claim a file
    assert read == ([(10, b"image 0"), (7, b"image 3")] if damage == "none" else none_read)
