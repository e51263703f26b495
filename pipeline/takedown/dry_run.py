"""What a takedown would take out: nothing is written, and nothing that writes is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Funnel, Manifest
from alignset.pipeline.takedown.find_listed import Listed, find_listed
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import exists


@dataclass(frozen=True)
class Outcome:
    """What a takedown has taken out, or would take out.

    Attributes:
      details: how many pairs are on each list, by which kind of entry.
      pairs, dropped: how many the set held, and how many rows of what it dropped name such pairs.
      shards: how many shards hold some, of so many `of`.
      rewritten: how many files of dropped pairs are written anew, beside those of the shards.
    """

    details: dict[str, int]
    pairs: int
    dropped: int
    shards: int
    of: int
    rewritten: int


def read_set(out: str) -> tuple[Manifest, Funnel]:
    """The documents of a finished set.

    Raises:
      UsageError: it is none.
    """
    if not exists(f"{out}/manifest.json"):
        raise UsageError(f"{out} holds no finished set: give the --output of a run that has ended")
    try:
        manifest = read_document(f"{out}/manifest.json", Manifest)
        return manifest, read_document(f"{out}/funnel.json", Funnel)
    except (DocumentError, FileNotFoundError) as error:
        raise UsageError(f"{out} holds a set of another version of alignset: {error}") from error


def dry_run(out: str, lists: Blocklists, *, forget: bool) -> Outcome:
    """What a takedown would take out; nothing is written."""
    manifest, _ = read_set(out)
    listed = find_listed(out, manifest, lists, history=forget)
    return outcome_of(listed, manifest, plan_of(out, listed)[1])


def rejected_of_texts(out: str, pairs: str) -> str:
    """The file of the pairs that the text rules dropped, beside a file of `pairs/`."""
    return f"{out}/rejected/text-{Path(pairs).name}"


def plan_of(out: str, listed: Listed) -> tuple[list[int], list[str]]:
    """The shards and the other files that are written anew: files below the output."""
    places, shards = ShardPlaces(out), set(listed.shards)
    files = set(listed.texts)
    of_texts = {rejected_of_texts(out, path) for path in listed.texts}
    for path in set(listed.dropped) - of_texts:
        kind, _, number = Path(path).stem.partition("-")
        first = {"images": 0, "holdout": HOLDOUT}.get(kind)
        shard = None if first is None or not number.isdigit() else first + int(number)
        if shard is not None and places.rejected(shard) == path:
            shards.add(shard)
        else:
            files.add(path)
    return sorted(shards), sorted(path.removeprefix(f"{out}/") for path in files)


def outcome_of(listed: Listed, manifest: Manifest, files: list[str]) -> Outcome:
    """Sums up what is found in a set.

    Args:
      files: those of dropped pairs that are written anew.
    """
    return Outcome(
        listed.details,
        len(listed.rows),
        sum(listed.dropped.values()),
        len(listed.shards),
        len(manifest.holding),
        len(files),
    )
