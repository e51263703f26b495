"""Columns of the input, through whole runs: a table as DataComp's, hashes and scores with it."""

import contextlib
import gzip
import hashlib
import json
import math
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import look, report, takedown
from alignset.pipeline.datasets.facts import find_facts
from alignset.pipeline.report.sliders import sliders
from tests.support.agreement import rows
from tests.support.command import grow, manifest, rejected, run, samples, succeed
from tests.support.hostile_tars import tar_of
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb

TEXTS = ("--language=",)
FLAGS = (
    *("--allow_private_addresses", "--max_unsafe_score=1", "--min_image_side=1", "--retries=0"),
    *TEXTS,
)
COLUMNS = (
    *("--columns=all", "--min_column=clip_b32_similarity_score=0.2"),
    "--verify_hash=sha256=sha256",
)
# As DataComp has them; original_width, original_height and sha256 are our names too.
TYPES = {
    "uid": pa.string(),
    "url": pa.string(),
    "text": pa.string(),
    "original_width": pa.int64(),
    "original_height": pa.int64(),
    "clip_b32_similarity_score": pa.float32(),
    "face_bboxes": pa.list_(pa.list_(pa.float64())),
    "sha256": pa.string(),
    "license": pa.string(),
    "seen": pa.timestamp("us"),
    "is_old": pa.bool_(),
    "shot": pa.struct([("camera", pa.string()), ("days", pa.list_(pa.date32()))]),
}
CARRIED = {
    name: kind
    for name, kind in TYPES.items()
    if name not in ("url", "text", "original_width", "original_height", "sha256")
}
ROWS = 24
# By row.
NO_IMAGE, NO_IMAGE_TOO, OTHER_FILE, BAD_HASH, NO_HASH, LOW, NO_SCORE, NAN = range(8)
TWICE = (10, 11)  # one URL and text in two rows


def uid(row: int) -> str:
    return hashlib.md5(str(row).encode()).hexdigest()


def make_row(web: SmallWeb, row: int) -> dict[str, Any]:
    name = f"/columns/{14 if row == 15 else 10 if row == 11 else row}"
    body = encoded(photograph(row), "JPEG")
    if row not in (NO_IMAGE, NO_IMAGE_TOO):
        web.files.setdefault(name, body)
    digest = hashlib.sha256(web.files.get(name, body)).hexdigest()
    wrong = {OTHER_FILE: "0" * 64, BAD_HASH: "<none>", NO_HASH: None, 15: "1" * 64}
    score = {LOW: 0.1, NO_SCORE: None, NAN: math.nan}
    return {
        "uid": uid(row),
        "url": web.url + name,
        "text": f"a picture of thing {10 if row == 11 else row} on a table",
        "original_width": 200 + row,
        "original_height": 300,
        "clip_b32_similarity_score": score.get(row, 0.25 + row / 64),
        "face_bboxes": [[0.25, 0.5], []] if row % 2 else None,
        "sha256": wrong.get(row, digest.upper() if row == 16 else digest),
        "license": f"cc-{row}",
        "seen": datetime(2024, 1, 2, 3, 4, 5, row),
        "is_old": row % 3 == 0,
        "shot": {"camera": "é", "days": [datetime(2024, 2, row + 1).date()]},
    }


class Carrying(NamedTuple):
    """Runs over the tables, with their outputs."""

    folder: Path
    web: SmallWeb
    rows: list[dict[str, Any]]

    def at(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def made(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Carrying:
    folder = tmp_path_factory.mktemp("columns")
    rows = [make_row(web, row) for row in range(ROWS)]
    (folder / "in").mkdir()
    for part in range(4):
        types = {n: kind for n, kind in TYPES.items() if part < 3 or n != "license"}
        if part == 1:  # other types of the same values
            types |= {"uid": pa.dictionary(pa.int32(), pa.string()), "license": pa.large_string()}
        table = pa.Table.from_pylist(rows[part::4], pa.schema(types))
        pq.write_table(table, folder / f"in/{part}.parquet")
    rows = [row | ({"license": None} if n % 4 == 3 else {}) for n, row in enumerate(rows)]
    found = Carrying(folder, web, rows)
    succeed(folder / "in", folder / "set", *FLAGS, *COLUMNS)
    return found


def given(made: Carrying, row: int, names: Any = CARRIED) -> dict[str, Any]:
    return {name: made.rows[row][name] for name in names}


def same(one: Any, other: Any) -> bool:
    """Equal but for floats of 32 bits, and NaN."""
    return str(one) == str(other) or (isinstance(other, float) and one == pytest.approx(other))


def test_types_and_values_survive_into_every_file(made: Carrying) -> None:
    by_uid = {row["uid"]: row for row in made.rows}
    kept, dropped = rows(made.at("set"), "shards"), rows(made.at("set"), "rejected")
    assert len(kept) + len(dropped) == ROWS
    for row in (*kept, *dropped):
        expected = by_uid[row["uid"]]
        assert all(same(row[name], expected[name]) for name in CARRIED), row
        assert row["input_sha256"] == expected["sha256"]
    files = [*made.at("set").glob("shards/*.parquet"), *made.at("set").glob("rejected/*.parquet")]
    for path in files:
        schema = pq.read_schema(path)
        assert {name: schema.field(name).type for name in CARRIED} == CARRIED
    assert manifest(made.at("set"))["columns"]["face_bboxes"] == {"list": {"list": "float64"}}
    metadata = {key: json.loads(files["json"]) for key, files in samples(made.at("set")).items()}
    for row in kept:
        said = metadata[row["key"]]
        assert said["seen"].replace("T", " ") == str(row["seen"])
        assert said["shot"]["days"] == [str(day) for day in row["shot"]["days"]]
        assert all(said[name] == row[name] for name in ("uid", "face_bboxes", "is_old", "license"))
        score = said["clip_b32_similarity_score"]
        assert score is None if math.isnan(row["clip_b32_similarity_score"] or 0) else True


def test_each_row_ends_as_it_should(made: Carrying) -> None:
    why = Counter((f.reason, f.detail) for f in rejected(made.at("set")))
    assert why == {
        ("fetch_failed", "http_404"): 2,
        ("hash_mismatch", None): 2,
        ("hash_mismatch", "bad_hash"): 1,
        ("low_clip_b32_similarity_score", None): 1,
        ("duplicate_pair", None): 1,
    }
    kept = {row["uid"] for row in rows(made.at("set"), "shards")}
    assert {uid(row) for row in (NO_HASH, NO_SCORE, NAN, 14, 16)} <= kept
    assert not {uid(row) for row in (OTHER_FILE, BAD_HASH, LOW, 15)} & kept
    assert len({uid(row) for row in TWICE} & kept) == 1  # by a hash of all that the rows carry
    assert f"/columns/{BAD_HASH}" not in made.web.requests  # it can match nothing


def test_uids_are_what_datacomps_resharder_takes(made: Carrying) -> None:
    kept = [row["uid"] for row in rows(made.at("set"), "shards")]
    halves = sorted(divmod(int(one, 16), 2**64) for one in kept)
    found = np.load(made.at("set") / "uids.npy", mmap_mode="r")
    assert found.dtype == np.dtype("u8,u8")
    assert found.tolist() == halves
    assert len(halves) == ROWS - 7


def test_report_and_card_know_the_rules_on_columns(
    made: Carrying, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from datasets.info import DatasetInfosDict  # 1 s, not for each worker

    out = made.at("set")
    name = "min_column=clip_b32_similarity_score"
    (slider,) = [of for of in sliders(find_facts(str(out))) if of.rule == name]
    assert slider.edges[slider.place] == 0.2
    page = (out / "report.html").read_text()
    assert "Column clip_b32_similarity_score of the input" in page
    host = made.web.url.removeprefix("http://")
    _, _, table = page.partition("<h3>Other files than the input&#39;s</h3>")
    row = table[table.index(host) : table.index("</tr>", table.index(host))]
    assert ">3<" in row  # two other files, and a hash that is none
    assert "1 kept pair came without a hash, and" in table
    card = (out / "README.md").read_text()
    assert f"| `{name}` | 0.2 | Column clip_b32_similarity_score, at least 0.2 |" in card
    features = DatasetInfosDict.from_directory(str(out))["default"].features
    assert features is not None
    parsed = features["json"]
    assert str(parsed["face_bboxes"]) == "List(List(Value('float64')))"
    assert parsed["seen"].dtype == "string"
    croissant = (out / "croissant.json").read_text()
    assert '"train/is_old"' in croissant
    assert '"rejected/uid"' in croissant
    other = tmp_path / "other"
    score = "clip_b32_similarity_score"
    flags = (f"--max_column={score}=0.5", f"--require_column={score}", "--text_only")
    succeed(made.at("in"), other, *TEXTS, *flags)
    high = [row for row in made.rows if (row[score] or 0) > 0.5]
    why = Counter(fate.reason for fate in rejected(other))
    # 0.5 itself is kept; neither null nor NaN is a value.
    assert why == {f"high_{score}": len(high), f"no_{score}": 2, "duplicate_pair": 1}
    assert report(["--compare", str(out), str(other), f"--output={tmp_path}/two.html"]) == 0
    assert f"high_{score}" in (tmp_path / "two.html").read_text()


def test_a_finished_set_is_filtered_again_without_a_request(made: Carrying, tmp_path: Path) -> None:
    made.web.requests.clear()
    again = tmp_path / "again"
    flags = ("--min_column=clip_b32_similarity_score=0.390625", "--require_column=license")
    succeed(made.at("set"), again, *FLAGS, *flags)
    assert made.web.requests == []
    before = {row["uid"]: row for row in rows(made.at("set"), "shards", "rejected")}
    kept, dropped = rows(again, "shards"), rows(again, "rejected")
    news = {row["reason"] for row in dropped if "reason" not in before[row["uid"]]}
    assert news >= {"low_clip_b32_similarity_score", "no_license"}
    assert news <= {"low_clip_b32_similarity_score", "no_license", "duplicate_pair"}
    for row in (*kept, *dropped):
        expected = before[row["uid"]]
        assert all(same(row[name], expected[name]) for name in CARRIED)
    scores = [row["clip_b32_similarity_score"] for row in kept]
    assert min(score for score in scores if score is not None) == 0.390625
    assert all(row["license"] for row in kept)
    files = [*again.glob("shards/*.parquet"), *again.glob("rejected/*.parquet")]
    kinds = [{n: pq.read_schema(path).field(n).type for n in CARRIED} for path in files]
    assert all(of == CARRIED for of in kinds)
    # What it dropped is read with its columns too.
    looser = ("--min_column=clip_b32_similarity_score=0.3", "--verify_hash=sha256=input_sha256")
    succeed(again, tmp_path / "looser", *FLAGS, *looser)
    assert len(rows(tmp_path / "looser", "shards")) > len(kept)
    assert "license" in rows(tmp_path / "looser", "shards")[0]


def test_what_is_fetched_again_is_compared_too(made: Carrying, tmp_path: Path) -> None:
    out, web = tmp_path / "set", made.web
    web.files[f"/columns/{NO_IMAGE}"] = encoded(photograph(NO_IMAGE), "JPEG")
    web.files[f"/columns/{NO_IMAGE_TOO}"] = encoded(photograph(99), "JPEG")
    with contextlib.ExitStack() as stack:
        for row in (NO_IMAGE, NO_IMAGE_TOO):
            stack.callback(web.files.pop, f"/columns/{row}")
        again = ("--allow_private_addresses", "--retries=0", "--retry_failed=all")
        assert grow(made.at("set"), out, *again).status == 0
    by_uid = {row["uid"]: row for row in rows(out, "shards", "rejected")}
    assert len(by_uid) == ROWS
    assert "reason" not in by_uid[uid(NO_IMAGE)]
    assert by_uid[uid(NO_IMAGE_TOO)]["reason"] == "hash_mismatch"
    for row in (NO_IMAGE, NO_IMAGE_TOO):
        assert all(same(by_uid[uid(row)][name], made.rows[row][name]) for name in CARRIED)


def test_text_formats_and_shards_of_others(made: Carrying, tmp_path: Path) -> None:
    names = ("uid", "clip_b32_similarity_score", "license", "is_old", "seen")
    scored = [given(made, n, ("url", "text", *names)) for n in range(NAN + 1, ROWS) if n != 11]
    lines = [",".join(str("" if v is None else v) for v in row.values()) for row in scored]
    (tmp_path / "pairs.csv").write_text("\n".join([",".join(scored[0]), *lines]))
    lines = [json.dumps(row, default=str) for row in scored]
    (tmp_path / "pairs.jsonl").write_text("\n".join([*lines, "no object"]))
    for kind, time in (("csv", "timestamp[ns]"), ("jsonl", "string")):
        out = tmp_path / kind
        flags = ("--text_only", f"--columns={','.join(names)}")
        succeed(tmp_path / f"pairs.{kind}", out, *TEXTS, *flags)
        found = {row["uid"]: row for row in rows(out, "pairs") if row["uid"]}
        assert len(found) == len(scored)
        for row in scored:
            row = row | ({"license": row["license"] or ""} if kind == "csv" else {})
            assert all(str(found[row["uid"]][name]) == str(row[name]) for name in names)
        schema = pq.read_schema(next(out.glob("pairs/*.parquet")))
        kinds = [str(schema.field(name).type) for name in names]
        assert kinds == ["string", "double", "string", "bool", time]
    # Without its sidecar a shard has what JSON holds.
    (tmp_path / "others").mkdir()
    for path in made.at("set").glob("shards/*.tar"):
        (tmp_path / "others" / path.name).write_bytes(path.read_bytes())
    succeed(tmp_path / "others", tmp_path / "again", *TEXTS, "--text_only", "--columns=all")
    found = {row["uid"]: row for row in rows(tmp_path / "again", "pairs")}
    for row in rows(made.at("set"), "shards"):
        assert found[row["uid"]]["face_bboxes"] == row["face_bboxes"]
        assert found[row["uid"]]["shot"]["days"] == [str(day) for day in row["shot"]["days"]]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--columns=sha256"],
            "'sha256' is the name of a column of ours; pass --columns=input_sha",
        ),
        (["--columns=chroma"], "'chroma' is the name of a column of ours"),
        (["--keep_most_similar=0.5"], "goes by the column similarity, and the pairs will have non"),
        (["--columns=nothing"], "no input file has a column 'nothing'"),
        (["--min_column=license=1"], "takes a column of numbers; 'license' is string"),
        (["--min_column=clip_b32_similarity_score"], "min_column takes NAME=VALUE, such as"),
        (["--min_column=a=b"], "min_column takes NAME=NUMBER; got a=b"),
        (["--min_column=a=2", "--max_column=a=1"], "min_column=a must be <= max_column=a"),
        (["--min_column=" + ",".join(f"a{n}=1" for n in range(33))], "take 32; got 33"),
        (["--keep_column=license"], "such as --keep_column=nsfw=UNLIKELY|UNSURE, of a NAME"),
        (["--keep_column=seen=2024"], "takes a column of text; 'seen' is timestamp[us]"),
        (["--verify_hash=crc=sha256"], "verify_hash takes md5=COLUMN, sha256=COLUMN"),
        (["--verify_hash=md5=is_old"], "takes a column of hex text; 'is_old' is bool"),
        (["--save_additional_columns=['a']"], "here pass --columns=NAME,..., or --columns=all"),
    ],
)
def test_one_line_says_what_is_wrong(
    made: Carrying, tmp_path: Path, flags: list[str], said: str
) -> None:
    ended = run(made.at("in"), tmp_path / "set", *FLAGS, *flags)
    assert ended.status == 2
    assert said in ended.err.splitlines()[-1]
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ("UNLIKELY", {0, 4}),
        ("UNSURE|UNLIKELY", {0, 1, 4}),
        ("UNLIKELY|", {0, 3, 4, 5}),
        ("", {3, 5}),
        ("a=b", {6}),
        ("UNSURE,nsfw=NSFW", None),
    ],
)
def test_wanted_values_of_a_column_of_text_are_kept(
    tmp_path: Path, wanted: str, kept: set[int] | None
) -> None:
    values = ["UNLIKELY", "UNSURE", "NSFW", None, "UNLIKELY", " ", "a=b"]
    urls = [f"http://h/{n}" for n in range(7)]
    texts = [f"some words here {n}" for n in range(7)]
    table = pa.table({"url": urls, "text": texts, "nsfw": values})
    pq.write_table(table, tmp_path / "in.parquet")
    flags = (*TEXTS, "--text_only", f"--keep_column=nsfw={wanted}")
    if kept is None:
        ended = run(tmp_path / "in.parquet", tmp_path / "set", *flags)
        assert "keep_column names nsfw twice" in ended.err
        return
    succeed(tmp_path / "in.parquet", tmp_path / "set", *flags)
    assert {int(row["url"][-1]) for row in rows(tmp_path / "set", "pairs")} == kept
    dropped = rows(tmp_path / "set", "rejected")
    assert {row["reason"] for row in dropped} == {"other_nsfw"}
    assert len(dropped) == 7 - len(kept)
    assert manifest(tmp_path / "set")["rules"]["keep_column=nsfw"] == wanted
    assert "--keep_column=" in (tmp_path / "set" / "README.md").read_text()


def test_numbers_of_a_table_are_text_where_they_are_codes(tmp_path: Path) -> None:
    """Also of a packed table, beside which the column of another is text."""
    head = "url,text,code,n\n"
    (tmp_path / "a.csv").write_text(f"{head}http://h/a,some words here,007,7\n")
    with gzip.open(tmp_path / "b.csv.gz", "wt") as file:
        file.write(f"{head}http://h/b,some words here,12,0\n")
    both, out = f"{tmp_path}/a.csv,{tmp_path}/b.csv.gz", tmp_path / "set"
    succeed(both, out, *TEXTS, "--text_only", "--columns=code,n")
    assert {(row["code"], row["n"]) for row in rows(out, "pairs")} == {("007", 7), ("12", 0)}


def test_types_that_do_not_fit_are_refused_and_odd_uids_give_no_file(tmp_path: Path) -> None:
    for name, values in (("a", [1, 2]), ("b", ["x", "y"])):
        table = {"url": [f"http://h/{name}{n}" for n in range(2)], "text": ["some words here"] * 2}
        pq.write_table(pa.table(table | {"uid": values}), tmp_path / f"{name}.parquet")
    both = f"{tmp_path}/a.parquet,{tmp_path}/b.parquet"
    ended = run(both, tmp_path / "set", *TEXTS, "--text_only", "--columns=uid")
    assert ended.status == 2
    assert "column 'uid' is int64 in" in ended.err
    succeed(tmp_path / "b.parquet", tmp_path / "set", *TEXTS, "--text_only", "--columns=uid")
    assert not (tmp_path / "set/uids.npy").exists()


def binary_view(*values: bytes) -> pa.Array:
    """Text of any bytes, as a Parquet file may have it."""
    return pa.array(values).view(pa.string())


# Values of five rows, and the second cannot be written.
UNWRITABLE = {
    "text": binary_view(b"a", b"\xff\xfe", b"b", b"c", b"d"),
    "day": pa.array([0, 2**31 - 1, 1, 2, None], pa.date32()),
    "days": pa.array([[0], [2**31 - 1], None, [], [2]], pa.list_(pa.date32())),
    "time": pa.array([0, 2**50, 1, 2, 3], pa.timestamp("s", "UTC")),
}


def details(output: Path) -> list[str]:
    """The details of rejected rows; Python need not hold all times of these."""
    files = output.glob("rejected/*.parquet")
    return [row for path in files for row in pq.read_table(path)["detail"].to_pylist()]


MARS = pa.timestamp("s", "Mars/Olympus")
NANOSECONDS = [1_700_000_000_123_456_789 + row for row in range(5)]


def test_values_that_cannot_be_written_cost_their_row_alone(made: Carrying, tmp_path: Path) -> None:
    """With images and without; nanoseconds and a zone that nobody knows are kept, and the dataset
    can be looked at, changed and read again."""
    table = pa.table(
        {
            "url": [f"{made.web.url}/columns/{16 + row}" for row in range(5)],
            "text": [f"a picture of item {row} on a table" for row in range(5)],
            "ns": pa.array(NANOSECONDS, pa.timestamp("ns")),
            "mars": pa.array(range(5), MARS),
        }
        | {f"bad_{name}": values for name, values in UNWRITABLE.items()}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    blocklist = tmp_path / "list.txt"
    blocklist.write_text(f"url:{made.web.url}/columns/20\n")
    for name, flags in (("texts", [*TEXTS, "--text_only"]), ("images", FLAGS)):
        out = tmp_path / name
        succeed(tmp_path / "in.parquet", out, *flags, "--columns=all")
        assert details(out) == ["wrong_type"]
        assert report([str(out)]) == 0
        assert look([str(out), f"--output={tmp_path}/look.html"]) == 0
        assert takedown([str(out), f"--blocklist={blocklist}"]) == 0
        again = tmp_path / f"{name}2"
        succeed(out, again, *flags, f"--blocklist={blocklist}")
        for folder in (out, again):
            files = [*folder.glob("pairs/*.parquet"), *folder.glob("shards/*.parquet")]
            (rows,) = [rows for path in files if len(rows := pq.read_table(path))]
            assert {*rows["ns"].cast(pa.int64()).to_pylist()} == {
                *NANOSECONDS[:1],
                *NANOSECONDS[2:4],
            }
            assert rows.schema.field("mars").type.tz == "UTC"
            assert sorted(rows["bad_text"].to_pylist()) == ["a", "b", "c"]
    said = [json.loads(files["json"]) for files in samples(tmp_path / "images2").values()]
    assert "2023-11-14 22:13:20.123456789" in {row["ns"] for row in said}


def test_a_sidecar_of_others_costs_no_run(made: Carrying, tmp_path: Path) -> None:
    """Its values that cannot be written, and names that are not UTF-8."""
    folder = tmp_path / "shards"
    folder.mkdir()
    texts = {f"0000{n}.txt": f"some words of item {n}".encode() for n in range(5)}
    jsons = {f"0000{n}.json": json.dumps({"url": f"http://h/{n}"}).encode() for n in range(5)}
    files = dict(sorted({**texts, **jsons}.items()))
    (folder / "00000.tar").write_bytes(tar_of(files))
    table = pa.table({"key": [f"0000{n}" for n in range(5)]} | UNWRITABLE)
    pq.write_table(table, folder / "00000.parquet")
    names = ",".join(UNWRITABLE)
    succeed(folder, tmp_path / "out", *TEXTS, "--text_only", f"--columns={names}")
    assert details(tmp_path / "out") == ["wrong_type"]


def test_two_fields_of_one_name_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    table = pa.table({"url": ["http://h/1"], "text": ["some words here"], "twice": twice})
    pq.write_table(table, tmp_path / "in.parquet")
    flags = (*TEXTS, "--text_only")
    ended = run(tmp_path / "in.parquet", tmp_path / "out", *flags, "--columns=twice")
    assert ended.status == 2
    assert "column 'twice' cannot be carried: struct<a: int64, a: int64> has two" in ended.err
    succeed(tmp_path / "in.parquet", tmp_path / "out", *flags, "--columns=all")
