"""Three monthly crawls of a small web that changes meanwhile, and datasets of them by any command;
whether one that has grown is what a run over all its crawls makes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support import golden
from tests.support.command import digests, funnel
from tests.support.described_sets import main, photo
from tests.support.host_files import forget_host_files
from tests.support.onnx_files import write_model
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb
from tests.support.stores import free_port

POPULAR = "the white house in the green park"
# Which images of the host that stays each month's pages show, one text each.
SHOWN = (range(28), range(18, 48), range(40, 58))
LOST = (12, 32)  # images that are there in the last month alone
# What the other host's robots.txt says each month.
ROBOTS = tuple(f"User-agent: *\nDisallow: /{part}/\n".encode() for part in ("shut", "open", "open"))
ODD_TEXTS: tuple[bytes | None, ...] = (
    *(b"a R&amp;amp;D photo in the garden", "a cafe\u0301 in the garden".encode(), b"", None),
    *(b"a caf\xe9 in the garden", b"  a photo \t of the   garden ", b"the garden"),
    *(b"Ein rotes Auto steht vor dem alten Haus", "海辺を走る二匹の白い犬".encode()),
    *("zwei weiße Hunde laufen am Strand entlang".encode(), "庭にある古い木のテーブル".encode()),
)
BASE = (
    *("--allow_private_addresses", "--retries=0", "--timeout_s=120", "--idle_timeout_s=120"),
    *("--min_image_side=100", "--max_images_per_text=3", "--max_texts_per_image=3"),
    *("--vocabulary_size=60", "--samples_per_shard=8", "--max_unsafe_score=1"),
)
OF_SHARDS = ("shards/", "holdout/", "vocabulary.u64")
# Why a rule over the whole dataset drops a pair: its image may come back, and its bytes are gone.
OF_DATASET = (
    *("duplicate_image", "duplicate_of_training", "image_with_too_many_texts", "less_similar"),
)

Asked = Counter[str]


class Crawls:
    """Two hosts, `web` and `moody`, and tables of three months in folder `at`."""

    def __init__(self, web: SmallWeb, moody: SmallWeb, at: Path) -> None:
        self.web, self.moody, self.at = web, moody, at
        self.closed = free_port()
        self._put_images()
        for month in range(3):
            pq.write_table(self._table(month), at / f"{month + 1}.parquet")
        (at / "exam").mkdir()
        (at / "exam" / "1.png").write_bytes(golden.evaluation_image())
        self.model = write_model(at)
        self._made: dict[tuple[str, ...], tuple[Path, Asked]] = {}

    def _put_images(self) -> None:
        files = {f"/i/{n}": photo(n) for n in range(58)}
        files |= {f"/i/{5}": photo(4), "/i/30": photo(6)}  # the same bytes elsewhere
        files["/i/31"] = encoded(photograph(703), "JPEG", quality=40)  # near photo(2)
        files |= {f"/i/{n}": golden.evaluation_copy() for n in (14, 34)}
        files |= {"/i/8": b"<html>", "/i/9": photo(9)[:900]}
        for n, size in ((10, (90, 90)), (33, (95, 95)), (11, (400, 100)), (35, (240, 110))):
            files[f"/i/{n}"] = encoded(photograph(n, *size), "JPEG")
        self.images = self.web.files = files
        self.web.headers["/i/13"] = {"X-Robots-Tag": "noai"}
        self.web.moved["/i/15"] = "/i/16"
        for n in range(12):
            self.moody.files[f"/{('shut', 'open')[n % 2]}/{n}"] = photo(60 + n)

    def _table(self, month: int) -> pa.Table:
        """The rows of a month: (URL, text, page, similarity)."""
        url, other = self.web.url, self.moody.url
        texts = golden.TEXTS
        rows: list[tuple[str | bytes | None, str | bytes | None, str | None]] = [
            (f"{url}/i/{n}", texts[n * (1 + month * (n % 2)) % 150], f"https://p.example/{n % 7}")
            for n in SHOWN[month]
        ]
        rows += [
            (f"{other}/{('shut', 'open')[n % 2]}/{n}", texts[60 + n], None)
            for n in range(4 * month, 4 * month + 8)
            if n < 12
        ]
        # Each month an image has more texts and a text more images, at last too many.
        rows += [(f"{url}/i/0", text, None) for text in texts[80 + 2 * month : 82 + 2 * month]]
        rows += [(f"{url}/i/{n}", POPULAR, "https://p.example/") for n in (15 + month, 17 + month)]
        rows.append((f"{url}/i/{19 + month}", "a photo of a zyxwvut in the garden", None))
        rows += [(f"{url}/i/{20 + n % 9}", text, None) for n, text in enumerate(ODD_TEXTS)]
        rows += [
            *((place, texts[3], None) for place in (None, "", "ftp://example.org/a.jpg", "a.jpg")),
            (f"{url}/i/\xff".encode("latin-1"), texts[4], None),
            (f"http://127.0.0.1:{self.closed}/refused", texts[5 + month], None),
            # One pair under several spellings and pages, and rows that differ in what they carry.
            (f"{url.replace('http', 'HTTP')}/i/24#top", texts[24], f"https://p.example/b{month}"),
            *((f"{url}/i/22", texts[22], page) for page in (None, "https://p.example/c", None)),
        ]
        urls = [place.encode() if isinstance(place, str) else place for place, *_ in rows]
        captions = [text.encode() if isinstance(text, str) else text for _, text, _ in rows]
        table = {
            "url": pa.array(urls, pa.binary()),
            "caption": pa.array(captions, pa.binary()),
            "page_url": pa.array([page for *_, page in rows], pa.string()),
            "similarity": [(n * 37 + month * 11) % 100 / 100 for n in range(len(rows))],
        }
        return pa.table(table)

    def set_month(self, month: int) -> None:
        """The web as it is in a month; and no run remembers what hosts said before."""
        gone = LOST if month < 3 else ()
        self.web.files = {
            p: b for p, b in self.images.items() if p not in {f"/i/{n}" for n in gone}
        }
        self.moody.files["/robots.txt"] = ROBOTS[month - 1]
        forget_host_files()

    def words(self, words: tuple[str, ...], **paths: Path) -> list[str]:
        """Words of a command: {1}, {2} and {3} are the months' tables."""
        months = [str(self.at / f"{month}.parquet") for month in (1, 2, 3)]
        return [w.format("", *months, at=self.at, model=self.model, **paths) for w in words]

    def run(self, month: int, *words: str, status: int = 0, **paths: Path) -> Asked:
        """Gives a command in a month; returns which images it asked for."""
        self.set_month(month)
        hosts = (self.web, self.moody)
        begun = [len(host.requests) for host in hosts]
        policies = [len(host.policies_asked) for host in hosts]
        assert main(*self.words(words, **paths)) == status, words
        for host, count in zip(hosts, policies, strict=True):
            most = max(Counter(host.policies_asked[count:]).values(), default=0)
            assert most <= 1 + ("--direct_num_workers=2" in words)
        return Counter(p for h, n in zip(hosts, begun, strict=True) for p in h.requests[n:])

    def make(self, month: int, *flags: str) -> tuple[Path, Asked]:
        """A dataset by `curate` with these flags, made once, and which images it asked for. Do not
        write into its folder."""
        key = (str(month), *flags)
        if key not in self._made:
            out = self.at / f"made{len(self._made)}"
            asked = self.run(month, "curate", "--output={new}", *flags, new=out)
            self._made[key] = out, asked
        return self._made[key]


def check_asked(asked: Asked, wanted: Asked, known: Asked, again: set[str]) -> None:
    """Fails unless all that is new is asked for, once; and what else may be, where its bytes are
    gone."""
    assert not +(asked - wanted), "not asked for by a run from scratch"
    new = wanted.keys() - known.keys()
    assert new <= asked.keys()
    if "/i/15" in asked:  # which leads there
        again = again | {"/i/16"}
    assert asked.keys() - new <= again, sorted(asked.keys() - new - again)


def check_equal(grown: Path, scratch: Path, *, shards_alone: bool = False) -> None:
    """Fails where a dataset is not what a run from scratch makes: bytes of tars, sidecars, stats
    and vocabulary; the funnel; rows of `rejected/` but for thumbnails of images whose bytes are
    gone, and of `images/` but for the days of their fetch."""
    made, expected = _of_shards(grown), _of_shards(scratch)
    assert {name for name, _ in made.items() ^ expected.items()} == set()
    if shards_alone:
        return
    assert _funnel(grown) == _funnel(scratch)
    for folder, names, without in (
        ("pairs", "*", ()),
        ("rejected", "text-*", ()),
        ("rejected", "[ih]*", ("thumbnail",)),
        ("images", "*", ("date",)),
    ):
        both = (_rows(of / folder, names, without) for of in (grown, scratch))
        here, there = map(Counter, both)
        assert (here - there, there - here) == (Counter(), Counter()), f"{folder}/{names}"


def _of_shards(out: Path) -> dict[str, str]:
    return {name: d for name, d in digests(out).items() if name.startswith(OF_SHARDS)}


def _funnel(out: Path) -> dict[str, Any]:
    return {name: of for name, of in funnel(out).items() if name != "history"}


def _rows(folder: Path, names: str, without: tuple[str, ...]) -> list[str]:
    """Rows of some files, each with the shard that it is of, in any order."""
    found = []
    for path in folder.glob(f"{names}.parquet"):
        is_of_shard = names != "text-*" and folder.name != "pairs"
        of = path.stem if is_of_shard else ""
        table = pq.read_table(path)
        table = table.drop_columns([name for name in without if name in table.column_names])
        found += [of + json.dumps(row, default=repr, sort_keys=True) for row in table.to_pylist()]
    return found


def paths_dropped(out: Path, *reasons: str) -> set[str]:
    """The paths of the images that lost a pair for one of these reasons."""
    tables = [pq.read_table(path, columns=["url", "reason"]) for path in out.glob("rejected/*")]
    rows = [row for table in tables for row in table.to_pylist() if row["reason"] in reasons]
    return {"/" + row["url"].split("/", 3)[3] for row in rows}
