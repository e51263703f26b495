"""Which files, blocklists and evaluation images a command names, and those that it cannot use."""

import gzip
import io
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_inputs import find_files, find_splits, format_of
from alignset.pipeline.inputs.find_lists import (
    Evaluation,
    check_index_folder,
    find_blocklists,
    find_evaluation,
    find_evaluation_files,
    index_folder,
)
from alignset.pipeline.inputs.splits import Split
from alignset.pipeline.settings import Job
from alignset.transforms.blocklists import compiled_list
from tests.support.golden import evaluation_image
from tests.support.picture_files import encoded, photograph
from tests.transforms.decontamination.test_evaluation_index import made

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
    ("name", "expected"),
    [
        ("A.CSV", ("csv", "")),
        ("a.b.csv.gz", ("csv", "gzip")),
        ("a.tsv.zstd", ("tsv", "zstd")),
        ("a.tab", ("tsv", "")),
        ("a.ndjson.GZ", ("jsonl", "gzip")),
        ("00000.tar", ("webdataset", "")),
        ("a.gz", ("", "gzip")),
        ("a.b/c", ("", "")),
    ],
)
def test_formats_by_name(name: str, expected: tuple[str, str]):
    """tests/pipeline/inputs/test_readers.py reads files of the others."""
    assert format_of(f"x.csv/{name}") == expected


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


@pytest.mark.parametrize(
    ("flags", "kept_only", "names"),
    [
        ({"holdout": 0.1}, False, "shards/0.parquet holdout/0.parquet rejected/text-0.parquet"),
        ({"holdout": 0.25}, True, "shards/0.parquet holdout/0.parquet"),
        ({}, True, "shards/0.parquet"),
        ({}, False, "pass --holdout=0.1, or a larger share"),
        ({"holdout": 0.09}, False, "pass --holdout=0.1, or a larger share"),
        ({"holdout": 50.0}, False, "pass --holdout=0.1, or a larger share"),
        ({"text_only": True}, False, "--text_only does not: leave it out, or"),
    ],
)
def test_a_dataset_is_its_rows(
    tmp_path: Path, flags: dict[str, Any], kept_only: bool, names: str
) -> None:
    """And held-out rows are read only to be held out."""
    root, steps = tmp_path / "a,b", [{"step": "fetch", "seen": 52, "dropped": {}}]
    steps.append({"step": "takedown", "seen": 40, "dropped": {"taken_down": 2}})
    for path in ("shards/0", "holdout/0", "rejected/text-0", "images/0"):
        write(root / f"{path}.parquet")
    for name in ("shards/0.tar", "shards/0_stats.json", "rejected/notes.txt"):
        (root / name).write_text("no rows")
    (root / "funnel.json").write_text(json.dumps({"steps": steps}))
    for holdout in (0.1, 5):  # a number of pairs is a share of those that texts kept
        document = {"job": {"text_only": False, "holdout": holdout}}
        (root / "manifest.json").write_text(json.dumps(document))
        of_job = job(str(root).replace(",", r"\,"), **flags)
        if "parquet" not in names:
            with pytest.raises(UsageError, match=names):
                find_files(of_job, kept_only=kept_only)
            continue
        files = find_files(of_job, kept_only=kept_only)
        assert {file.path: file.format for file in files} == {
            f"{root}/{name}": "rows" for name in names.split()
        }
    (root / "images/0.parquet").unlink()
    tars = [file.path for file in find_files(of_job) if file.format == "webdataset"]
    assert tars == [f"{root}/shards/0.tar"]


def found(*paths: object):
    return find_blocklists(",".join(map(str, paths)), 6, 32)


def test_none_and_some(tmp_path: Path) -> None:
    assert found().lists == ()
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"host:{name[0]}.example\n")
    lists = find_blocklists(f"first={tmp_path}/a.txt,{tmp_path}/b.txt", 5, 30)
    assert [compiled.name for compiled in lists.lists] == ["first", "list-bf227843"]
    assert (lists.min_phash_distance, lists.min_pdq_distance) == (5, 30)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("gone", None, "cannot be read: there is no such file; pass files"),
        ("bad", "example.com\n", "bad, line 1: 'example.com' does not begin with any of host:, "),
        ("empty", "", "has no entry"),
        (
            "domain",
            "domain:a.example",
            "needs publicsuffixlist: pip install 'alignset[blocklists]'",
        ),
        (
            "pdq",
            f"pdq:{'0' * 64}",
            "a pdq: entry of a blocklist needs pdqhash: pip install 'alignset[pdq]'",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, name: str, body: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)
    compiled_list.public_suffixes.cache_clear()
    if body is not None:
        (tmp_path / name).write_text(body)
    with pytest.raises(UsageError) as error:
        found(tmp_path / name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_is_no_list(tmp_path: Path) -> None:
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(UsageError, match="it is a folder, a pipe or a device"):
            found(path)


def test_an_image_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "me.jpg"
    path.write_bytes(encoded(photograph(1), "JPEG"))
    with pytest.raises(UsageError) as error:
        found(path)
    assert str(error.value) == f"{path} is an image, jpeg: to list it pass --blocklist=image:{path}"


def test_two_of_one_name_and_too_many_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "l.txt").write_text("host:a.example\n")
    with pytest.raises(UsageError, match=r"list-405b5e32, by .*: pass each list once"):
        found(tmp_path / "a/l.txt", tmp_path / "b/l.txt")  # which hold the same
    with pytest.raises(UsageError, match="two blocklists are called one"):
        found(f"one={tmp_path}/a/l.txt", f"one={tmp_path}/b/l.txt")
    with pytest.raises(UsageError, match="takes 64 files; got 65"):
        found(*["x"] * 65)


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("exam", "NAME=PATH"),
        ("=there", "NAME=PATH"),
        ("exam=", "NAME=PATH"),
        ("exam=nowhere", r"no evaluation images at 'nowhere' \(exam\)"),
        ("exam={here},exam={here}", "eval_images names exam twice"),
        ("exam={here}/empty", r"no evaluation images at '.*/empty' \(exam\)"),
    ],
)
def test_images_that_cannot_be_had(tmp_path: Path, flag: str, says: str) -> None:
    (tmp_path / "a.png").write_bytes(evaluation_image())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=says):
        find_evaluation(flag.replace("{here}", str(tmp_path)), "")


def test_evaluation_sets_are_found_by_name(tmp_path: Path) -> None:
    for name in ("one/a.png", "one/deep/b.JPG", "one/e.tiff", "one/f.jfif", "two/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(evaluation_image())
    (tmp_path / "one" / "labels.txt").write_text("no image")
    files = find_evaluation_files(f"x={tmp_path}/one,y={tmp_path}/two/*.png")
    assert [(file.name, Path(file.path).name) for file in files] == [
        ("x", "a.png"),
        ("x", "b.JPG"),
        ("x", "e.tiff"),  # cannot be read, which is told
        ("x", "f.jfif"),
        ("y", "c.png"),
    ]


def test_an_index_is_used_as_it_is(tmp_path: Path) -> None:
    place = made(tmp_path)
    assert find_evaluation("", f"{place}/") == Evaluation(index=place)
    assert find_evaluation("", "") == Evaluation()
    with pytest.raises(UsageError, match="is an index itself: leave out --eval_images"):
        find_evaluation(f"exam={tmp_path}/photographs", place)
    path = Path(place, "description.json")
    text = path.read_text()
    path.write_text(text.replace('"7"', '"6"'))  # whose thumbnails of JPEGs differ
    assert path.read_text() != text
    with pytest.raises(UsageError, match="was made by another version of alignset: pass --eval_im"):
        find_evaluation("", place)


def test_what_cannot_be_used_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(evaluation_image())
    with pytest.raises(UsageError, match="is not a whole index"):
        find_evaluation("", str(folder))
    (folder / "description.json").write_text("{")
    with pytest.raises(UsageError, match="is not a whole index"):
        find_evaluation("", str(folder))
    pq.write_table(pa.table({"label": [1]}), folder / "labels.parquet")
    with pytest.raises(UsageError, match=r"labels\.parquet cannot be used: .*no column image"):
        find_evaluation(f"x={folder}", "")
    (folder / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"labels\.parquet cannot be used"):
        find_evaluation(f"x={folder}", "")
    check_index_folder(str(tmp_path / "new" / "deep"))
    check_index_folder("s3://bucket/x")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match="is a file"):
        check_index_folder(str(folder / "a.png" / "index"))


def test_paths_are_those_that_workers_find(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(evaluation_image())
    there = find_evaluation(f"x={tmp_path}", "").resolve_paths(lambda path: f"/at{path}")
    assert [file.path for file in there.files] == [f"/at{tmp_path}/a.png"]
    assert (there.index, Evaluation(index="b").resolve_paths(str.upper).index) == ("", "B")
    for out, folder in {
        "/data/set": "/data/set.eval_index",
        "s3://bucket/set": "s3://bucket/set.eval_index",
        "s3://bucket": "s3://bucket/eval_index",
    }.items():
        assert index_folder(out) == folder
