"""One image once, in a run and in a finished dataset, and of photographs that look alike the best;
and a held-out split without copies."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import deduplicate as main
from alignset.pipeline.commands import look
from alignset.transforms.columns.records import LOOK_SCHEMA
from tests.support.agreement import rows, stored
from tests.support.command import digests, funnel, manifest, run
from tests.support.described_sets import PLACEHOLDER, DescribedSets

# Datasets of the same pairs: all images, equal images once, and near-duplicates once.
KEEP, EXACT, NEAR = "all", "exact", "near"


def test_a_content_stays_at_the_url_of_its_smallest_key_with_the_texts_of_that(
    described: DescribedSets,
) -> None:
    keep, exact = described.find(KEEP), described.find(EXACT)
    after = {row["key"]: (row["url"], row["caption"]) for row in rows(exact, "shards", "holdout")}
    training = {row["sha256"] for row in rows(keep, "shards")}
    # Altered copies of what is trained on; transforms/duplicates has which those are.
    dropped = rows(exact, "rejected")
    near = {row["key"] for row in dropped if row["reason"] == "duplicate_of_training"}
    expected = {}
    for folder in ("shards", "holdout"):
        there = rows(keep, folder)
        first = {row["sha256"]: row["url"] for row in sorted(there, key=lambda r: r["key"])[::-1]}
        for row in there:
            is_copy = folder == "holdout" and (row["sha256"] in training or row["key"] in near)
            if row["url"] == first[row["sha256"]] and not is_copy:
                expected[row["key"]] = row["url"], row["caption"]
    assert after == expected
    urls = [url for url, _ in after.values()]
    assert len(urls) > len({*urls}), "an image with two texts"


def test_a_placeholder_falls_by_its_alt_texts_alone(described: DescribedSets) -> None:
    for name in (KEEP, EXACT):
        gone = [row for row in rows(described.find(name), "rejected") if "/none/" in row["url"]]
        assert [(row["reason"], row["step"], row["detail"]) for row in gone] == (
            [("image_with_too_many_texts", "texts_per_content", None)] * PLACEHOLDER
        )


def test_what_leaves_says_which_pair_is_kept_and_the_funnel_and_the_report_tell(
    described: DescribedSets,
) -> None:
    keep, exact = described.find(KEEP), described.find(EXACT)
    kept, whole = stored(exact), rows(keep, "shards", "holdout")
    copies = [row for row in rows(exact, "rejected") if row["step"] == "copies"]
    assert {row["reason"] for row in copies} >= {"duplicate_image"}
    sha256 = {row["key"]: row["sha256"] for row in whole}
    sizes = {row["key"]: (row["original_width"], row["original_height"]) for row in whole}
    for row in copies:
        assert row["detail"] in kept
        assert (row["width"], row["height"]) == sizes[row["key"]]
        if row["reason"] == "duplicate_image":
            assert sha256[row["key"]] == sha256[row["detail"]]
    stats = [json.loads(file.read_text()) for file in exact.glob("*/*_stats.json")]
    assert not any(row["detail"] in str(of["status_dict"]) for of in stats for row in copies)
    steps = {step["step"]: step["dropped"] for step in funnel(exact)["steps"]}
    assert steps["copies"]["duplicate_image"] > 0
    assert funnel(exact)["copies"] == {"images": 0, "contents": 0}
    assert funnel(keep)["copies"]["images"] > 5
    assert not any({s["step"]: s["dropped"] for s in funnel(keep)["steps"]}["copies"].values())
    assert " 2 URLs" in (keep / "report.html").read_text()


def shard_files(out: Path) -> list[tuple[str, str]]:
    named = ((Path(name), digest) for name, digest in digests(out).items())
    kinds = (".tar", ".parquet")
    return sorted(
        (str(path.parent), digest)
        for path, digest in named
        if path.suffix in kinds and path.parent.name in ("shards", "holdout")
    )


def test_deduplicate_makes_the_shards_of_a_run_with_exact(
    described: DescribedSets, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Each is there, under another number where one was emptied."""
    keep, out = described.find(KEEP), described.find("all deduplicated")
    assert shard_files(out) == shard_files(described.find(EXACT))
    (entry,) = manifest(out)["deduplications"]
    assert sum(entry["dropped"].values()) == manifest(keep)["pairs"] - manifest(out)["pairs"]
    assert "## Duplicates" in (out / "README.md").read_text()
    assert "because of an opt-out" not in (out / "README.md").read_text().partition("## Licence")[0]
    again, dry = (shutil.copytree(of, tmp_path / of.name) for of in (out, keep))
    assert main([str(again)]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert main([str(dry), "--dry_run"]) == 0
    assert "would leave: " in capsys.readouterr().out
    assert (digests(again), digests(dry)) == (digests(out), digests(keep))


def test_what_cannot_be_done_is_one_line(
    described: DescribedSets, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = Path(shutil.copytree(described.find(KEEP), tmp_path / "set"))
    tar = sorted(out.glob("shards/*.tar"))[1]
    tar.unlink()
    before = digests(out)
    for args, said in (
        ([str(out)], f"{tar} is missing"),
        ([str(tmp_path / "no")], "there is no folder"),
    ):
        assert main(args) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    assert digests(out) == before
    ended = run(tmp_path / "pairs.csv", tmp_path / "x", "--duplicates=alike")
    assert (ended.status, "must be one of keep, exact, near; got" in ended.err) == (2, True)


# Files of one photograph, and how good each is as one: 0 is the best.
PHOTOGRAPHS = (
    {"/2": 0, "/near/worse": 0, "/near/0": 1, "/near/framed": 2},
    {"/3": 0, "/near/1": 1},
    {"/4": 0, "/near/2": 1},
)


def path_of(row: dict) -> str:
    return f"/{row['url'].split('/', 3)[3]}"


def training(out: Path) -> dict[str, str]:
    """The path of each pair to train on, by key."""
    return {row["key"]: path_of(row) for row in rows(out, "shards")}


def left(out: Path) -> list[dict]:
    return [row for row in rows(out, "rejected") if row["reason"] == "duplicate_image"]


def test_of_each_photograph_the_best_is_left(described: DescribedSets) -> None:
    near, keep = described.find(NEAR), described.find(KEEP)
    after, before = {*training(near).values()}, {*training(keep).values()}
    for ranks in PHOTOGRAPHS:
        if there := before & ranks.keys():
            (best,) = after & ranks.keys()  # of equal ones, the one with the smaller key
            assert ranks[best] == min(ranks[path] for path in there)
    assert stored(near).items() <= stored(keep).items()
    for row in left(near):
        assert row["detail"] in stored(near)
        assert row["step"] == "copies"
    # Nothing leaves for an image that leaves itself, here for its many alt-texts.
    assert [path for path in after if path.startswith("/alike")]


def test_graphics_stay_and_are_counted_unless_their_alt_texts_are_equal(
    described: DescribedSets,
) -> None:
    near, keep = described.find(NEAR), described.find(KEEP)
    after, before = (
        [path for path in training(out).values() if path.startswith("/chart")]
        for out in (near, keep)
    )
    of_chart = Counter(path.split("/")[1] for path in before)
    assert len(before) - len(after) == max(0, of_chart["chart2"] - 1)
    told = funnel(near)["near_duplicates"]
    assert told["images"] == max(0, of_chart["chart1"] - 1)
    assert sum(told["distances"]) == len({row["sha256"] for row in rows(keep, "shards")})
    page = (near / "report.html").read_text()
    # One of the two charts may be held out, by the port of the web.
    assert (f"{told['images']} graphic" in page) == (told["images"] > 0)
    assert "Distance to the nearest other image" in page


def test_sidecars_say_how_images_look_only_where_that_is_asked_for(
    described: DescribedSets,
) -> None:
    by_key = {row["key"]: row for row in rows(described.find(KEEP), "shards", "holdout")}
    names = pq.read_schema(next(described.find(KEEP).glob("shards/*.parquet"))).names
    for file in described.find(NEAR).glob("[sh]*/0*.parquet"):
        more = [name for name in pq.read_schema(file).names if name not in names]
        assert more == LOOK_SCHEMA.names
        for row in pq.read_table(file).to_pylist():
            if path_of(row) in PHOTOGRAPHS[0]:
                assert row["has_border"] == row["url"].endswith("framed")
            assert np.any(row["descriptor"])
            assert len(row["trimmed_phash"]) == 16
            assert {name: row[name] for name in names} == by_key[row["key"]]


def test_deduplicate_near_keeps_what_a_run_keeps(
    described: DescribedSets, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    near, out, keep = map(described.find, (NEAR, "all near", KEEP))
    assert stored(out) == stored(near)
    why = [
        {row["key"]: (row["detail"], row["thumbnail"]) for row in left(of)} for of in (out, near)
    ]
    assert why[0] == why[1]
    (entry,) = manifest(out)["deduplications"]
    assert entry["near"] is True
    card = " ".join((out / "README.md").read_text().split())
    assert "photographs that look like a better one left. `rejected/`, in the folder" in card
    again, dry = (shutil.copytree(of, tmp_path / of.name) for of in (out, keep))
    assert main([str(again), "--near"]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert main([str(dry), "--near", "--dry_run"]) == 0
    said = capsys.readouterr()
    assert "would leave: " in said.out
    assert re.search(r"looking at all images for near-duplicates: about \d+ core-second", said.err)
    assert (digests(again), digests(dry)) == (digests(out), digests(keep))


def test_a_dropped_photograph_is_looked_at_beside_the_kept_one(
    described: DescribedSets, tmp_path: Path
) -> None:
    near, sheet = described.find(NEAR), tmp_path / "sheet.html"
    shown = [row for row in left(near) if row["thumbnail"]]
    assert shown
    assert look([str(near), "--reason=duplicate_image", f"--output={sheet}", "--n=60"]) == 0
    page = sheet.read_text()
    assert page.count(">dropped<") == len(shown)
    assert page.count("data:image/jpeg") == page.count(">dropped<") + page.count(">kept<")
