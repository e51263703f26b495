"""Runs whose input is bad or broken: every row is kept or rejected once, each broken file costs
itself alone and is named, and what cannot be done is one line. docs/inputs.md has the table."""

import gzip
import json
import os
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import look
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_inputs import find_files, find_splits
from alignset.pipeline.settings import Job
from alignset.transforms.storage.broken_files import BrokenFile
from tests.pipeline.inputs.test_readers import BAD_JSONL, CSV, CSV_ROWS, REFUSED, compressed
from tests.support.command import fates, funnel, manifest, rejected, run, succeed
from tests.support.golden import TEXTS, Fate
from tests.support.hostile_tars import tar_of
from tests.support.picture_files import encoded, photograph

ALL = ("--language=", "--min_words=1", "--max_words=100000000")
TEXT_ONLY = ("--text_only", *ALL)
JPEG = encoded(photograph(1, 210, 210), "JPEG")
SAMPLES = 4  # of a shard


def url(shard: int, sample: int) -> str:
    return f"http://a.org/{shard}/{sample}.jpg"


def shard(number: int, image: bytes = JPEG) -> bytes:
    """A tar of SAMPLES samples with three members each."""
    files: dict[str, bytes] = {}
    for n in range(SAMPLES):
        key, text = f"{number:05d}{n:04d}", f"picture number {n} of shard {number}"
        record = {"url": url(number, n), "caption": text}
        files |= {f"{key}.jpg": image, f"{key}.txt": text.encode()}
        files[f"{key}.json"] = json.dumps(record).encode()
    return tar_of(files)


def member_at(tar: bytes, name: str) -> int:
    """Where a member's header is."""
    return tar.index(name.encode() + b"\0")


def shards(folder: Path, count: int, image: bytes = JPEG) -> dict[str, int]:
    """A folder of shards, three of them cut: the samples that are whole in each of those."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05d}.tar").write_bytes(shard(number, image))
    in_member, in_header, empty = 3, count // 2, count - 1
    left = {}
    for number, whole in ((in_member, 2), (in_header, 1), (empty, 0)):
        path = folder / f"{number:05d}.tar"
        tar = path.read_bytes()
        ends = {
            in_member: member_at(tar, f"{number:05d}0002.jpg") + 512 + 100,
            in_header: member_at(tar, f"{number:05d}0001.txt") + 200,
            empty: 0,
        }
        path.write_bytes(tar[: ends[number]])
        left[str(path)] = whole
    return left


def broken_fates(output: Path) -> list[Fate]:
    return [fate for fate in rejected(output) if fate.reason == "broken_input"]


def table(first: int, count: int) -> pa.Table:
    numbers = range(first, first + count)
    urls = [f"http://a.org/{n}" for n in numbers]
    return pa.table({"url": urls, "caption": [f"text number {n}" for n in numbers]})


def test_every_row_of_every_format_ends_kept_or_rejected_once(tmp_path: Path):
    """One command over a folder of all formats: as many rows come out as went in."""
    folder, parts = tmp_path / "in", [(f"http://a.org/{n}", text) for n, text in enumerate(TEXTS)]
    folder.mkdir()
    pq.write_table(
        pa.table(dict(zip(("url", "caption"), zip(*parts[:30], strict=True), strict=True))),
        folder / "a.parquet",
    )
    lines = b"".join(f"9,{url},{text}\n".encode() for url, text in parts[30:60])
    for number, suffix in enumerate(["", ".gz", ".zst"]):
        (folder / f"b{number}.csv{suffix}").write_bytes(compressed(CSV + lines, suffix))
        body = "".join(
            json.dumps({"caption": text, "url": url}) + "\n" for url, text in parts[60:]
        ).encode()
        more = b"\n".join(BAD_JSONL) if number else b""
        (folder / f"c{number}.jsonl{suffix}").write_bytes(compressed(body + more, suffix))
    ends = "url,caption\rhttp://a.org/of an old Mac,a dog in the garden\r"
    (folder / "d.csv").write_bytes(ends.encode())
    succeed(folder, tmp_path / "set", "--text_only", "--batch_rows=7", "--language=")

    unreadable = [row[1].decode("utf-8", "replace") for row in CSV_ROWS if row[2]] * 3
    unreadable += [line.decode("utf-8", "replace") for line in BAD_JSONL] * 2
    captions = Counter(
        f.caption for f in rejected(tmp_path / "set") if f.detail == "unreadable_row"
    )
    assert captions == Counter(unreadable)
    rows = fates(tmp_path / "set")
    lines = 3 * (len(CSV_ROWS) + 30) + 3 * (len(TEXTS) - 60) + 2 * len(BAD_JSONL)
    assert rows.total() == 30 + lines + 1
    assert rows.total() == funnel(tmp_path / "set")["steps"][0]["seen"]
    assert all(rows[Fate(url, text)] == 1 for url, text in parts)
    copies = {Fate(url, text, "duplicate_pair"): 2 for url, text in parts[30:]}
    assert copies.items() <= rows.items()


def test_a_run_says_what_cannot_be_read_and_nothing_else(tmp_path: Path):
    for case, made in (
        ("a name for terminals", ()),
        ("a damaged page", ("reading ", "text stage")),
    ):
        name, body, status, says = REFUSED[case]
        (tmp_path / name).write_bytes(body)
        ended = run(tmp_path / name, tmp_path / f"set-{status}", *TEXT_ONLY)
        assert ended.status == status
        lines = [text for text in ended.err.splitlines() if not text.startswith(("comp", *made))]
        assert len(lines) == 1, ended.err
        assert lines[0].startswith("beam_runner.py: ")
        assert says in lines[0]
        assert lines[0].isprintable()


def test_fail_ends_at_the_first_broken_one_in_one_line(tmp_path: Path):
    left = shards(tmp_path / "in", 12)
    (empty,) = [path for path, whole in left.items() if not whole]
    flags = (*TEXT_ONLY, "--on_broken_input=fail")
    ended = run(tmp_path / "in", tmp_path / "set", *flags)
    assert (ended.status, ended.err.count("\n")) == (2, 1)  # an empty one is seen at the start
    assert f"cannot read {empty} as webdataset: it is cut off" in ended.err
    assert "--on_broken_input=skip" in ended.err
    assert not (tmp_path / "set").exists()

    Path(empty).unlink()
    ended = run(tmp_path / "in", tmp_path / "set", *flags)
    assert ended.status == 1
    last = ended.err.splitlines()[-1]
    assert re.match(r"beam_runner\.py: failed: cannot read /\S+\.tar to its end: it is cut", last)
    assert last.endswith(
        "replace the file, leave it out of --input, or pass --on_broken_input=skip, each with "
        "another --output"
    )
    assert "while running" not in ended.err
    assert "Traceback" not in ended.err


def test_where_all_are_broken_the_run_fails(tmp_path: Path):
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).write_bytes(b"no tar" * 1000)
    sources = f"{tmp_path}/a.tar,{tmp_path}/b.tar"
    ended = run(sources, tmp_path / "set", *TEXT_ONLY)
    assert ended.status == 1
    last = ended.err.splitlines()[-1]
    assert f"cannot read {tmp_path}/a.tar to its end, nor any of the 1 others: no tar" in last
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "c.parquet").write_bytes(b"PAR1" + bytes(100))
    ended = run(f"{sources},{tmp_path}/c.parquet", tmp_path / "other", *TEXT_ONLY)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "and none of the other 2 files can be read" in ended.err
    assert run(sources, tmp_path / "set", "--on_broken_input=no").status == 2


def broken_of(source: str) -> list[BrokenFile | None]:
    job = Job(input=source, output="o")
    return [split.broken for split in find_splits(job, find_files(job))]


def test_unfinished_shards_are_known_by_their_stats(tmp_path: Path):
    for number in range(4):
        (tmp_path / f"{number:05d}.tar").write_bytes(shard(number))
    (tmp_path / "extra.tar").write_bytes(shard(9))  # no number: nobody's shard
    assert broken_of(str(tmp_path)) == [None] * 5
    for number in (0, 1, 3, 7):  # of the last one nothing was kept, and there is no tar
        (tmp_path / f"{number:05d}_stats.json").write_text("{}")
    fault = "its writer has not ended: there is no 00002_stats.json beside it"
    for source in (f"{tmp_path}", f"{tmp_path}/*.tar"):
        assert broken_of(source) == [
            *(None, None, BrokenFile(f"{tmp_path}/00002.tar", "unfinished", fault), None, None)
        ]
    with pytest.raises(UsageError, match=r"00002_stats\.json"):
        broken_of(f"{tmp_path}/00002.tar")


def test_broken_files_of_all_formats_beside_a_whole_one(tmp_path: Path):
    """What could be read of each is kept, the counts add up, and names give no commands."""
    pq.write_table(table(0, 10), tmp_path / "good.parquet")
    pq.write_table(table(100, 10), tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-30])
    lines = [b"http://a.org/%d,text number %d\n" % (n, n) for n in range(200, 1200)]
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"url,caption\n" + b"".join(lines))[:-9])
    (tmp_path / "open.csv").write_bytes(
        b"url,caption\n" + b"".join(lines[:3]).replace(b"/2", b"/9") + b'http://a.org/7,"open\n'
    )
    (tmp_path / "no.jsonl.gz").write_bytes(b'{"url": "http://a.org/5", "caption": "b"}\n')
    (tmp_path / "cut.tar").write_bytes(shard(1)[: member_at(shard(1), "000010003.txt") + 100])
    (tmp_path / "no.warc").write_bytes(b"no archive\n" * 100)
    (tmp_path / "page.html").write_bytes(b"<img src=http://a.org/1300 alt='a page'>")
    hostile = [os.fsencode(tmp_path) + name for name in (b"/a\n\x1b[31m.tar", b"/\xff.tar")]
    for path in hostile:
        Path(os.fsdecode(path)).write_bytes(shard(2)[:600])
    names = sorted(path.name for path in tmp_path.iterdir())
    ended = run(",".join(f"{tmp_path}/{name}" for name in names), tmp_path / "set", *TEXT_ONLY)
    assert ended.status == 1
    assert "8 of 10 input files were broken, and the dataset is made of the rest" in ended.err
    assert r"/a\n\x1b[31m.tar (cut_short" in ended.out
    assert "/\ufffd.tar (cut_short" in ended.out
    assert all(line.isprintable() for line in ended.out.splitlines())
    told = funnel(tmp_path / "set")
    details = {Path(fate.url).name: fate.detail for fate in broken_fates(tmp_path / "set")}
    assert {details.pop(name) for name in [*details] if not name.isascii() or "\n" in name} == {
        "cut_short"
    }
    assert details == {
        "cut.parquet": "cut_short",
        "cut.csv.gz": "cut_short",
        "open.csv": "damaged",
        "no.jsonl.gz": "wrong_format",
        "cut.tar": "cut_short",
        "no.warc": "wrong_format",
    }
    assert told["broken_input"]["details"] == {"cut_short": 5, "damaged": 1, "wrong_format": 2}
    assert told["broken_input"]["files"] == 10
    good = fates(tmp_path / "set")
    texts = {fate.caption for fate in good if not fate.reason}
    assert {f"text number {n}" for n in range(10)} <= texts
    assert "a page" in texts
    assert "open" not in " ".join(texts)
    assert len([text for text in texts if text.startswith("text number")]) >= 10 + 900
    assert sum(text.startswith("picture number") for text in texts) == 3
    assert told["steps"][0]["seen"] == good.total()


def test_files_whose_own_names_are_not_utf8_are_read(tmp_path: Path):
    """Input of every kind, and evaluation images in folders, tars and tables, whose images are
    found again by `look`."""
    pictures = [encoded(photograph(n, 210, 210), "JPEG") for n in range(5)]
    tar = shard(0, pictures[0])
    sets = [tmp_path / name for name in ("in", "folder", "tars", "tables")]
    for path in sets:
        path.mkdir()
    (sets[0] / os.fsdecode(b"\xff.tar")).write_bytes(tar)
    for n in (1, 2, 3):
        image = pictures[n]
        names = {1: b"\xff.jpg", 2: b"\xff.tar", 3: b"\xff.parquet"}
        path = sets[n] / os.fsdecode(names[n])
        with path.open("wb") as file:
            if n == 3:
                paths = pa.array([b"\xff", b"b"]).view(pa.string())
                bodies = pa.array([image, pictures[4]])
                struct = pa.StructArray.from_arrays([bodies, paths], ["bytes", "path"])
                pq.write_table(pa.table({"image": struct}), file)
            else:
                file.write(image if n == 1 else tar_of({"\udcff.jpg": image}))
        more = tar_of(
            {f"{n}.jpg": image, f"{n}.json": b'{"url": "http://h/%d", "caption": "a"}' % n}
        )
        (sets[0] / f"{n}.tar").write_bytes(more)
    evaluation = ",".join(f"{path.name}={path}" for path in sets[1:])
    flags = (*ALL, f"--eval_images={evaluation}", "--max_unsafe_score=1")
    succeed(sets[0], tmp_path / "set", *flags)
    assert Counter(fate.reason for fate in fates(tmp_path / "set").elements()) == {
        None: SAMPLES,
        "evaluation_overlap": 3,
    }
    assert {Path(file["path"]).name for file in manifest(tmp_path / "set")["input"]} >= {
        r"\xff.tar"
    }
    look_flags = (str(tmp_path / "set"), "--reason=evaluation_overlap")
    assert look([*look_flags, f"--output={tmp_path}/look.html"]) == 0
    tables = tmp_path / "in_tables"
    tables.mkdir()
    pq.write_table(table(0, 10), (tables / "a.parquet").open("wb"))
    pq.write_table(table(10, 10), (tables / os.fsdecode(b"\xff.parquet")).open("wb"))
    succeed(tables, tmp_path / "texts", *TEXT_ONLY)
    assert len(fates(tmp_path / "texts")) == 20
