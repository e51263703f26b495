"""Datasets ended by every command that ends or changes one: `describe` writes the same bytes of a
copy, all that tells of them counts what is there, and each command did what it is for."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alignset
from alignset.pipeline.settings import Job
from alignset.transforms.shards.plan_shards import held_out
from tests.support.agreement import check_dataset, dropped_of, rows
from tests.support.command import funnel, rejected, run, succeed
from tests.support.described_sets import HELD_OUT, SETS, TAKEN, DescribedSets

# A plain run without holding out, and sets that do not tell of images.
NOTHING_HELD_OUT = ("defaults", "scores", "texts", "texts taken", "texts forgotten")


@pytest.mark.parametrize("name", SETS)
def test_all_that_tells_of_a_dataset_agrees(described: DescribedSets, name: str) -> None:
    out = described.find(name)
    assert dropped_of(funnel(out)).keys() >= {*SETS[name].drops}
    check_dataset(out, whole=not name.startswith("downloaded"))
    for folder in ("shards", "holdout") if name not in NOTHING_HELD_OUT else ():
        urls = pa.array([row["url"] for row in rows(out, folder)], pa.string())
        assert {*held_out(urls, HELD_OUT)} <= {folder == "holdout"}, folder


def carried(out: Path) -> list[str]:
    """What each row has in the columns of the input; a forgotten row has nothing there."""
    names = ("uid", "similarity", "boxes")
    found = rows(out, "shards", "holdout", "rejected")
    return sorted(str([row.get(name) for name in names]) for row in found)


@pytest.mark.parametrize("name", ["all again", "all taken", "all near"])
def test_what_changes_a_dataset_keeps_the_columns_of_the_input(
    described: DescribedSets, name: str
) -> None:
    before = carried(described.find("all"))
    assert carried(described.find(name)) == before
    table = pq.read_table(described.at / "pairs.parquet").select(["uid", "similarity", "boxes"])
    assert {*before} >= {str([*row.values()]) for row in table.to_pylist()}


def test_what_was_downloaded_keeps_the_counts_of_its_funnel(described: DescribedSets) -> None:
    before, after = (funnel(described.find(of)) for of in ("all", "downloaded, deduplicated"))
    assert after["fetch"] == before["fetch"]
    assert after["opted_out"] == before["opted_out"]
    assert after["steps"][0] == before["steps"][0]
    assert dropped_of(after) >= dropped_of(before)
    left = dropped_of(after) - dropped_of(before)
    assert {"taken_down", "duplicate_image"} <= left.keys()
    assert left.total() == before["pairs"] - after["pairs"]


@pytest.mark.parametrize(
    ("name", "kept", "detail"),
    [("all", 0, "take.txt:url; opted_out: x_robots_tag"), ("reported", 1, "take.txt:url")],
)
def test_a_takedown_takes_its_opt_outs_out_of_the_counts(
    described: DescribedSets, name: str, kept: int, detail: str
) -> None:
    """Opt-outs leave the counts with dropped pairs, and with kept pairs that only report them."""
    before, after = described.find(name), described.find(SETS_TAKEN[name])
    details = {"meta_robots": 1, "tdm_reservation": 1, "x_robots_tag": 2}
    assert funnel(before)["opted_out"]["details"] == details
    assert funnel(after)["opted_out"]["details"] == details | {"x_robots_tag": 1}
    counts = {step["step"]: step["dropped"] for step in funnel(before)["steps"]}
    assert counts["opt_outs"] == {"opted_out": 1 - kept}
    (stated,) = (fate for fate in rejected(after) if fate.url.endswith("/noai"))
    assert (stated.reason, stated.detail) == ("taken_down", detail)


@pytest.mark.parametrize("name", ["all forgotten", "texts forgotten"])
def test_what_is_forgotten_is_in_no_row(described: DescribedSets, name: str) -> None:
    before, after = (rows(described.find(of), "*") for of in (SETS[name].of, name))
    taken = {f"{described.web.url}/{n}" for n in TAKEN}
    assert taken <= {row.get("url") for row in before}
    assert not taken & {row.get("url") for row in after}
    forgotten = [row for row in after if row.get("reason") == "taken_down"]
    assert len(forgotten) >= len(taken)
    assert all(row.get("url") is row.get("caption") is None for row in forgotten)


SETS_TAKEN = {"all": "all taken", "reported": "reported, taken"}


def test_the_command_for_another_threshold_judges_all_rows_anew(described: DescribedSets) -> None:
    page = (described.find("similar") / "report.html").read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert "--keep_most_similar=0.5" in data["command"]
    assert not [word for word in data["command"] if "vocabulary=OUT" in word]


def test_what_is_held_out_is_apart_in_python(described: DescribedSets) -> None:
    dataset = alignset.Dataset(described.find("all"))
    held, rest = (dataset.kept(["key"], holdout=side)["key"].to_pylist() for side in (True, False))
    assert len(held) + len(rest) == len(dataset)
    assert held
    assert [sample.key for sample in dataset.samples(holdout=True)] == held
    assert [sample.key for sample in dataset.samples()] == rest
    assert dataset.paths.holdout_shards


def urls_of(out: Path, folder: str = "shards") -> set[str]:
    return {row["url"] for row in rows(out, folder)}


@pytest.mark.slow
def test_what_a_set_holds_out_comes_back_only_where_it_is_held_out_again(
    described: DescribedSets, tmp_path: Path
) -> None:
    """And whoever names its held-out pairs gets them; no image is fetched."""
    first = shutil.copytree(described.find("all"), tmp_path / "sets/first")
    flags = ("--allow_private_addresses", "--min_image_side=90", "--max_unsafe_score=1")
    ended = run(first, tmp_path / "a", *flags)
    assert ended.status == 2
    assert f"pass --holdout={HELD_OUT}, or a larger share" in ended.err
    asked = len(described.web.requests)
    for number, name in enumerate(("sets", "sets/first/shards", "sets/*/shards/*.tar", "sets/**")):
        out = tmp_path / f"again-{number}"
        succeed(tmp_path / name, out, *flags)
        assert urls_of(out) == urls_of(first)
        assert (out / "history/00/manifest.json").exists()
    assert described.web.requests[asked:] == []
    succeed(first / "holdout", tmp_path / "named", *flags)
    assert urls_of(tmp_path / "named") == urls_of(first, "holdout")


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
def test_what_a_share_to_hold_out_cannot_be(share: float) -> None:
    with pytest.raises(ValueError, match="holdout must be a share below 1"):
        Job(input="a", output="b", holdout=share)
