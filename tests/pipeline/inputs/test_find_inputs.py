"""Which files are read, of which format, in which columns; and inputs that no run can use."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_inputs import find_files
from alignset.pipeline.inputs.find_splits import find_splits
from alignset.pipeline.inputs.splits import Split
from alignset.pipeline.job import Job
from tests.support.command import run

ROWS = {"url": ["http://a.org/1", "http://a.org/2"], "caption": ["one text", "and another"]}


def write(path: Path, columns: dict[str, list] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def job(source: object, **settings: str) -> Job:
    return Job(input=str(source), output="o", **settings)


def found(source: object, **settings: str) -> list[str]:
    return [Path(file.path).name for file in find_files(job(source, **settings))]


def split_of(path: Path, **settings: str) -> Split:
    (split,) = find_splits(job(path, **settings), find_files(job(path, **settings)))
    return split


def test_folders_globs_and_lists(tmp_path: Path):
    for name in ("b.parquet", "a.parquet", "deep/er/c.parquet", ".hidden.parquet", "_SUCCESS"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no pairs")
    assert found(tmp_path) == ["a.parquet", "b.parquet", "c.parquet"]
    assert found(f"{tmp_path}/") == ["a.parquet", "b.parquet", "c.parquet"]
    assert found(f"{tmp_path}/*.parquet") == ["a.parquet", "b.parquet"]
    assert found(f"{tmp_path}/[b].par*") == ["b.parquet"]
    assert found(f"{tmp_path}/b.parquet,{tmp_path}/a.parquet") == ["a.parquet", "b.parquet"]
    assert found(f"{tmp_path}/a.parquet,{tmp_path}") == ["a.parquet", "b.parquet", "c.parquet"]


def test_a_folder_is_the_same_with_and_without_a_slash(tmp_path: Path):
    write(tmp_path / "a.parquet")
    assert find_files(job(tmp_path)) == find_files(job(f"{tmp_path}/"))


def test_the_output_is_no_input(tmp_path: Path):
    """A glob may name files of it too, when a killed run goes on."""
    for name in ("a/a.parquet", "set/text-00000.parquet", "settle/b.parquet"):
        write(tmp_path / name)
    files = find_files(Job(input=f"{tmp_path}/*/*.parquet", output=f"{tmp_path}/set/"))
    assert [Path(file.path).name for file in files] == ["a.parquet", "b.parquet"]


def test_a_folder_whose_name_looks_like_a_glob(tmp_path: Path):
    write(tmp_path / "x[1]" / "a.parquet")
    assert found(tmp_path / "x[1]") == ["a.parquet"]


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
        with pytest.raises(UsageError, match=r"format of .*dat.* give --input_format"):
            find_files(job(source))
    write(tmp_path / "more.dat")
    with pytest.raises(UsageError, match=r"format of .*dat.* give --input_format"):
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
    split = split_of(write(tmp_path / "a.parquet", {name: ["x"] for name in names}))
    assert (split.url_column, split.text_column) == (url, text)


def test_columns_that_are_told(tmp_path: Path):
    path = write(tmp_path / "a.parquet", {"u": ["x"], "words": ["y"], "url": ["z"]})
    split = split_of(path, url_column="u", text_column="words")
    assert (split.url_column, split.text_column) == ("u", "words")


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


def _no_input(folder: Path) -> Path:
    return folder / "nothing" / "*.parquet"


def _empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def _empty_file(folder: Path) -> Path:
    (folder / "a.csv").write_bytes(b"")
    return folder / "a.csv"


def _no_rows_parquet(folder: Path) -> Path:
    return write(folder / "a.parquet", {"url": [], "caption": []})


def _no_rows_csv(folder: Path) -> Path:
    (folder / "a.csv").write_bytes(b"url,caption\n\n")
    return folder / "a.csv"


def _no_rows_jsonl(folder: Path) -> Path:
    (folder / "a.jsonl").write_bytes(b"\n \n")
    return folder / "a.jsonl"


def _no_text_column(folder: Path) -> Path:
    return write(folder / "a.parquet", {"url": ["x"], "words": ["y"]})


def _no_url_column(folder: Path) -> Path:
    (folder / "a.tsv").write_bytes(b"where\tcaption\na\tb\n")
    return folder / "a.tsv"


def _twice(folder: Path) -> Path:
    (folder / "a.csv").write_bytes(b"url,caption,caption\nhttp://a,b,c\n")
    return folder / "a.csv"


def _twice_parquet(folder: Path) -> Path:
    table = pa.Table.from_arrays([pa.array(["x"])] * 3, names=["url", "url", "caption"])
    pq.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def _corrupt_parquet(folder: Path) -> Path:
    path = write(folder / "a.parquet")
    path.write_bytes(path.read_bytes()[:-20] + b"\0" * 20)
    return path


def _cut_gzip(folder: Path) -> Path:
    """Before a row begins; where some are whole, they are read."""
    (folder / "a.csv.gz").write_bytes(gzip.compress(b"url,caption\nhttp://a.org,b\n")[:14])
    return folder / "a.csv.gz"


def _no_gzip(folder: Path) -> Path:
    (folder / "a.jsonl.gz").write_bytes(b'{"url": "http://a", "caption": "b"}\n')
    return folder / "a.jsonl.gz"


def _no_json(folder: Path) -> Path:
    (folder / "a.jsonl").write_bytes(b"url,caption\nhttp://a,b\n")
    return folder / "a.jsonl"


def _no_objects(folder: Path) -> Path:
    (folder / "a.jsonl").write_bytes(b"7\n8\n")
    return folder / "a.jsonl"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_no_input, "no input at"),
        (_empty_folder, "no input at"),
        (_empty_file, "is empty"),
        (_no_rows_parquet, "is empty"),
        (_no_rows_csv, "is empty"),
        (_no_rows_jsonl, "is empty"),
        (_no_text_column, "it has url, words: give --text_column"),
        (_no_url_column, "it has where, caption: give --url_column"),
        (_twice, "2 columns 'caption'; rename"),
        (_twice_parquet, "2 columns 'url'; rename"),
        (_corrupt_parquet, "a.parquet as parquet"),
        (_cut_gzip, "a.csv.gz as csv"),
        (_no_gzip, "a.jsonl.gz as jsonl"),
        (_no_json, "a.jsonl as jsonl"),
        (_no_objects, "a.jsonl as jsonl"),
    ],
)
def test_an_input_of_no_use_is_one_line_and_status_2(tmp_path: Path, make, says: str):
    ended = run(make(tmp_path), tmp_path / "set")
    assert (ended.status, ended.out) == (2, ""), ended.err
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("beam_runner.py: ")
    assert says in ended.err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("pattern", "output"),
    [("in", "in"), ("in/", "in"), ("in", "in/deep/set"), (".", "set"), ("in/**", "in/set")],
)
def test_an_output_within_the_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="or lies within it; give another --output"):
        find_files(Job(input=pattern, output=output))


def test_an_output_beside_files_that_are_named_is_taken(tmp_path: Path) -> None:
    table = pa.table({"url": ["http://a/b"], "caption": ["a"]})
    pq.write_table(table, tmp_path / "a.parquet")
    for pattern in ("a.parquet", "*.parquet"):
        assert find_files(Job(input=f"{tmp_path}/{pattern}", output=f"{tmp_path}/set"))


def test_a_name_that_is_not_there_is_told_also_beside_one_that_is(tmp_path: Path):
    there = write(tmp_path / "a.parquet")
    for missing in ("b.csv", "*.jsonl", "folder/"):
        ended = run(f"{there},{tmp_path}/{missing}", tmp_path / "set")
        assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
        assert f"no input at '{tmp_path}/{missing}'" in ended.err


def test_an_input_within_the_output_is_told_as_such(tmp_path: Path):
    (tmp_path / "set").mkdir()
    there = write(tmp_path / "set" / "a.parquet")
    ended = run(there, tmp_path / "set")
    assert ended.status == 2
    assert f"the input '{there}' lies within --output=" in ended.err
