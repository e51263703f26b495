"""Files cut and damaged at every kind of place: the rows before are the same whatever the batches,
and one row tells of the rest."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.inputs.find_inputs import find_files
from alignset.pipeline.inputs.find_splits import find_splits
from alignset.pipeline.inputs.readers import read_split
from alignset.pipeline.inputs.splits import Split
from alignset.pipeline.job import Job
from alignset.transforms.storage.broken_files import BrokenInputError
from tests.support.hostile_tars import tar_of

ROWS = 2000
PAIRS = [(b"http://a.org/%d" % n, b"text number %d" % (n * n)) for n in range(ROWS)]
Row = tuple[bytes, bytes, str | None]


def zstd(body: bytes) -> bytes:
    return pa.Codec("zstd").compress(body, asbytes=True)


def csv() -> bytes:
    return b"url,caption\n" + b"".join(b"%s,%s\n" % pair for pair in PAIRS)


def json_lines() -> bytes:
    return b"".join(b'{"url": "%s", "caption": "%s"}\n' % pair for pair in PAIRS)


def tar() -> bytes:
    lines = json_lines().splitlines()
    return tar_of({f"{n:04d}.json": line for n, line in enumerate(lines[:100])})


def read(path: Path) -> tuple[list[Row], list[str]]:
    """The pairs of a file, and the details of what is broken: the same in any batches."""
    job = Job(input=f"{path},{path.parent}/good.csv", output=f"{path}.set")
    splits = [split for split in find_splits(job, find_files(job)) if "good" not in split.path]
    seen = []
    for batch_rows in (1, 7, 100_000):
        seen.append(
            [
                (row["url"], row["caption"], row.get("malformed"))
                for split in splits
                for batch in read_split(split, batch_rows, skip_broken=True)
                for row in batch.to_pylist()
            ]
        )
    assert seen[0] == seen[1] == seen[2]
    told = [row for row in seen[0] if row[0] == str(path).encode()]
    assert told == seen[0][len(seen[0]) - len(told) :]
    return seen[0][: len(seen[0]) - len(told)], [row[2] or "" for row in told]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.csv").write_bytes(b"url,caption\nhttp://a.org,b\n")
    return tmp_path


FILES: dict[str, Callable[[], bytes]] = {
    "a.csv.gz": lambda: gzip.compress(csv()),
    "a.csv.zst": lambda: zstd(csv()),
    "a.jsonl.gz": lambda: gzip.compress(json_lines()),
    "members.jsonl.gz": lambda: b"".join(
        gzip.compress(line) for line in json_lines().splitlines(True)
    ),
    "a.tar": tar,
}


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_gives_its_first_rows_and_one_that_tells(folder: Path, name: str):
    whole = FILES[name]()
    path = folder / name
    path.write_bytes(whole)
    expected, details = read(path)
    assert [row[:2] for row in expected] == PAIRS[: 100 if name == "a.tar" else ROWS]
    assert details == []
    counts = []
    sizes = (0, 1, 20, len(whole) // 3, len(whole) // 2, len(whole) * 2 // 3)
    if name == "a.tar":  # whose members take 1,024 bytes each
        sizes = (0, 1, 20, 30 * 1024 + 1, 50 * 1024 + 511, 70 * 1024 + 512 + 10)
    for size in sizes:
        path.write_bytes(whole[:size])
        rows, details = read(path)
        assert rows == expected[: len(rows)]  # and no half of a row
        assert details == ["cut_short"]
        counts.append(len(rows))
    assert counts == sorted(counts)
    assert counts[-1] > 0 or name == "a.csv.zst"  # whose only block is all of it


def test_a_gzip_that_only_lacks_its_checksum_loses_no_row(folder: Path):
    path = folder / "a.csv.gz"
    path.write_bytes(gzip.compress(csv())[:-1])
    rows, details = read(path)
    assert ([row[:2] for row in rows], details) == (PAIRS, ["cut_short"])


def test_a_flipped_byte_of_a_compressed_file_is_told(folder: Path):
    whole = gzip.compress(csv())
    path = folder / "a.csv.gz"
    for at in range(20, len(whole), len(whole) // 9):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        rows, details = read(path)
        assert len(details) == 1
        assert details[0] in ("damaged", "cut_short")
        assert len(rows) < ROWS * 2


def parquet(path: Path, groups: int) -> list[int]:
    """Writes ROWS rows in so many row groups; where the pages of each begin."""
    table = pa.table({"url": [url for url, _ in PAIRS], "caption": [text for _, text in PAIRS]})
    options = {"row_group_size": ROWS // groups, "use_dictionary": False, "compression": "none"}
    pq.write_table(table, path, write_page_checksum=True, **options)
    footer = pq.read_metadata(path)
    return [footer.row_group(n).column(1).data_page_offset for n in range(groups)]


def test_a_damaged_row_group_costs_itself_alone(folder: Path, monkeypatch: pytest.MonkeyPatch):
    path = folder / "a.parquet"
    second = parquet(path, 4)[1]
    body = bytearray(path.read_bytes())
    body[second + 500] ^= 0x55
    path.write_bytes(body)
    left = [*range(500), *range(1000, 2000)]
    for rows_per_split in (1, 600, 1 << 18):  # whatever the splits are
        monkeypatch.setattr("alignset.pipeline.inputs.splits.ROWS_PER_SPLIT", rows_per_split)
        job = Job(input=str(path), output="o")
        batches = [
            row
            for split in find_splits(job, find_files(job))
            for batch in read_split(split, 300, skip_broken=True)
            for row in batch.to_pylist()
        ]
        good = [(row["url"], row["caption"]) for row in batches if "malformed" not in row]
        assert good == [PAIRS[n] for n in left]
        told = [row for row in batches if "malformed" in row]
        assert [(row["url"], row["malformed"]) for row in told] == [(str(path).encode(), "damaged")]


def test_a_parquet_file_without_its_footer_has_no_rows(folder: Path):
    path = folder / "a.parquet"
    parquet(path, 2)
    whole = path.read_bytes()
    for size in (0, 3, 4, 100, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert read(path) == ([], ["cut_short"])
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    path.write_bytes(whole[:footer] + b"\xff" * 30 + whole[footer + 30 :])
    assert read(path) == ([], ["damaged"])


def test_a_quotation_that_is_never_closed_costs_its_own_row(folder: Path):
    path = folder / "a.csv"
    for end in (b'http://a.org/x,"never', b'http://a.org/x,too,many,"never', b'"', b'x,"a""\n'):
        path.write_bytes(csv() + end)
        rows, details = read(path)
        assert ([row[:2] for row in rows], details) == (PAIRS, ["damaged"])


def test_what_vanished_is_told(folder: Path):
    for split_format in ("csv", "jsonl", "parquet", "webdataset"):
        split = Split(str(folder / "a"), split_format, "", "url", "caption", (0,))
        (batch,) = read_split(split, 10, skip_broken=True)
        assert batch["malformed"].to_pylist() == ["gone"]
        with pytest.raises(BrokenInputError, match=r"/a to its end: No such file"):
            list(read_split(split, 10))


def test_a_fault_of_what_the_run_has_written_itself_is_none_of_the_input(folder: Path):
    split = Split(str(folder / "a"), "pages", "", "url", "caption", (0,))
    with pytest.raises(FileNotFoundError):
        list(read_split(split, 10, skip_broken=True))


def test_many_small_row_groups_are_few_batches(folder: Path):
    path = folder / "a.parquet"
    parquet(path, 200)
    split = Split(str(path), "parquet", "", "url", "caption", tuple(range(200)))
    assert [len(batch) for batch in read_split(split, 1500)] == [1500, 500]
    source = io.BytesIO(path.read_bytes())
    assert pq.read_metadata(source).num_row_groups == 200
