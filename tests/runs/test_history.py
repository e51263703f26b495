"""A set made of a dataset: its history comes along, and a loosened rule fetches what is missing."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_inputs import find_files
from alignset.pipeline.job import Job, undoable_reasons
from alignset.pipeline.takedown.__main__ import main as take_down
from alignset.transforms.rules.catalogue import PRODUCT
from tests.support.agreement import rows
from tests.support.command import funnel, kept, manifest, rejected, run, samples, succeed
from tests.support.golden import FLAGS, TEXTS
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
    flags = ("--min_words=2", "--max_words=10", "--also_rejected=too_few_words")
    ended = succeed(first.output, out, *FLAGS, *flags)
    assert sorted(first.web.requests[before:]) == sorted(
        f"/y/{n}" for n in range(COUNT - 6, COUNT - 1)
    )
    assert {fate.caption for fate in kept(out)} == {*TEXTS[: COUNT - 6], *SHORT}
    assert rejected(out) == []  # what was too long stays where it was
    assert len(pages_of(out, ("shards",))) == COUNT - 1
    assert all(
        page.startswith("https://page.example/") for page in pages_of(out, ("shards",)).values()
    )
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
    assert {path.name for path in (out / "history/00/rejected").iterdir()} == {
        path.name for path in (first.output / "rejected").iterdir()
    }


def test_all_that_was_dropped_and_all_that_was_kept_are_the_first_set_again(
    first: First, tmp_path: Path
):
    """Also where a dataset of texts alone comes between, and through three stages of history."""
    succeed(first.output, tmp_path / "a", "--also_rejected=all", "--text_only", "--language=")
    texts = tmp_path / "a"
    assert {fate.caption for fate in kept(texts)} == {*TEXTS[: COUNT - 6], *SHORT, LONG} - set(
        SHORT
    )
    succeed(texts, tmp_path / "b", *FLAGS, "--min_words=1", "--also_rejected=all")
    out = tmp_path / "b"
    assert {fate.caption for fate in kept(out)} == {*TEXTS[: COUNT - 6], *SHORT, LONG}
    pages = pages_of(out, ("shards", "rejected"))
    assert pages == {f"{first.web.url}/y/{n}": PAGE.format(n) for n in range(COUNT)}
    [stage] = funnel(out)["history"]
    [earlier] = stage["history"]
    assert earlier["folder"] == "history/00/history/00"
    assert earlier["steps"] == funnel(first.output)["steps"]
    assert (out / "history/00/history/00/manifest.json").exists()
    card = (out / "README.md").read_text()
    assert card.index("`history/00/history/00`") < card.index("`history/00`\n")


@pytest.mark.parametrize("folder", ["shards/*.tar", "rejected"])
def test_parts_of_a_set_bring_its_history_too(first: First, tmp_path: Path, folder: str):
    source = first.output
    succeed(f"{source}/{folder}", tmp_path / "set", "--text_only", "--min_words=1", "--language=")
    [stage] = funnel(tmp_path / "set")["history"]
    assert stage["pairs"] == funnel(source)["pairs"]
    assert None not in pages_of(tmp_path / "set", ("pairs",)).values()


def test_where_its_images_are_from_stays_known(first: First, tmp_path: Path):
    def by_key(folder: Path, name: str) -> dict[str, dict]:
        return {row["key"]: row for row in rows(folder, name)}

    old, out = tmp_path / "old", tmp_path / "out"
    shutil.copytree(first.output, old)
    for path in old.glob("shards/*.parquet"):  # as of pages that state a licence
        table = pq.read_table(path)
        for name in ("page_license", "usage_terms"):
            at = table.column_names.index(name)
            values = [f"{name} of {key}" for key in table["key"].to_pylist()]
            table = table.set_column(at, name, pa.array(values))
        pq.write_table(table, path)
    succeed(old, out, *FLAGS, *STRICT, "--samples_per_shard=9", "--columns=input_page_license")
    before, after = by_key(old, "shards"), by_key(out, "shards")
    assert before.keys() == after.keys()
    for key, row in after.items():
        names = ("page_license", "usage_terms")
        assert {name: row[name] for name in names} == {name: before[key][name] for name in names}
        assert row["input_page_license"] == f"page_license of {key}"
    assert by_key(out, "responses") == by_key(old, "responses")
    assert len(by_key(out, "responses")) == len(after)
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


def test_what_an_earlier_set_says_gives_no_commands(first: First, tmp_path: Path):
    hostile = tmp_path / "hostile"
    shutil.copytree(first.output, hostile)
    said, rules = funnel(hostile), manifest(hostile)
    said["steps"][0] |= {"step": "\x1b[31m<script>", "dropped": {"\n# heading": 1}}
    said["history"] = [{"folder": "../../..", "pairs": 1, "steps": said["steps"], "history": []}]
    rules["rules"] = {"<b>`x`": "\n# heading", **rules["rules"]}
    rules["input"][0]["format"] = "<i>\n"
    (hostile / "funnel.json").write_text(json.dumps(said))
    (hostile / "manifest.json").write_text(json.dumps(rules))
    ended = succeed(hostile, tmp_path / "set", "--text_only", "--language=")
    assert "\x1b" not in ended.out
    card = (tmp_path / "set/README.md").read_text()
    assert "\x1b" not in card
    assert "<script>" not in card
    assert "\n# heading" not in card
    [stage] = funnel(tmp_path / "set")["history"]
    assert [earlier["folder"] for earlier in stage["history"]] == ["history/00/history/00"]


def test_nothing_else_of_an_earlier_set_is_carried(
    first: First, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    hostile, secret = tmp_path / "hostile", tmp_path / "secret.parquet"
    shutil.copytree(first.output, hostile)
    secret.write_text("a key of this machine")
    (hostile / "history/00/rejected").mkdir(parents=True)
    for name in ("rejected/zz.parquet", "rejected/zz.txt", "history/00/manifest.json"):
        (hostile / name).symlink_to(secret)
    (hostile / "history/00/rejected/folder").symlink_to(tmp_path)
    (hostile / "rejected/id_ed25519").write_text("any file")
    shutil.copy(first.output / "funnel.json", hostile / "history/00/funnel.json")
    shutil.copy(first.output / "rejected/text-00000.parquet", hostile / "history/00/rejected")
    succeed(hostile, tmp_path / "set", "--text_only", "--language=")
    carried = tmp_path / "set/history/00"
    assert {str(path.relative_to(carried)) for path in carried.rglob("*") if path.is_file()} == {
        *("manifest.json", "funnel.json", "history/00/funnel.json"),
        "history/00/rejected/text-00000.parquet",
        *(f"rejected/{path.name}" for path in first.output.glob("rejected/*")),
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


def test_what_cannot_be_read_again(first: First):
    for reason in ("too_few_wrods", "duplicate_pair"):
        with pytest.raises(ValueError, match=f"got '{reason}'"):
            Job(input="a", output="b", also_rejected=reason).rejected_reasons()
    with pytest.raises(UsageError, match="pass the folder of one, with its"):
        find_files(Job(input=str(first.source), output="o", also_rejected="too_few_words"))


def test_a_set_of_nothing_says_what_to_do(first: First, tmp_path: Path):
    empty = tmp_path / "empty"
    ended = run(first.source, empty, *[flag for flag in FLAGS if "private" not in flag])
    assert ended.status == 1
    ended = run(empty, tmp_path / "out", *FLAGS)
    assert ended.status == 2
    assert (
        f"the dataset {empty} holds no pair; run its own command with --retry_failed" in ended.err
    )
    succeed(empty, tmp_path / "again", *FLAGS, "--also_rejected=fetch_failed")
    assert len(kept(tmp_path / "again")) == sum(
        len(text.split()) > 2 for text in [*TEXTS[: COUNT - 6], LONG]
    )


def test_the_reasons_that_another_run_may_undo():
    final = {"broken_input", "broken_page", "malformed_pair", "duplicate_pair"}
    final |= {"taken_down", "removed_before"}
    assert set(PRODUCT.reasons) - set(undoable_reasons()) == final
    assert "blocked" in undoable_reasons()


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
    ended = succeed(f"{first.output},{crawl}", tmp_path / "both", *FLAGS, *STRICT)
    assert first.web.requests[before:] == []
    both = {row.caption: row.url for row in kept(tmp_path / "both")}
    assert both == {**dict(zip(new, urls, strict=True)), **dict(zip(captions, urls, strict=True))}
    assert "with an image in the input" not in ended.err  # nothing is fetched
    gone = f"{first.web.url}/gone"
    pq.write_table(pa.table({"url": [gone], "caption": ["a brown dog at home"]}), crawl)
    ended = succeed(f"{first.output},{crawl}", tmp_path / "more", *FLAGS, *STRICT)
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


def test_a_takedown_takes_images_out_of_the_history(first: First, tmp_path: Path):
    run(first.source, tmp_path / "a", *FLAGS, "--max_image_aspect=1.01")  # keeps nothing
    again = ("--max_image_aspect=3", "--also_rejected=all")
    out = tmp_path / "b"
    succeed(tmp_path / "a", out, *FLAGS, *again)
    path = out / "history/00/rejected/images-00000.parquet"
    url = next(row["url"] for row in pq.read_table(path).to_pylist() if row["thumbnail"])
    (tmp_path / "list.txt").write_text(f"url:{url}")
    assert take_down([f"{out}", f"--blocklist={tmp_path / 'list.txt'}"]) == 0
    (row,) = [row for row in pq.read_table(path).to_pylist() if row["url"] == url]
    assert (row["reason"], row["thumbnail"]) == ("taken_down", None)
    assert "taken_down" not in pq.read_table(tmp_path / "a/rejected")["reason"].to_pylist()
