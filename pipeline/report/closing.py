"""The closing documents of an output: funnel.json, the card, and last of all manifest.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.report.card import dataset_card
from pipeline.report.fetch_report import failed_fetches
from pipeline.report.funnel import check_funnel, funnel
from pipeline.runs.run_folder import RunFolder
from transforms.columns.reasons import FETCH_FAILED, TEXT_STEPS
from transforms.corpus.vocabulary_file import HASHING, NAME
from transforms.storage.files import exists, move, write_atomically
from transforms.workers.packages import DECIDING, installed
from transforms.workers.summaries import add_counts


class Written(NamedTuple):
    """What the image plane's summary says of a shard."""

    number: int
    pairs: int  # that it was given
    kept: int
    sha256: str


def close_run(folder: RunFolder) -> dict[str, Any]:
    """Writes the closing documents, the manifest last; returns what funnel.json holds.

    Raises:
      RuntimeError: the counts do not add up.
    """
    folder.check_lock()
    text = folder.read(f"{folder.work}/text.json")
    counts = dict(text["counts"])
    kept = counts.pop("written", 0)
    text_funnel = funnel(counts, TEXT_STEPS)
    check_funnel(text_funnel, kept)
    seen = counts.get("seen", 0)
    read = text["read"].get("rows", 0)
    if read != seen:
        raise RuntimeError(
            f"the first reading found {read} rows and the second {seen}: "
            "did the input change? Delete the output folder and start again"
        )
    table, shards = text_funnel, []
    images: dict[str, Any] = {"evaluation": [], "statuses": {}, "hosts": []}
    if not folder.description["job"]["text_only"]:
        images = folder.read(f"{folder.work}/images.json")
        shards = sorted(map(Written._make, images["shards"]))
        if sum(shard.pairs for shard in shards) != kept:
            raise RuntimeError(f"the shards were given other pairs than the {kept} that are kept")
        kept = sum(shard.kept for shard in shards)
        table = funnel(add_counts([counts, images["reasons"]]))
        check_funnel(table, kept)
    manifest = folder.description | {
        "versions": {name: installed()[name] for name in DECIDING},
        "pairs": kept,
        "vocabulary": text["vocabulary"]
        | {"file": _publish_vocabulary(folder, text["vocabulary_file"])},
        "evaluation_images": _by_set(images["evaluation"]),
        "shards": _sums(shards),
    }
    tried = sum(shard.pairs for shard in shards)
    fetch = failed_fetches(tried, images["statuses"], images["hosts"])
    pages = f"{folder.work}/pages.json"
    closing = {"pages": folder.read(pages)["counts"]} if exists(pages) else {}
    return _publish(folder, manifest, table, closing | {"fetch": fetch})


def close_retry(folder: RunFolder, base: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """Writes the closing documents with what a retry brought.

    Raises:
      RuntimeError: the counts do not add up.
    """
    folder.check_lock()
    if not plan["pairs"]:
        folder.clean()
        return base["funnel"]
    images = folder.read(f"{folder.work}/images.json")
    shards = sorted(map(Written._make, images["shards"]))
    steps, manifest = base["funnel"]["steps"], base["manifest"]
    dropped = [step["dropped"] for step in steps]
    # Every failure was tried again, and is counted where that ended.
    failed = sum(counts.get(FETCH_FAILED, 0) for counts in dropped)
    if not failed == plan["pairs"] == sum(shard.pairs for shard in shards):
        raise RuntimeError(
            f"{failed} fetches had failed and {plan['pairs']} were tried again: "
            "was a file in rejected/ changed?"
        )
    counts = add_counts([*dropped, images["reasons"]])
    counts[FETCH_FAILED] -= failed
    table = funnel(counts | {"seen": steps[0]["seen"]})
    kept = sum(shard.kept for shard in shards)
    check_funnel(table, manifest["pairs"] + kept)
    retried = {
        "tried": failed,
        "kept": kept,
        "shards": [shards[0].number, shards[-1].number],
        "fetch": folder.description["fetch"],
    }
    fetch = failed_fetches(failed, images["statuses"], images["hosts"])
    fetch |= {"tried": base["funnel"]["fetch"]["tried"]}
    return _publish(
        folder,
        manifest
        | {
            "pairs": manifest["pairs"] + kept,
            "shards": manifest["shards"] | _sums(shards),
            "retries": [*manifest.get("retries", []), retried],
        },
        table,
        base["funnel"] | {"fetch": fetch},
    )


def _publish(
    folder: RunFolder,
    manifest: dict[str, Any],
    table: list[dict[str, Any]],
    closing: dict[str, Any],
) -> dict[str, Any]:
    vocabulary = {k: v for k, v in manifest["vocabulary"].items() if k != "file"}
    closing = closing | {
        "pairs": manifest["pairs"],
        "steps": table,
        "vocabulary": vocabulary,
    }
    folder.write(f"{folder.out}/funnel.json", closing)
    card = dataset_card(manifest, table).encode()
    write_atomically(f"{folder.out}/README.md", lambda sink: sink.write(card))
    folder.write(f"{folder.out}/manifest.json", manifest)
    folder.clean()
    return closing


def _publish_vocabulary(folder: RunFolder, file: dict[str, Any]) -> dict[str, Any]:
    """Brings the vocabulary beside the output; returns what the manifest says of its file."""
    path = file["path"]
    if not folder.description["given_vocabulary"]:  # it is the run's own
        # By its name alone: the run may go on with its folder given in another way.
        move(f"{folder.work}/{Path(path).name}", f"{folder.out}/{NAME}")
        path = NAME
    return file | {"path": path, "hashes": HASHING}


def _sums(shards: list[Written]) -> dict[str, dict[str, Any]]:
    return {
        f"{shard.number:05d}": {"pairs": shard.kept, "sha256": shard.sha256} for shard in shards
    }


def _by_set(hashed: list[tuple[str, int, int]]) -> dict[str, dict[str, int]]:
    sets: dict[str, dict[str, int]] = {}
    for name, images, unreadable in hashed:
        one = sets.setdefault(name, {"images": 0, "unreadable": 0})
        one["images"] += images
        one["unreadable"] += unreadable
    return dict(sorted(sets.items()))
