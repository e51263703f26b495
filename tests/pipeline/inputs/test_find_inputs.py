"""Which files are read, of which format, in which columns; and inputs that no run can use."""

import gzip
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import EarlierSet
from alignset.pipeline.inputs.find_inputs import find_files, find_splits
from alignset.pipeline.inputs.splits import Split
from alignset.pipeline.job import Job

ROWS = {"url": ["http://a.org/1", "http://a.org/2"], "caption": ["one text", "and another"]}


def write(path: Path, columns: dict[str, list] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def job(source: object, **settings: Any) -> Job:
    return Job(input=str(source), output="o", **settings)


def split_of(path: Path, **settings: str) -> Split:
    (split,) = find_splits(job(path, **settings), find_files(job(path, **settings)))
    return split


def test_folders_globs_and_lists(tmp_path: Path):
    """The output is never among them: a glob may name files of it when a killed run resumes."""
    names = ("b.parquet", "a.parquet", "deep/er/c.parquet", ".hidden.parquet", "_SUCCESS")
    for name in (*names, "x[1]/d.parquet", "set/e.parquet", "settle/f.parquet", "a,b.parquet"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no pairs")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "b.parquet").symlink_to(tmp_path / "a.parquet")
    for source, expected in {
        "{at}/deep": ["c.parquet"],
        "{at}/deep/": ["c.parquet"],
        "{at}/?.parquet": ["a.parquet", "b.parquet"],
        "{at}/[b].par*": ["b.parquet"],
        "{at}/b.parquet,{at}/a.parquet": ["a.parquet", "b.parquet"],
        "{at}/deep/er/c.parquet,{at}/deep": ["c.parquet"],
        "{at}/x[1]": ["d.parquet"],
        "{at}/*/*.parquet": ["b.parquet", "f.parquet", "d.parquet"],
        r"{at}/a\,b.parquet": ["a,b.parquet"],
        "{at}/links/*.parquet": ["b.parquet"],
    }.items():
        files = find_files(Job(input=source.format(at=tmp_path), output=f"{tmp_path}/set/"))
        assert [Path(file.path).name for file in files] == expected, source
    with pytest.raises(UsageError, match=r"links in a folder are left out.*links/\*\.parquet'"):
        find_files(job(f"{tmp_path}/links"))


@pytest.mark.parametrize(
    ("name", "file_format", "compression"),
    [
        ("a.parquet", "parquet", ""),
        ("A.CSV", "csv", ""),
        ("a.b.csv.gz", "csv", "gzip"),
        ("a.tsv.zst", "tsv", "zstd"),
        ("a.tab", "tsv", ""),
        ("a.jsonl", "jsonl", ""),
        ("a.ndjson.GZ", "jsonl", "gzip"),
        ("00000.tar", "webdataset", ""),
    ],
)
def test_formats_by_name(tmp_path: Path, name: str, file_format: str, compression: str):
    text = b'{"url": "http://a.org", "caption": "b"}\n' * 2
    if file_format in ("csv", "tsv"):
        text = b"url,caption\n1,2\n" if file_format == "csv" else b"url\tcaption\n1\t2\n"
    if compression:
        codec = pa.Codec(compression) if compression != "gzip" else None
        text = gzip.compress(text) if codec is None else codec.compress(text, asbytes=True)
    if file_format == "parquet":
        write(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(text)
    split = split_of(tmp_path / name)
    assert (split.format, split.compression) == (file_format, compression)


def test_a_format_given_beats_the_name(tmp_path: Path):
    path = write(tmp_path / "pairs.dat")
    assert split_of(path, input_format="parquet").format == "parquet"
    for source in (path, f"{tmp_path}/*.dat"):
        with pytest.raises(UsageError, match=r"format of .*dat.* pass --input_format"):
            find_files(job(source))
    write(tmp_path / "more.dat")
    with pytest.raises(UsageError, match=r"format of .*dat.* pass --input_format"):
        find_files(job(f"{tmp_path}/*.dat"))


@pytest.mark.parametrize(
    ("names", "url", "text"),
    [
        (["URL", "TEXT", "WIDTH", "similarity"], "URL", "TEXT"),  # LAION
        (["key", "url", "caption", "status"], "url", "caption"),  # img2dataset
        (["url", "alt"], "url", "alt"),  # cc2dataset
        (["image_url", "alt_text", "title"], "image_url", "alt_text"),
        (["Image_Link", "Description"], "Image_Link", "Description"),
        (["text", "caption", "link", "url"], "url", "caption"),  # the most telling first
    ],
)
def test_usual_column_names(tmp_path: Path, names: list[str], url: str, text: str):
    path = write(tmp_path / "a.parquet", {name: ["x"] for name in names})
    split = split_of(path)
    assert (split.url_column, split.text_column) == (url, text)
    split = split_of(path, url_column=text, text_column=url)
    assert (split.url_column, split.text_column) == (text, url)


def test_a_choice_among_columns_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "alignset")
    for name in ("a", "b"):
        split_of(write(tmp_path / f"{name}.parquet", {"url": ["x"], "text": ["y"], "alt": ["z"]}))
        said = "the column 'text' is read; --text_column=alt reads the column of that name"
        assert caplog.messages == [said]


def test_row_groups_become_splits_that_hold_each_row_once(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("alignset.pipeline.inputs.splits.ROWS_PER_SPLIT", 25)
    table = pa.table({"url": ["http://a.org"] * 95, "caption": ["a"] * 95})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    splits = find_splits(job(tmp_path), find_files(job(tmp_path)))
    assert [split.row_groups for split in splits] == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9,)]


def test_empty_files_among_others_are_passed_over(tmp_path: Path):
    write(tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_bytes(b"")
    (tmp_path / "c.csv").write_bytes(b"url,caption\n")
    splits = find_splits(job(tmp_path), find_files(job(tmp_path)))
    assert [Path(split.path).name for split in splits] == ["a.parquet"]


def parquet(columns: list[tuple[str, list]]) -> bytes:
    names, values = zip(*columns, strict=True)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(v, pa.string()) for v in values], names), sink)
    return sink.getvalue()


PAIR = [("url", ["http://a.org"]), ("caption", ["b"])]
TABLE = b"url,caption\nhttp://a.org,b\n"


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("a.csv", b"", "is empty"),
        ("a.parquet", parquet([("url", []), ("caption", [])]), "is empty"),
        ("a.csv", b"url,caption\n\n", "is empty"),
        ("a.jsonl", b"\n \n", "is empty"),
        (
            "a.parquet",
            parquet([("url", ["x"]), ("words", ["y"])]),
            "url, words: pass --text_column",
        ),
        ("a.tsv", b"where\tcaption\na\tb\n", "it has where, caption: pass --url_column"),
        ("a.csv", b"url,caption,caption\nhttp://a,b,c\n", "2 columns 'caption'; rename"),
        ("a.parquet", parquet([PAIR[0], *PAIR]), "2 columns 'url'; rename"),
        ("a.parquet", parquet(PAIR)[:-20] + bytes(20), "a.parquet as parquet"),
        ("a.csv.gz", gzip.compress(TABLE, mtime=0)[:14], "a.csv.gz as csv"),  # before a row begins
        ("a.jsonl.gz", b'{"url": "http://a", "caption": "b"}\n', "a.jsonl.gz as jsonl"),
        ("a.jsonl", TABLE, "a.jsonl as jsonl"),
        ("a.jsonl", b"7\n8\n", "a.jsonl as jsonl"),
    ],
)
def test_an_input_of_no_use_is_refused(tmp_path: Path, name: str, body: bytes, says: str):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(UsageError, match=re.escape(says)):
        split_of(tmp_path / name)


@pytest.mark.parametrize(
    ("pattern", "output"),
    [("in", "in"), ("in/", "in"), ("in", "in/deep/set"), (".", "set"), ("in/**", "in/set")],
)
def test_an_output_within_the_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="or lies within it; pass another --output"):
        find_files(Job(input=pattern, output=output))
    write(tmp_path / "a.parquet")
    for beside in ("a.parquet", "*.parquet"):
        assert find_files(Job(input=beside, output="set"))


def test_a_name_that_is_not_there_is_told_also_beside_one_that_is(tmp_path: Path):
    there = write(tmp_path / "a.parquet")
    (tmp_path / "empty").mkdir()
    for missing in ("b.csv", "*.jsonl", "folder/", "empty"):
        with pytest.raises(UsageError, match=re.escape(f"no input at '{tmp_path}/{missing}'")):
            find_files(job(f"{there},{tmp_path}/{missing}"))
    with pytest.raises(UsageError, match=f"the input '{there}' lies within --output="):
        find_files(Job(input=str(there), output=str(tmp_path)))


def test_what_a_set_holds_out_is_read_only_by_a_run_that_holds_out() -> None:
    held = EarlierSet("set", text_only=False, holdout=0.1)
    assert held.pair_folders(job("set")) == ["set/shards"]
    assert held.pair_folders(job("set", holdout=0.2)) == ["set/shards", "set/holdout"]
    with pytest.raises(UsageError, match=r"pass --holdout=0\.1 too"):
        held.rejected_files(job("set"), ["too_small"])


def test_all_that_was_dropped_is_read_whatever_the_rules_are_now(tmp_path: Path) -> None:
    dropped = ({"low_quality": 2, "blocked": 1, "malformed_pair": 1}, {"less_similar": 0})
    steps = [{"step": "a", "seen": 4, "kept": 0, "dropped": reasons} for reasons in dropped]
    root = tmp_path / "a,b"
    root.mkdir()
    for name, document in (
        ("manifest.json", {"job": {"text_only": True}}),
        ("funnel.json", {"steps": steps}),
    ):
        (root / name).write_text(json.dumps(document))
    write(root / "rejected" / "text-00000.parquet", ROWS | {"reason": ["low_quality"] * 2})

    def reasons(also_rejected: str) -> list[str]:
        (file,) = find_files(job(str(root).replace(",", r"\,"), also_rejected=also_rejected))
        return list(file.reasons or [])

    of_all = reasons("all")
    assert {"low_quality", "less_similar", "too_small"} <= {*of_all}
    assert not {"blocked", "malformed_pair"} & {*of_all}
    assert reasons("low_quality") == ["low_quality"]
    with pytest.raises(UsageError, match="less_similar, low_quality; got 'high_quality'"):
        reasons("high_quality")
