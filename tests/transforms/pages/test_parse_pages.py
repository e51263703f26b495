"""The command over web pages: archives, folders of HTML, what is broken, and a real crawl."""

import contextlib
import functools
import http.server
import io
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that

from alignset.transforms.pages import page_images, parse_pages
from alignset.transforms.pages import parse_pages as pages
from alignset.transforms.pages.archives import Broken
from alignset.transforms.pages.http_pages import MAX_URL, Page
from alignset.transforms.pages.page_counts import PageCounts, PageTally, add_page_counts, day_of
from alignset.transforms.pages.page_files import PAGE_FORMATS, PageFiles
from alignset.transforms.pages.page_images import Found
from alignset.transforms.pages.parse_pages import PAGE_PAIRS, FindPairs, pairs_of, rows_of
from tests.support.command import digests, fates, funnel, run, succeed
from tests.support.made_batches import run_in_beam
from tests.support.page_archives import packed, page_record, record, response
from tests.support.root import ROOT
from tests.support.serving import serving

ALL = ("--language=", "--min_words=1", "--text_only")


def rows(output: Path, folder: str = "pairs") -> list[dict]:
    tables = [pq.read_table(path) for path in sorted(output.glob(f"{folder}/*.parquet"))]
    return pa.concat_tables(tables).to_pylist() if tables else []


def pairs(output: Path) -> set[tuple[str, str, str | None]]:
    return {(row["url"], row["caption"], row["page_url"]) for row in rows(output)}


def image_page(number: int) -> str:
    return (
        f'<html><img src="{number}.png" alt="picture {number}"><img src="s.png" alt="same"></html>'
    )


def url(number: int) -> str:
    return f"http://a.example/{number}/"


@pytest.mark.parametrize(("bytes_at_once", "rows_at_once"), [(1, 1), (999, 4), (10**6, 20)])
def test_pages_and_rows_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_at_once: int, rows_at_once: int
):
    monkeypatch.setattr(pages, "BYTES_AT_ONCE", bytes_at_once)
    monkeypatch.setattr(pages, "ROWS_AT_ONCE", rows_at_once)
    (tmp_path / "a.warc").write_bytes(
        b"".join(page_record(url(n), image_page(n)) for n in range(10))
    )
    part = PageFiles("warc", ((str(tmp_path / "a.warc"), ""),))
    batches = list(pages.rows_of(pages.pairs_of(part, PageTally())))
    assert max(map(len, batches)) <= rows_at_once
    assert pa.Table.from_batches(batches)["caption"].to_pylist() == [
        text for n in range(10) for text in (f"picture {n}", "same")
    ]


def test_libxml2s_names_end_with_their_thread(monkeypatch: pytest.MonkeyPatch):
    """libxml2 keeps the names of all tags and attributes that a thread read."""
    threads = []

    def seen(page: Page, _: object) -> list[Found]:
        threads.append(threading.current_thread())
        return []

    monkeypatch.setattr(pages, "images_of", seen)
    monkeypatch.setattr(pages, "BYTES_AT_ONCE", 200)
    assert list(pages.pairs_in((Page(url(n), bytes(100)) for n in range(5)), PageTally())) == []
    assert [threads.index(thread) for thread in threads] == [0, 0, 2, 2, 4]
    assert not any(thread.is_alive() for thread in threads)


def test_rows_of_long_pages_are_given_sooner():
    """Else 16,384 rows might each have a page's URL of 8 KiB, or a text of 32 MiB."""
    long = "b" * 8000
    images = (Found(long, f"{number}", long) for number in range(5000))
    batches = list(pages.rows_of(images))
    assert max(batch.nbytes for batch in batches) < 1 << 25
    assert sum(map(len, batches)) == 5000


PEAK = """
import resource, sys
from alignset.transforms.pages.page_counts import PageTally
from alignset.transforms.pages.parse_pages import PageFiles, pairs_of, rows_of
part = PageFiles("warc", ((sys.argv[1], ""),))
rows = sum(map(len, rows_of(pairs_of(part, PageTally()))))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mib(path: Path) -> tuple[int, float]:
    """The rows of an archive, and what a process of its own takes to make them."""
    command = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows, kib = map(int, done.stdout.split())
    return rows, kib / 1024


@pytest.mark.slow
def test_pages_of_many_short_tags_are_parsed_in_pieces(tmp_path: Path):
    """A page of 32 MiB took 2 GB, and 256 pages were held together."""
    (tmp_path / "small.warc").write_bytes(page_record(url(0), b"<img src=a alt=b>"))
    tags = b"<img src=a alt=b c d e f g>" * 50_000
    records = [page_record(url(n), tags) for n in range(4)]
    (tmp_path / "large.warc").write_bytes(b"".join(records))
    (few, least), (many, most) = (peak_mib(tmp_path / f"{n}.warc") for n in ("small", "large"))
    assert (few, many) == (1, 200_000)
    assert most - least < 150


@pytest.mark.parametrize("kind", PAGE_FORMATS)
def test_a_file_of_pages_that_cannot_be_opened_is_told(tmp_path: Path, kind: str):
    part = PageFiles(kind, ((str(tmp_path / "gone"), ""),))
    tally = PageTally()
    (batch,) = (batch for batch in rows_of(pairs_of(part, tally)) if len(batch))
    assert batch.to_pylist() == [
        {
            "url": str(tmp_path / "gone"),
            "caption": "No such file or directory",
            "malformed": "gone",
            "page_url": "",
            "source_license": None,
            "source_rsl": None,
            "source_opted_out": None,
        }
    ]
    assert not tally


# The input of one run: archives, a folder of HTML and a table. Each URL of a page, with the images
# and texts of it that are kept, or the detail of `broken_page`.
SITE = "https://w.example/docs"
WHOLE = {
    **{url(n): {f"{url(n)}{n}.png", f"{url(n)}s.png"} for n in (0, 2, 4)},
    f"{SITE}/a%20b.html": {f"{SITE}/5.png", f"{SITE}/s.png"},
    f"{SITE}/deep/c.htm": {"http://b.example/6.png", "http://b.example/s.png"},
    f"{SITE}/none.html": set(),
    "https://dogs.example/base": {"https://dogs.example/other/a.png"},
    "http://dogs.example/bases": {"http://dogs.example/second/b.png"},
    None: {"http://c.example/"},
}
BROKEN = {url(1): ("wrong_length", "cut_off"), url(3): ("bad_encoding",)}
COUNTED = {"broken": 2, "no_response": 1, "not_ok": 3, "not_html": 1, "records": 15, "pages": 11}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pages")
    records = [page_record(url(n), image_page(n)) for n in range(5)]
    records[1] = records[1].replace(b"Content-Length: ", b"Content-Length: 9")
    records[3] = page_record(url(3), b"\x1f\x8b\x08 no gzip", "Content-Encoding: gzip")
    records.append(record(url(5), response(image_page(5), status="404 No")))
    (folder / "a.warc.gz").write_bytes(packed(records, "gz"))
    shutil.copy(ROOT / "tests" / "wat_pages" / "pages.wat.gz", folder / "b.wat.gz")
    (folder / "c.csv").write_text("url,caption\nhttp://c.example/,a table\n")
    (folder / "www" / "deep").mkdir(parents=True)
    (folder / "www" / "a b.html").write_text(image_page(5))
    base = '<base href="http://b.example/">'
    (folder / "www" / "deep" / "c.htm").write_text(base + image_page(6))
    (folder / "www" / "none.html").write_text("<p>nothing")
    (folder / "www" / "style.css").write_text("<img src=no alt=no>")
    return ",".join(f"{folder}/{name}" for name in ("a.warc.gz", "b.wat.gz", "c.csv", "www"))


@pytest.fixture(scope="module")
def whole(inputs: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output of a run over all of them, and what it printed."""
    output = tmp_path_factory.mktemp("whole") / "set"
    return output, succeed(inputs, output, *ALL, f"--base_url={SITE}/").out


def test_pages_of_all_kinds_beside_a_table(whole: tuple[Path, str]):
    output, printed = whole
    images = defaultdict(set)
    for image, _, page in pairs(output):
        images[page].add(image)
    assert {page: images[page] for page in WHOLE} == WHOLE
    broken = [row for row in rows(output, "rejected") if row["reason"] == "broken_page"]
    assert {row["page_url"] for row in broken} == {*BROKEN}
    assert all(row["step"] == "pairs" for row in broken)
    assert all(row["detail"] in BROKEN[row["page_url"]] for row in broken)
    counts = funnel(output)
    assert counts["steps"][0]["dropped"]["broken_page"] == 2
    days = {"first_day": "2026-01-01", "last_day": "2026-01-01"}
    assert counts["pages"] == COUNTED | {"pairs": counts["pages"]["pairs"]} | days
    assert "pages: 11 of 15 records; 3 not 2xx; 1 not HTML" in printed


def test_no_page_at_all(tmp_path: Path):
    (tmp_path / "a.warc").write_bytes(record(url(1), response("", status="404 No")))
    ended = run(tmp_path / "a.warc", tmp_path / "none", *ALL)
    assert ended.status == 1
    assert "the input holds no pair" in ended.err


def test_what_nobody_foresaw_is_a_row_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Pages at which our own code fails, at several places."""

    def failing(function: Callable[[Any], Any], bad: str) -> Callable[[Any], Any]:
        def call(item: Any) -> Any:
            if bad in str(item):
                raise ZeroDivisionError("never seen")
            return function(item)

        return call

    (tmp_path / "a.warc").write_bytes(
        b"".join(page_record(url(n), image_page(n)) for n in range(1, 6))
    )
    monkeypatch.setattr(pages, "page_of", failing(pages.page_of, url(2)))
    monkeypatch.setattr(page_images, "image_url", failing(page_images.image_url, "3.png"))
    monkeypatch.setattr(pages, "page_of", failing(pages.page_of, url(4)))
    counts = PageTally()
    part = PageFiles("warc", ((str(tmp_path / "a.warc"), ""),))
    items = list(pages.pairs_of(part, counts))
    assert [row for row in items if isinstance(row, Broken)] == [
        Broken("unreadable", url(n)) for n in (2, 3, 4)
    ]
    assert {row.page for row in items if isinstance(row, Found)} == {url(1), url(5)}
    assert len([line for line in caplog.messages if "ZeroDivisionError" in line]) == 1

    def torn(*_: Any) -> Iterator[Broken]:
        yield Broken("bad_head")
        raise ZeroDivisionError("never seen")

    monkeypatch.setattr(pages, "read_records", torn)
    items = list(pages.pairs_of(PageFiles("wat", part.files * 2), counts))
    assert items == [Broken("bad_head"), Broken("unreadable")] * 2


NO_ARCHIVES = {
    "a.warc": b"<html>no archive",
    "a.warc.gz": b"\x1f\x8b\x08" * 9,
    "a.warc.zst": b"\x5d\x2a\x4d\x18\xff\xff\xff\xff\x28\xb5\x2f\xfd" + b"\xff" * 9,
    "a.wacz": b"PK\x03\x04 cut",
    "b.wacz": b"",
    "a.wat.gz": b"<html>no archive",
}


def no_files_in_a_zip() -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("pages/pages.jsonl", "{}")
    return whole.getvalue()


def test_what_is_no_archive_is_told_before_the_run(tmp_path: Path):
    for name, body in NO_ARCHIVES.items():
        (tmp_path / name).write_bytes(body or no_files_in_a_zip())
        ended = run(tmp_path / name, tmp_path / "set", *ALL)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert "no WARC record begins in it" in ended.err
    ended = run(tmp_path, tmp_path / "set", "--base_url=docs")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "base_url must be an absolute http(s) URL" in ended.err


def test_parsed_pages_are_not_parsed_again(
    inputs: str, whole: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import alignset.pipeline.run

    def fail(*_: object) -> None:
        raise RuntimeError("stopped here")

    flags = (*ALL, f"--base_url={SITE}/")
    with monkeypatch.context() as patch:
        patch.setattr(alignset.pipeline.run, "curate_texts", fail)
        assert run(inputs, tmp_path / "set", *flags).status == 1
    parsed = sorted((tmp_path / "set/_temporary/pages").glob("*.parquet"))
    assert len(parsed) == 3
    # As a run leaves it that is killed while it parses: pages.json is what comes last.
    parsed[1].unlink()
    (tmp_path / "set/_temporary/pages.json").unlink()
    read = []
    monkeypatch.setattr(
        pages, "pairs_of", lambda part, *how: [read.append(part), *pairs_of(part, *how)][1:]
    )
    succeed(inputs, tmp_path / "set", *flags)
    assert [part.format for part in read] == ["wat"]
    assert digests(tmp_path / "set") == digests(whole[0])


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder on loopback, by Python's own server."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


REAL = Path("/usr/share/doc/python-skimage-doc/html")


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("wget") and REAL.is_dir()),
    reason="needs Debian's wget and python-skimage-doc, which .ci/run installs (2026-11-25)",
)
def test_a_crawl_by_wget(tmp_path: Path):
    """GNU wget over real pages, served on loopback, against the same pages as files."""
    with served(REAL) as address:
        command = ["wget", "-q", "-r", "-l", "3", "-A", "html", "-P", str(tmp_path / "mirror")]
        start = f"{address}/auto_examples/index.html"
        warc = f"--warc-file={tmp_path / 'crawl'}"
        done = subprocess.run([*command, warc, start], check=False)
        assert done.returncode in (0, 8)  # 8: some links of real pages lead nowhere
    succeed(tmp_path / "crawl.warc.gz", tmp_path / "crawled", *ALL)
    mirror = tmp_path / "mirror" / address.removeprefix("http://")
    flags = ("--input_format=html", f"--base_url={address}/")
    succeed(mirror, tmp_path / "mirrored", *ALL, *flags)
    counts_of_run = funnel(tmp_path / "crawled")
    assert counts_of_run["pages"]["pages"] > 100
    assert counts_of_run["pages"]["broken"] == 0
    assert len(pairs(tmp_path / "crawled")) > 200
    assert fates(tmp_path / "crawled") == fates(tmp_path / "mirrored")
    assert pairs(tmp_path / "crawled") == pairs(tmp_path / "mirrored")
    served_pages = {f"{address}/{path.relative_to(mirror)}" for path in mirror.rglob("*.html")}
    assert {row["page_url"] for row in rows(tmp_path / "crawled")} <= served_pages


# Pages of a PCollection: the pairs of a page do not depend on the pages beside it.


def page(number: int, images: int) -> Page:
    tags = "".join(f'<img src="{n}.png" alt="picture {n}">' for n in range(images))
    return Page(f"http://a.example/{number}/", tags.encode())


def rows_of_find_pairs(batches: list[pa.RecordBatch]) -> list[dict]:
    assert all(batch.schema == PAGE_PAIRS and len(batch) for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (Page("http://a.example/".ljust(MAX_URL + 1, "a"), b"<img src=a alt=b>"), "long_url"),
        (Page("http://a.example/", b"<img src=a alt=b>" + b" " * 20), "too_large"),
    ],
)
def test_what_cannot_be_used_is_a_row_with_its_detail(
    bad: Page, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "too_large":
        monkeypatch.setattr(parse_pages, "MAX_PAGE", len(bad.body) - 1)
    (row,) = rows_of_find_pairs([*rows_of(pages.pairs_in([bad], PageTally()))])
    assert row["malformed"] == fault
    assert row["page_url"] == bad.url


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_pages_and_files_become_batches(
    at_once: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parse_pages, "PAGES_AT_ONCE", at_once)
    body = page(9, 2).body.decode()
    (tmp_path / "a.warc").write_bytes(page_record("http://a.example/9/", body))
    parts = [*(page(n, 2) for n in range(9)), PageFiles("warc", ((f"{tmp_path}/a.warc", ""),))]

    def check(batches: list[pa.RecordBatch]) -> None:
        urls = {row["url"] for row in rows_of_find_pairs(batches)}
        assert urls == {f"http://a.example/{n}/{i}.png" for n in range(10) for i in range(2)}
        assert sum(map(len, batches)) == len(urls)

    run_in_beam(lambda p: assert_that(p | beam.Create(parts) | FindPairs(), check))


# The days of a crawl, as archives tell them.


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("2024-05-18T09:52:13Z", "2024-05-18"),
        ("2024-02-29", "2024-02-29"),
        ("2023-02-29T00:00:00Z", ""),  # there was no such day
        ("2024-00-10", ""),
        ("0000-01-01", ""),
        ("yesterday", ""),
        ("", ""),
        (" 2024-05-18", ""),
        ("２０２４-05-18", ""),
    ],
)
def test_the_day_of_a_warc_date(value: str, day: str):
    assert day_of(value) == day


def test_the_days_of_parts_span_those_of_the_whole():
    tally = PageTally()
    for value in ("2024-05-18T09Z", "no day", "2024-05-20T09Z", "2024-04-30T09Z", ""):
        tally.note_day(value)
    assert (tally.first_day, tally.last_day) == ("2024-04-30", "2024-05-20")
    parts = [
        PageCounts(pages=2, first_day="2024-05-18", last_day="2024-05-20"),
        PageCounts(pages=1),
        PageCounts(pages=1, first_day="2024-04-30", last_day="2024-05-18"),
    ]
    whole = PageCounts(pages=4, first_day="2024-04-30", last_day="2024-05-20")
    assert add_page_counts(parts) == add_page_counts(parts[::-1]) == whole
    assert add_page_counts(parts[1:2]) == PageCounts(pages=1)
