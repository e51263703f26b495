"""Whether all that tells of a finished dataset agrees with its Parquet files and tars, which are
counted here anew, without any of the product's queries."""

import hashlib
import html
import json
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

from alignset.pipeline.documents.describe import describe
from alignset.transforms.pairs.urls import url_hashes
from tests.support.command import funnel, manifest

DESCRIBED = (
    *("README.md", "_generated/README.md", "croissant.json", "_generated/croissant.json"),
    *("funnel.json", "funnel.svg", "manifest.json", "report.html", "uids.npy"),
)


def rows(out: Path, *folders: str) -> list[dict]:
    """The rows of the Parquet files in some folders of a dataset."""
    files = [file for folder in folders for file in sorted(out.glob(f"{folder}/*.parquet"))]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def stored(out: Path) -> dict[str, str]:
    """The keys of all kept pairs, held out or not, with their URLs."""
    return {row["key"]: row["url"] for row in rows(out, "shards", "holdout", "pairs")}


def check_dataset(out: Path, *, whole: bool = True) -> None:
    """Fails where two documents or files of a finished dataset contradict each other, and where
    `describe` writes a byte that the command which ended it did not.

    Args:
      whole: whether `rejected/` lists all that was dropped, which a downloaded dataset lacks.
    """
    check_files(out)
    check_counts(out, whole=whole)
    check_pages(out)
    check_described(out)
    assert not (out / "_temporary").exists()


def check_described(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(out, Path(folder) / "copy"))
        describe(str(copy))
        for name in DESCRIBED:
            before, after = (
                path.read_bytes() if (path := of / name).exists() else None for of in (out, copy)
            )
            assert after == before, name


def check_files(out: Path) -> None:
    """Shards are numbered without a gap; tars, sidecars, stats, ledgers and the manifest have the
    same pairs."""
    said = manifest(out)
    for folder in ("shards", "holdout"):
        entries = said.get(folder, {})
        full = sorted(int(number) for number, entry in entries.items() if entry["pairs"])
        assert full == list(range(len(full)))
        tars = {int(path.stem): path for path in out.glob(f"{folder}/*.tar")}
        assert sorted(tars) == full
        for number, entry in entries.items():
            stats = json.loads((out / folder / f"{number}_stats.json").read_text())
            assert (stats["successes"], stats["sha256"]) == (entry["pairs"], entry["sha256"])
        for number, path in tars.items():
            entry = entries[f"{number:05d}"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
            keys = [sample["__key__"] for sample in samples(path)]
            assert keys == pq.read_table(path.with_suffix(".parquet"))["key"].to_pylist()
            assert len(keys) == entry["pairs"]
    if (out / "images").exists():
        check_ledgers(out)
    if (out / "uids.npy").exists():
        uids = {int(row["uid"], 16) for row in rows(out, "shards") if row["uid"]}
        halves = np.load(out / "uids.npy")
        assert [int(high) << 64 | int(low) for high, low in halves] == sorted(uids)


def check_ledgers(out: Path) -> None:
    """Each kept image has one row with the key of a pair that is kept with its bytes."""
    kept, ledgers = rows(out, "shards", "holdout"), rows(out, "images")
    pairs = {row["key"]: row for row in kept}
    keys = [row["key"] for row in ledgers if row["key"]]
    assert len({*keys}) == len(keys)
    assert all(row["reason"] is None for row in ledgers if row["key"])
    assert all(pairs[row["key"]]["sha256"] == row["sha256"] for row in ledgers if row["key"])
    images = url_hashes(pa.array([row["url"] for row in kept], pa.string()))[0].tolist()
    assert {*images} == {row["image"] for row in ledgers if row["key"]}


def samples(tar: Path) -> list[dict]:
    """The samples of a shard, as WebDataset's own reader gives them to others."""
    files = webdataset.SimpleShardList([str(tar)])
    return list(webdataset.DataPipeline(files, webdataset.tarfile_to_samples()))


def check_counts(out: Path, *, whole: bool) -> None:
    """The funnel and the manifest count what is there."""
    counted, said = funnel(out), manifest(out)
    kept = rows(out, "shards", "holdout", "pairs")
    assert said["pairs"] == counted["pairs"] == counted["steps"][-1]["kept"] == len(kept)
    assert len({row["key"] for row in kept}) == len(kept)
    if held_out := said.get("holdout"):
        pairs = sum(entry["pairs"] for entry in held_out.values())
        assert counted["holdout"] == pairs == len(rows(out, "holdout"))
    of_images = Counter(
        row["sha256"] for row in {r["url"]: r for r in kept if "sha256" in r}.values()
    )
    shared = [count for count in of_images.values() if count > 1]
    if "copies" in counted:
        assert counted["copies"] == {"images": sum(shared), "contents": len(shared)}
    seen = counted["steps"][0]["seen"]
    for step in counted["steps"]:
        assert step["seen"] == seen
        seen = step["kept"]
        assert step["seen"] - step["kept"] == sum(step["dropped"].values())
    dropped = rows(out, "rejected")
    if not whole:
        assert Counter(row["reason"] for row in dropped) <= dropped_of(counted)
        return
    assert counted["steps"][0]["seen"] == len(kept) + len(dropped)
    assert dropped_of(counted) == Counter(row["reason"] for row in dropped)
    of_step = Counter(row["step"] for row in dropped if row["reason"] != "taken_down")
    of_step["takedown"] = sum(row["reason"] == "taken_down" for row in dropped)
    assert +of_step == +Counter(
        {step["step"]: sum(step["dropped"].values()) for step in counted["steps"]}
    )
    failed = Counter(row["detail"] for row in dropped if row["reason"] == "fetch_failed")
    assert counted["fetch"]["details"] == failed
    assert counted["fetch"]["failed"] == failed.total()
    of_images = [*out.glob("rejected/[ih]*.parquet")]  # images-…, holdout-…
    fetched = len(rows(out, "shards", "holdout")) + sum(
        pq.read_table(of).num_rows for of in of_images
    )
    assert counted["fetch"]["tried"] == fetched


def dropped_of(counted: dict) -> Counter[str]:
    """How many pairs a funnel says were dropped, by reason."""
    told: Counter[str] = Counter()
    for step in counted["steps"]:
        told.update(step["dropped"])
    return +told


def check_pages(out: Path) -> None:
    """The card, Croissant, the drawing and the report say the funnel's numbers."""
    counted = funnel(out)
    kept, seen, dropped = counted["pairs"], counted["steps"][0]["seen"], dropped_of(counted)
    card = (out / "README.md").read_text()
    assert f"![{kept:,} pairs kept: " in card
    about = json.loads((out / "croissant.json").read_text())
    assert f"{kept:,} pairs of " in about["description"]
    assert f" of {seen:,} that were read" in about["description"]
    if "holdout" in counted:
        assert f"{counted['holdout']:,} of these pairs, which are held out" in " ".join(
            card.split()
        )
    for reason, count in dropped.items():
        assert f"| `{reason}` | {count:,} |" in card or reason not in OWNERS, reason
    page = words_of(out / "report.html")
    assert f" {kept:,} of {seen:,} pairs" in page
    for step in counted["steps"]:
        for reason, count in step["dropped"].items():
            assert not count or f" {reason} {count:,} " in page, (step["step"], reason)


# Reasons that the card counts in a table of their own.
OWNERS = frozenset({"taken_down", "removed_before", "blocked"})


def words_of(page: Path) -> str:
    """What is read on a page of HTML."""
    text = re.sub(r"(?s)<(script|style).*?</\1>", " ", page.read_text())
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
