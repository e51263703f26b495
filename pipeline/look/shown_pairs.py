"""Title of the pairs, and the message where there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.datasets.set_files import SetFiles, find_set
from alignset.pipeline.datasets.stored_images import stored_picture
from alignset.pipeline.errors import UsageError
from alignset.pipeline.look.sample import ENOUGH_FILES, Pair, PairSample, batches_with, take_sample
from alignset.pipeline.look.sheet import HALF_BOX, PICTURE_BOX, Picture, beside, overlap_pictures
from alignset.pipeline.shown_texts import counted, printable, text_table
from alignset.transforms.rules.given import DUPLICATE_IMAGE, DUPLICATE_OF_TRAINING, FETCH_FAILED

DROPPED = "dropped"  # as a reason: any
# The detail of these is the key of a kept pair, whose image has the same bytes or looks like it.
OF_KEPT_IMAGE = (DUPLICATE_IMAGE, DUPLICATE_OF_TRAINING)
_MOST_NAMED = 40


class NothingToShow(Exception):
    """The set has no pair of the kind that was asked for; says what it has."""


@dataclass(frozen=True)
class ShownPairs:
    """Some pairs of a dataset, with what is said of them."""

    files: SetFiles
    pairs: list[Pair]
    title: str
    subtitle: str

    def pictures(self) -> list[Picture]:
        """Each pair's image, or why there is none. Three kinds of dropped pairs have one: copies
        of evaluation images, beside these; near-duplicates, beside the kept image; and images with
        the bytes of a kept image, which is shown."""
        copies = [pair for pair in self.pairs if pair.overlap]
        drawings = iter(overlap_pictures(copies, self.files.evaluation))
        places = self._kept_places()
        with ThreadPoolExecutor(8) as pool:
            own = pool.map(lambda pair: self._picture(pair, places), self.pairs)
            pairs = zip(self.pairs, own, strict=True)
            return [next(drawings) if pair.overlap else picture for pair, picture in pairs]

    def _kept_places(self) -> dict[str, str]:
        """The sidecars of the kept pairs that dropped ones are copies of, by their keys."""
        kept_keys = {pair.detail for pair in self.pairs if pair.reason in OF_KEPT_IMAGE}
        places: dict[str, str] = {}
        for path in self.files.kept_files if kept_keys else ():
            for batch in batches_with(path, ["key"]):
                wanted_keys = pa.array(kept_keys - places.keys(), batch["key"].type)
                hits = batch["key"].filter(pc.is_in(batch["key"], wanted_keys))
                places |= dict.fromkeys(hits.to_pylist(), path)
            if len(places) == len(kept_keys):
                break
        return places

    def _picture(self, pair: Pair, places: Mapping[str, str]) -> Picture:
        is_copy = pair.reason in OF_KEPT_IMAGE
        key, file = (pair.detail, places.get(pair.detail, "")) if is_copy else (pair.key, pair.file)
        stem = file.removesuffix(".parquet")
        if pair.overlap or (pair.why and not is_copy) or stem not in self.files.tars:
            return "no image is stored"
        place = f"{stem}.tar", key
        if pair.thumbnail:
            other = stored_picture(*place, HALF_BOX)
            return beside(pair.thumbnail, other, ("dropped", "kept"))
        return stored_picture(*place, PICTURE_BOX)

    def table(self, width: int) -> str:
        """The pairs as text, in so many columns of a terminal."""
        columns: dict[str, list[str]] = {"key": [pair.key for pair in self.pairs]}
        if any(pair.overlap for pair in self.pairs):
            overlaps = [pair.overlap for pair in self.pairs]
            columns["copy of"] = [of.place if of else "" for of in overlaps]
            columns["distance"] = [f"{of.distance:.3g}" if of else "" for of in overlaps]
        elif any(pair.why for pair in self.pairs):
            columns["dropped for"] = [pair.why for pair in self.pairs]
        elif any(pair.size for pair in self.pairs):
            columns["size"] = [pair.size for pair in self.pairs]
        if any(pair.language for pair in self.pairs):
            columns["language"] = [pair.language for pair in self.pairs]
        columns["host"] = [pair.host for pair in self.pairs]
        columns["caption"] = [pair.caption for pair in self.pairs]
        return text_table([*columns], [*zip(*columns.values(), strict=True)], width)


def find_pairs(out: str, choice: str, count: int, language: str = "") -> ShownPairs:
    """The pairs to show.

    Args:
      out: the dataset's folder.
      choice: a reason, perhaps with `:` and a detail; DROPPED, or empty for kept pairs.
      count: how many pairs, at most.
      language: of the pairs, as the vote found it; empty for any.

    Raises:
      UsageError: there is no such dataset, or no pair was dropped for that reason.
      NothingToShow: nothing was kept, or nothing was dropped.
    """
    files = find_set(out, 0 if choice else ENOUGH_FILES)
    if not choice:
        sample = take_sample(files.kept_files, count, language=language)
        if not sample.pairs:
            suffix = f" in {language}" if language else ""
            raise NothingToShow(f"{files.out} has no kept pair{suffix} yet{_but(files)}")
        total = None if files.funnel is None or language else files.funnel.pairs
        kinds = ("shard",) if files.is_of_shards else ("file of pairs", "files of pairs")
        what = f"kept pairs in {language}" if language else "kept pairs"
        return _shown_pairs(files, sample, what, total, counted(len(files.kept_files), *kinds))
    reason, _, detail = choice.partition(":")
    reason, detail = ("", "") if reason == DROPPED else (reason.strip(), detail.strip())
    paths = files.rejected_for(reason) if reason else files.rejected_files
    sample = take_sample(paths, count, reason, detail, language)
    if not sample.pairs:
        raise _nothing_dropped(files, sample, reason, detail)
    what = f"pairs dropped for {reason}" if reason else "dropped pairs"
    total = _drop_counts(files).get(reason) if reason else sum(_drop_counts(files).values())
    if detail:
        what, total = f"{what}: {detail}", _details(files, reason, sample).get(detail)
    if language:
        what, total = f"{what}, in {language}", None
    where = counted(len(paths), "file of dropped pairs", "files of dropped pairs")
    return _shown_pairs(files, sample, what, total, where)


def _shown_pairs(
    files: SetFiles, sample: PairSample, what: str, total: int | None, where: str
) -> ShownPairs:
    of = "" if not total or files.funnel is None else f" of {total:,}"
    parts = [f"{len(sample.pairs):,}{of} {what}", f"from {sample.files_read:,} of {where}"]
    if files.is_foreign:
        parts[1] = f"from {sample.files_read:,} of {counted(files.of, 'shard')}"
    elif files.funnel is None:
        parts.append("the run has not ended")
    return ShownPairs(files, sample.pairs, printable(files.out), ", ".join(parts))


def _drop_counts(files: SetFiles) -> dict[str, int]:
    """How many pairs were dropped for each reason, by the funnel."""
    if files.funnel is None:
        return {}
    counts: Counter[str] = Counter()
    for step in files.funnel.steps:
        counts.update(step.dropped)
    return dict(+counts)


def _details(files: SetFiles, reason: str, sample: PairSample) -> dict[str, int]:
    """How many pairs were dropped for each detail of a reason, as far as that is known."""
    if reason == FETCH_FAILED and files.funnel is not None:
        return files.funnel.fetch.details
    if sample.files_read < len(files.rejected_for(reason)):
        return {}
    start = f"{reason}:"
    return {n.removeprefix(start): c for n, c in sample.row_counts.items() if n.startswith(start)}


def _nothing_dropped(files: SetFiles, sample: PairSample, reason: str, detail: str) -> Exception:
    if not reason:
        return NothingToShow(f"{files.out} has no dropped pair")
    start = f"{reason}:"
    details = {n: c for n, c in sample.row_counts.items() if n.startswith(start) and n != start}
    if detail and details:
        return UsageError(f"no pair was dropped for {reason}:{detail}; there are {_list(details)}")
    reasons = _drop_counts(files)
    if reason in reasons and not detail:
        return NothingToShow(
            f"none of {counted(reasons[reason], 'pair')} dropped for {reason} is in the "
            f"{counted(sample.files_read, 'file that was read', 'files that were read')}"
        )
    if not reasons:
        rows = take_sample(files.rejected_files, 1).row_counts
        reasons = {name: n for name, n in rows.items() if ":" not in name}
    if not reasons:
        return NothingToShow(f"{files.out} has no dropped pair")
    return UsageError(f"no pair was dropped for {reason}; there are {_list(reasons)}")


def _but(files: SetFiles) -> str:
    """The message instead of kept pairs."""
    if not files.rejected_files:
        return ""
    names = ", ".join(sorted({Path(path).parent.name for path in files.rejected_files}))
    return f", but there are dropped ones in {names}/: look at them with --reason={DROPPED}"


def _list(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{name} ({count:,})" for name, count in most[:_MOST_NAMED])
    return f"{text} and {len(most) - _MOST_NAMED} more" if len(most) > _MOST_NAMED else text
