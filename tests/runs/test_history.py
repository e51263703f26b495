"""A dataset made of the rows of another, kept and dropped, is what a run over that one's own input
makes by the same rules; and its history comes along."""

import json
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import takedown as take_down
from tests.support.agreement import rows
from tests.support.command import funnel, kept, manifest, rejected, run, samples, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.page_archives import packed, page_record
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

COUNT = 40
SHORT = [f"dog {word}" for word in ("house", "garden", "street", "water", "bridge")]
LONG = "a long walk through the garden to the river and over the old bridge near the house"
STRICT = ("--min_words=3", "--max_words=10")
PAGE = "https://page.example/{}"


class First(NamedTuple):
    """A finished dataset, and the web that it was made of."""

    web: SmallWeb
    source: Path
    output: Path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("first")
    with small_web() as web:
        captions = [*TEXTS[: COUNT - 6], *SHORT, LONG]
        web.files |= {f"/y/{n}": encoded(photograph(1500 + n), "JPEG") for n in range(COUNT)}
        table = {
            "url": [f"{web.url}/y/{n}" for n in range(COUNT)],
            "caption": captions,
            "page_url": [PAGE.format(n) for n in range(COUNT)],
        }
        pq.write_table(pa.table(table), folder / "pairs.parquet")
        succeed(folder / "pairs.parquet", folder / "set", *FLAGS, *STRICT)
        yield First(web, folder / "pairs.parquet", folder / "set")


def pages_of(output: Path, folders: tuple[str, ...]) -> dict[str, str]:
    return {row["url"]: row["page_url"] for row in rows(output, *folders)}


def test_a_loosened_rule_is_one_command_and_fetches_only_what_is_missing(
    first: First, tmp_path: Path
):
    out, before = tmp_path / "loose", len(first.web.requests)
    ended = succeed(first.output, out, *FLAGS, "--min_words=2", "--max_words=10")
    assert sorted(first.web.requests[before:]) == sorted(
        f"/y/{n}" for n in range(COUNT - 6, COUNT - 1)
    )
    assert {fate.caption for fate in kept(out)} == {*TEXTS[: COUNT - 6], *SHORT}
    assert [fate.caption for fate in rejected(out)] == [LONG]
    pages = {f"{first.web.url}/y/{n}": PAGE.format(n) for n in range(COUNT)}
    assert pages_of(out, ("shards", "rejected")) == pages
    said = [json.loads(files["json"]) for files in samples(out).values()]
    assert {row["url"]: row["page_url"] for row in said} == pages_of(out, ("shards",))
    [stage] = funnel(out)["history"]
    assert stage["folder"] == "history/00"
    assert stage["pairs"] == COUNT - 6
    assert stage["steps"] == funnel(first.output)["steps"]
    assert "history/00: a source dataset with 34 pairs" in ended.out
    card = (out / "README.md").read_text()
    assert "### Before that: `history/00`" in card
    assert "- `min_words` `3`\n" in card
    assert "`max_words`" not in card.split("Rules that differed:")[1].split("##")[0]
    assert "too_few_words" in card
    for name in ("manifest.json", "funnel.json"):
        carried, original = out / "history/00" / name, first.output / name
        assert carried.read_bytes() == original.read_bytes()
    assert len([*(out / "history").rglob("*.*")]) == 2


def test_a_dataset_of_texts_is_its_rows_too(first: First, tmp_path: Path):
    """Through three stages of history, and without a request for what the first one knows."""
    texts, out, before = tmp_path / "a", tmp_path / "b", len(first.web.requests)
    succeed(first.output, texts, "--text_only", "--language=", "--max_words=10")
    assert {fate.caption for fate in kept(texts)} == {*TEXTS[: COUNT - 6]}
    known = f"--images_from={first.output}"
    succeed(texts, out, *FLAGS, "--min_words=2", "--max_words=10", known)
    assert {fate.caption for fate in kept(out)} == {*TEXTS[: COUNT - 6], *SHORT}
    assert sorted(first.web.requests[before:]) == sorted(
        f"/y/{n}" for n in range(COUNT - 6, COUNT - 1)
    )
    [stage] = funnel(out)["history"]
    [earlier] = stage["history"]
    assert earlier["folder"] == "history/00/history/00"
    assert earlier["steps"] == funnel(first.output)["steps"]
    assert (out / "history/00/history/00/manifest.json").exists()
    card = (out / "README.md").read_text()
    assert card.index("`history/00/history/00`") < card.index("`history/00`\n")


HEADS = {
    "https://a.example/": '<link rel="license" href="https://l.example/by">',
    "https://a.example/noai": '<meta name="robots" content="noai">',
    "https://b.example/": "",
}
SPELLINGS = (b"http://{}.example/{}.jpg", b"HTTP://{}.Example:80/{}.jpg#top")
ODD_ROWS = (
    *(
        (None, b"no address"),
        (b"ftp://a.example/1.jpg", b"a dog"),
        (b"http://a.example/1.jpg", b""),
    ),
    *((b"http://a.example/1.jpg", b"caf\xe9"), (b"http://a.example/\xff.jpg", b"a dog at home")),
)


def write_crawl(path: Path, seed: int) -> str:
    """A table with odd rows, pairs that are there several times, and a carried column; and pages
    that state a licence, or how they may be used. Returns both as input."""
    rng = random.Random(seed)
    words = [w.encode() for w in ("R&amp;D", "&amp;amp;", "cafe\u0301", "&lt;b&gt;", "na&iuml;ve")]
    words += [b"dog", b"cat", b"house", b"bridge", b"garden", b"river", b"red", b"\xe2\x80\xa6"]
    pairs = [*ODD_ROWS]
    for _ in range(400):
        url = rng.choice(SPELLINGS).decode().format(rng.choice("ab"), rng.randrange(40)).encode()
        pairs.append((url, b" ".join(rng.choices(words, k=rng.randrange(1, 4)))))
    urls, captions = (pa.array(column, pa.binary()) for column in zip(*pairs, strict=True))
    pages = pa.array(rng.choices([None, "", *HEADS], k=len(pairs)))
    scores = pa.array(rng.choices([None, 0.25, 0.5], k=len(pairs)))
    table = {"url": urls, "caption": captions, "page_url": pages, "score": scores}
    pq.write_table(pa.table(table), path / f"{seed}.parquet")
    records = [page_record("https://c.example/", "<p>", "Content-Encoding: gzip")]  # broken
    for page, head in HEADS.items():
        images = (f'<img src="http://a.example/{rng.randrange(9)}.jpg" alt="' for _ in range(9))
        body = "".join(f'{start}a {rng.choice(["dog", "R&amp;D"])}">' for start in images)
        records.append(page_record(page, f"<head>{head}</head><body>{body}</body>"))
    (path / f"{seed}.warc").write_bytes(packed(records, ""))
    return f"{path}/{seed}.parquet,{path}/{seed}.warc"


def told(out: Path, folder: str) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows(out, folder))


@pytest.mark.parametrize("opt_outs", ["reject", "report"])
def test_rows_are_what_was_read(tmp_path: Path, opt_outs: str):
    """A third crawl beside the rows of a dataset whose own input was the rows of another: all is
    counted and judged as in one run over the three crawls."""
    crawls = [write_crawl(tmp_path, seed) for seed in range(3)]
    flags = ("--text_only", "--language=", "--min_words=2", "--columns=score")
    flags += ("--max_images_per_text=3", "--max_texts_per_image=12", "--vocabulary_size=60")
    flags += (f"--opt_outs={opt_outs}",)
    whole, source = tmp_path / "whole", ""
    succeed(",".join(crawls), whole, *flags)
    for seed, crawl in enumerate(crawls):
        source = f"{tmp_path}/{seed}"
        before = f",{tmp_path}/{seed - 1}" if seed else ""
        succeed(f"{crawl}{before}", Path(source), *flags)
    grown = Path(source)
    assert len(rows(whole, "pairs")) > 30
    why = {row["reason"] for row in rows(whole, "rejected")}
    assert {"rare_token", "text_on_too_many_images", "image_with_too_many_texts"} <= why
    assert told(grown, "pairs") == told(whole, "pairs")
    assert told(grown, "rejected") == told(whole, "rejected")
    assert funnel(grown)["steps"] == funnel(whole)["steps"]
    vocabulary = [(out / "vocabulary.u64").read_bytes() for out in (grown, whole)]
    assert vocabulary[0] == vocabulary[1]
    has_licence = [row["page_license"] for row in rows(grown, "rejected")]
    assert "https://l.example/by" in has_licence
    assert "meta_robots" in {row["opted_out"] for row in rows(grown, "rejected")}
    assert ("opted_out" in {row["reason"] for row in rows(grown, "rejected")}) == (
        opt_outs == "reject"
    )


@pytest.mark.parametrize("folder", ["shards/*.tar", "rejected"])
def test_parts_of_a_set_bring_its_history_too(first: First, tmp_path: Path, folder: str):
    source = first.output
    succeed(f"{source}/{folder}", tmp_path / "set", "--text_only", "--min_words=1", "--language=")
    [stage] = funnel(tmp_path / "set")["history"]
    assert stage["pairs"] == funnel(source)["pairs"]
    assert None not in pages_of(tmp_path / "set", ("pairs",)).values()


@pytest.mark.parametrize("folder", ["", "/shards"])
def test_what_pages_say_stays_known(first: First, tmp_path: Path, folder: str):
    def by_key(folder: Path, name: str) -> dict[str, dict]:
        return {row["key"]: row for row in rows(folder, name)}

    old, out = tmp_path / "old", tmp_path / "out"
    shutil.copytree(first.output, old)
    for path in old.glob("shards/*.parquet"):  # as of pages that state a licence
        table = pq.read_table(path)
        at = table.column_names.index("page_license")
        values = [f"page_license of {key}" for key in table["key"].to_pylist()]
        pq.write_table(table.set_column(at, "page_license", pa.array(values)), path)
    flags = (*FLAGS, *STRICT, "--samples_per_shard=9", "--columns=input_page_license")
    succeed(f"{old}{folder}", out, *flags)
    before, after = by_key(old, "shards"), by_key(out, "shards")
    assert before.keys() == after.keys()
    for key, row in after.items():
        assert row["page_license"] == row["input_page_license"] == f"page_license of {key}"
    ended = run(old, tmp_path / "none", *FLAGS, *STRICT, "--columns=page_license")
    assert "pass --columns=input_page_license" in ended.err


def test_two_sets_and_a_table_beside(first: First, tmp_path: Path):
    other = tmp_path / "other"
    succeed(first.source, other, "--text_only", "--min_words=1", "--language=")
    sources = f"{first.output},{other},{first.source}"
    succeed(sources, tmp_path / "set", "--text_only", "--language=")
    stages = funnel(tmp_path / "set")["history"]
    assert sorted(stage["pairs"] for stage in stages) == sorted(
        funnel(folder)["pairs"] for folder in (first.output, other)
    )
    assert [stage["folder"] for stage in stages] == ["history/00", "history/01"]
    assert "history" not in funnel(first.output)


def test_an_earlier_set_gives_no_commands_and_only_its_own_files(
    first: First, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    hostile, secret = tmp_path / "hostile", tmp_path / "secret.parquet"
    shutil.copytree(first.output, hostile)
    said, rules = funnel(hostile), manifest(hostile)
    said["steps"][0] |= {"step": "\x1b[31m<script>", "dropped": {"\n# heading": 1}}
    said["history"] = [{"folder": "../../..", "pairs": 1, "steps": said["steps"], "history": []}]
    rules["rules"] = {"<b>`x`": "\n# heading", **rules["rules"]}
    rules["input"][0]["format"] = "<i>\n"
    (hostile / "funnel.json").write_text(json.dumps(said))
    (hostile / "manifest.json").write_text(json.dumps(rules))
    secret.write_text("a key of this machine")
    (hostile / "history/00/rejected").mkdir(parents=True)
    for name in ("rejected/zz.parquet", "rejected/zz.txt", "history/00/manifest.json"):
        (hostile / name).symlink_to(secret)
    (hostile / "history/00/rejected/folder").symlink_to(tmp_path)
    (hostile / "rejected/id_ed25519").write_text("any file")
    shutil.copy(first.output / "funnel.json", hostile / "history/00/funnel.json")
    shutil.copy(first.output / "rejected/text-00000.parquet", hostile / "history/00/rejected")
    ended = succeed(hostile, tmp_path / "set", "--text_only", "--language=")
    card = (tmp_path / "set/README.md").read_text()
    for text in ("\x1b", "<script>", "\n# heading"):
        assert text not in card
    assert "\x1b" not in ended.out
    [stage] = funnel(tmp_path / "set")["history"]
    assert [earlier["folder"] for earlier in stage["history"]] == ["history/00/history/00"]
    carried = tmp_path / "set/history/00"
    assert {str(path.relative_to(carried)) for path in carried.rglob("*") if path.is_file()} == {
        *("manifest.json", "funnel.json", "history/00/funnel.json"),
    }
    assert "rejected' has 2 symbolic links, left out" in caplog.text


def test_a_set_of_another_version_is_carried_and_not_told_of(first: First, tmp_path: Path):
    old = tmp_path / "old"
    shutil.copytree(first.output, old)
    (old / "funnel.json").write_text("{}")
    ended = succeed(old, tmp_path / "set", "--text_only", "--language=")
    assert "history/00: a source dataset, from another version of alignset" in ended.out
    assert "A dataset, a source of this one." in (tmp_path / "set/README.md").read_text()
    assert (tmp_path / "set/history/00/funnel.json").read_text() == "{}"


def test_a_dataset_that_kept_nothing_has_its_rows(first: First, tmp_path: Path):
    empty, source = tmp_path / "empty", tmp_path / "one.parquet"
    pairs = pq.read_table(first.source).slice(0, 5)
    pq.write_table(pairs, source)
    assert run(source, empty, *FLAGS, "--min_words=20").status == 1
    succeed(empty, tmp_path / "again", *FLAGS)
    assert {fate.caption for fate in kept(tmp_path / "again")} == {*TEXTS[:5]}
    for path in (empty / "rejected").iterdir():
        path.unlink()
    ended = run(empty, tmp_path / "out", *FLAGS)
    assert ended.status == 2
    assert f"the dataset {empty} holds no pair: pass its own input" in ended.err


def test_a_stored_image_wins_over_a_fetch_for_all_texts_of_its_url(first: First, tmp_path: Path):
    """The web is not asked for what the dataset holds, whichever row stands for a pair."""
    stored = rows(first.output, "shards")
    urls, captions = ([row[name] for row in stored] for name in ("url", "caption"))
    crawl = tmp_path / "crawl.parquet"
    pages = [f"https://again.example/{n}" for n in range(len(urls))]
    new = [f"{' '.join(reversed(caption.split()))} again" for caption in captions]
    table = {"url": urls * 2, "caption": captions + new, "page_url": pages * 2}
    pq.write_table(pa.table(table), crawl)
    before = len(first.web.requests)
    succeed(f"{first.output},{crawl}", tmp_path / "both", *FLAGS, *STRICT)
    assert first.web.requests[before:] == []
    both = {row.caption: row.url for row in kept(tmp_path / "both")}
    assert both == {**dict(zip(new, urls, strict=True)), **dict(zip(captions, urls, strict=True))}
    gone = f"{first.web.url}/gone"
    pq.write_table(pa.table({"url": [gone], "caption": ["a brown dog at home"]}), crawl)
    tars = f"{first.output}/shards,{crawl}"
    ended = succeed(tars, tmp_path / "more", *FLAGS, *STRICT)
    assert f"{len(urls)} pairs with an image in the input, 1 pair to fetch" in ended.err


def test_a_dataset_as_input_keeps_its_texts(tmp_path: Path):
    texts = ["R&amp;amp;D dogs", "R&amp;D dogs", "&lt;b&gt; dogs &amp;", "&amp;amp;amp; dogs"]
    lines = [f"http://a.example/{n}.jpg\t{text}" for n, text in enumerate(texts)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["url\tcaption", *lines]) + "\n")
    flags = ("--text_only", "--language=", "--min_words=1")
    succeed(tmp_path / "pairs.tsv", tmp_path / "one", *flags)
    succeed(tmp_path / "one", tmp_path / "two", *flags)
    one, two = (pq.read_table(tmp_path / name / "pairs").to_pylist() for name in ("one", "two"))
    assert {row["caption"] for row in one} == {
        "R&amp;D dogs",
        "R&D dogs",
        "<b> dogs &",
        "&amp;amp; dogs",
    }
    assert two == one


def test_a_takedown_reaches_the_history_of_an_earlier_version(first: First, tmp_path: Path):
    """Until 0.2 the rejects of earlier datasets came along."""
    run(first.source, tmp_path / "a", *FLAGS, "--max_image_aspect=1.01")  # keeps nothing
    out = tmp_path / "b"
    succeed(tmp_path / "a", out, *FLAGS, "--max_image_aspect=3")
    path = out / "history/00/rejected/images-00000.parquet"
    path.parent.mkdir()
    shutil.copy(tmp_path / "a/rejected/images-00000.parquet", path)
    url = next(row["url"] for row in pq.read_table(path).to_pylist() if row["thumbnail"])
    (tmp_path / "list.txt").write_text(f"url:{url}")
    assert take_down([f"{out}", f"--blocklist={tmp_path / 'list.txt'}"]) == 0
    (row,) = [row for row in pq.read_table(path).to_pylist() if row["url"] == url]
    assert (row["reason"], row["thumbnail"]) == ("taken_down", None)
    assert "taken_down" not in pq.read_table(tmp_path / "a/rejected")["reason"].to_pylist()
