"""Web pages to pairs, one process: WARC against warcio + lxml, WAT against cc2dataset's function.

Both sides parse the same archive by turns, each to the input of its next step (of a WAT ours to
Arrow's columns of strings, cc2dataset's function to tuples); CPU time without what is done for the
first time in a process, and a run fails where their pairs differ. The pages are real ones, from
Debian's documentation packages (apt-get install python-skimage-doc), each taken several times over;
the WAT is made by the Internet Archive's code (tests/wat_pages), if it is given, or written here in
Common Crawl's form.
"""

import argparse
import gzip
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import lxml.html
from results import print_results
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

sys.path.insert(0, str(Path(__file__).parents[1]))

from alignset.transforms.pages.page_counts import PageTally
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pages.page_images import Found
from alignset.transforms.pages.parse_pages import pairs_of

Pairs = Counter[Found]
SITE = "http://docs.example"
# In a process each, the archive parsed some times over.
PARSE = """
import gc, json, sys, time
gc.disable()
sys.path.insert(0, {root!r})
{setup}
gc.freeze()
gc.enable()
for _ in range(3):
    start = time.process_time()
    found = list({call})
    spent = time.process_time() - start
print(json.dumps([spent, {rows}]))
"""
MEMORY = """
import resource, sys
sys.path.insert(0, {root!r})
import alignset.transforms.pages.parse_pages as p
for _ in p.rows_of(p.pairs_of(p.PageFiles({kind!r}, ((sys.argv[1], ''),)), p.PageTally())):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
SETUPS = {
    "ours": (
        "import alignset.transforms.pages.parse_pages as p",
        "p.rows_of(p.pairs_of(p.PageFiles('wat', ((sys.argv[1], ''),)), p.PageTally()))",
        "[[row['url'], row['caption'], row['page_url']] for b in found for row in b.to_pylist()]",
    ),
    "cc2dataset": (
        "from loguru import logger\nlogger.remove()\nfrom cc2dataset.main import process_wat",
        "process_wat(sys.argv[1], 'image')",
        "[[row[1], row[2], row[4]] for row in found]",
    ),
}


def write_warc(path: Path, folder: Path, times: int) -> tuple[int, int]:
    """Writes the pages; returns how many, and their bytes."""
    pages = sorted(file for file in folder.rglob("*.html") if not file.is_symlink())
    size = 0
    with path.open("wb") as sink:
        writer = WARCWriter(sink, gzip=True)
        for again in range(times):
            for page in pages:
                body = page.read_bytes()
                size += len(body)
                url = f"{SITE}/{again}/{page.relative_to(folder)}"
                head = StatusAndHeaders(
                    "200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1"
                )
                asked = StatusAndHeaders("GET / HTTP/1.1", [("Host", "d")], is_http_request=True)
                answer = writer.create_warc_record(
                    url, "response", payload=io.BytesIO(body), http_headers=head
                )
                request = writer.create_warc_record(url, "request", http_headers=asked)
                writer.write_request_response_pair(request, answer)
    return len(pages) * times, size


def write_wat(path: Path, warc: Path) -> None:
    """Common Crawl's WAT of a WARC: a record for each, links in the order of the page."""
    with path.open("wb") as sink, warc.open("rb") as source:
        for record in ArchiveIterator(source):
            fields = dict(record.rec_headers.headers)
            metadata: dict = {"Actual-Content-Type": fields.get("Content-Type")}
            if record.rec_type == "response":
                tree = lxml.html.fromstring(record.content_stream().read())
                links = [link for node in tree.iter() if (link := _link(node))]
                head = {"Title": tree.findtext(".//title") or ""}
                metadata["HTTP-Response-Metadata"] = {
                    "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
                    "Headers": dict(record.http_headers.headers),
                    "HTML-Metadata": {"Head": head, "Links": links},
                }
            envelope = {
                "Format": "WARC/1.0",
                "WARC-Header-Metadata": fields,
                "Payload-Metadata": metadata,
            }
            whole = {"Container": {"Filename": warc.name, "Compressed": True}, "Envelope": envelope}
            block = json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
            lines = [
                "WARC/1.0",
                "WARC-Type: metadata",
                f"WARC-Target-URI: {fields.get('WARC-Target-URI', warc.name)}",
                "WARC-Date: 2026-01-01T00:00:00Z",
                "WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>",
                "Content-Type: application/json",
                f"Content-Length: {len(block)}",
            ]
            head_bytes = "\r\n".join([*lines, "", ""]).encode()
            sink.write(gzip.compress(head_bytes + block + b"\r\n\r\n", 6))


def _link(node: lxml.html.HtmlElement) -> dict[str, str] | None:
    kinds = {"a": "href", "img": "src", "script": "src", "link": "href", "form": "action"}
    name = kinds.get(node.tag) if isinstance(node.tag, str) else None
    if not name or node.get(name) is None:
        return None
    link = {"path": f"{node.tag.upper()}@/{name}", "url": _as_written(node.get(name))}
    if node.tag == "a":
        link["text"] = (node.text or "")[:100]
    if node.tag == "img" and node.get("alt") is not None:
        link["alt"] = _as_written(node.get("alt"))
    return link


def _as_written(value: str) -> str:
    """As it stands in a page."""
    return value.replace("&", "&amp;")


def ours(path: Path) -> list[Found]:
    items = pairs_of(PageFiles("warc", ((str(path), ""),)), PageTally())
    return [item for item in items if isinstance(item, Found)]


def by_warcio_and_lxml(path: Path) -> list[Found]:
    """The plain way to write it."""
    pairs = []
    with path.open("rb") as source:
        for record in ArchiveIterator(source):
            if record.rec_type != "response":
                continue
            page = record.rec_headers.get_header("WARC-Target-URI")
            parser = lxml.html.HTMLParser(encoding="utf-8")
            tree = lxml.html.fromstring(record.content_stream().read(), parser=parser)
            base = tree.find(".//base[@href]")
            base_url = page if base is None else urljoin(page, base.get("href"))
            for image in tree.iter("img"):
                url, text = (image.get("src") or "").strip(), image.get("alt") or ""
                if url and text.strip() and not url.startswith("data:"):
                    pairs.append(Found(urljoin(base_url, url), text, page))
    return pairs


def timed(function: Callable[[], list[Found]]) -> tuple[float, Pairs]:
    start = time.process_time()
    pairs = function()
    return time.process_time() - start, Counter(pairs)


def in_process(side: str, python: str, path: Path) -> tuple[float, Pairs]:
    setup, call, rows = SETUPS[side]
    root = str(Path(__file__).parents[1])
    code = PARSE.format(root=root, setup=setup, call=call, rows=rows)
    done = subprocess.run([python, "-c", code, str(path)], check=True, capture_output=True)
    spent, pair_rows = json.loads(done.stdout)
    return spent, Counter(Found(*row) for row in pair_rows)


def compare(name: str, sides: dict[str, Callable[[], tuple[float, Pairs]]], repeats: int) -> dict:
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for at in range(repeats + 1):  # the first fills caches, and is not counted
        pairs = {}
        for side, run in sides.items():
            spent, pairs[side] = run()
            if at:
                seconds[side].append(spent)
        mine, theirs = pairs.values()
        if _plain(mine) != _plain(theirs):
            raise RuntimeError(f"{name}: {len(mine - theirs)} pairs of ours, {len(theirs - mine)}")
    (_, mine_s), (other_side, theirs_s) = ((s, statistics.median(t)) for s, t in seconds.items())
    return {
        "input": name,
        "pairs": sum(mine.values()),
        "ours, CPU-s": mine_s,
        "other": other_side,
        "CPU-s": theirs_s,
        "ratio": theirs_s / mine_s,
    }


def _plain(pairs: Pairs) -> Counter[tuple[str, str, str]]:
    """With entities and spaces as they are kept, since cc2dataset leaves them as they stand."""
    import html

    plain: Counter[tuple[str, str, str]] = Counter()
    for image, count in pairs.items():
        shown = " ".join(html.unescape(html.unescape(image.text)).split())
        plain[(html.unescape(image.url), shown, image.page)] += count
    return plain


def peak_mib(kind: str, archive: Path, times: int) -> float:
    """CPU time of a process that parses an archive repeatedly to rows for Parquet."""
    whole = archive.with_name(f"{times}-{archive.name}")
    with whole.open("wb") as sink:
        for _ in range(times):
            sink.write(archive.read_bytes())
    code = MEMORY.format(root=str(Path(__file__).parents[1]), kind=kind)
    command = [sys.executable, "-c", code, str(whole)]
    done = subprocess.run(command, check=True, capture_output=True)
    whole.unlink()
    return int(done.stdout) / 1024


def print_memory(warc: Path, wat: Path) -> None:
    """Prints the peaks of archives of up to about a GiB, and of small ones."""
    rows = []
    for kind, archive in (("warc", warc), ("wat", wat)):
        with gzip.open(archive) as source:
            size = sum(map(len, iter(lambda: source.read(1 << 20), b"")))
        for times in (1, (1 << 30) // size):
            row = {"archive": kind, "MiB inflated": times * size / 2**20}
            rows.append(row | {"peak MiB": peak_mib(kind, archive, times)})
    print_results(rows, {"benchmark": "pages --memory", "rows": rows}, ["lxml"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/doc/python-skimage-doc"))
    parser.add_argument("--times", type=int, default=5, help="how often each page is taken")
    parser.add_argument("--cc2dataset", default="", help="python of an environment that has it")
    parser.add_argument("--wat", type=Path, help="one to take instead of that written here")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="of ours, and no times")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warc, wat = Path(folder) / "pages.warc.gz", Path(folder) / "pages.wat.gz"
        pages, size = write_warc(warc, args.folder, args.times)
        if args.memory:
            write_wat(wat, warc)
            print_memory(warc, wat)
            return
        sides = {
            "ours": lambda: timed(lambda: ours(warc)),
            "warcio + lxml": lambda: timed(lambda: by_warcio_and_lxml(warc)),
        }
        rows = [compare("WARC", sides, args.repeats)]
        if args.cc2dataset:
            if not args.wat:
                write_wat(wat, warc)
            crawl = args.wat or wat
            sides = {
                "ours": lambda: in_process("ours", sys.executable, crawl),
                "cc2dataset": lambda: in_process("cc2dataset", args.cc2dataset, crawl),
            }
            rows.append(compare("WAT", sides, args.repeats))
    figures = {"benchmark": "pages", "pages": pages, "mib": size / 2**20, "rows": rows}
    print_results(rows, figures, ["lxml", "warcio"])


if __name__ == "__main__":
    main()
