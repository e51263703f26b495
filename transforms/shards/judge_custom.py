"""The rules of users on the pairs of a shard: those on an image with its text, and what failed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.small_pixels import shown_pixels
from alignset.transforms.rules import given
from alignset.transforms.rules.custom import CustomLimit, computed, of_stage
from alignset.transforms.rules.rule import Rows, Stage
from alignset.transforms.rules.run_rules import RunRules
from alignset.transforms.rules.verdicts import faults, first_of
from alignset.transforms.shards.measure_images import FAILED_RULE, Measured
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.shards.shard_samples import Verdicts
from alignset.transforms.shards.shared_images import SharedImages
from alignset.transforms.workers.unexpected import tell_once

_AT_ONCE = 32  # pictures that are in memory


def judge_custom(
    verdicts: Verdicts,
    texts: pa.StringArray,
    images: SharedImages,
    measured: Measured,
    spool: Spool,
    rules: RunRules,
) -> Verdicts:
    """The verdicts with those of rules of users on pairs, and with what they measured."""
    if not rules.custom:
        return verdicts
    rows = Rows()
    failed = np.array(verdicts.measures[FAILED_RULE].to_pylist(), object)
    for limit in of_stage(rules.custom, Stage.TEXT):  # a text that was kept has passed them
        rows[limit.column] = computed(limit, Rows(text=texts.to_pylist()), len(texts))[0]
    own = [*of_stage(rules.custom, Stage.PAIR)]
    alive = np.flatnonzero(verdicts.reasons.is_null().to_numpy(zero_copy_only=False))
    alive = alive[[failed[row] is None for row in alive.tolist()]]
    for limit in own:
        rows[limit.column] = np.full(len(texts), np.nan)
    if own:
        for start in range(0, len(alive), _AT_ONCE):
            part = alive[start : start + _AT_ONCE].tolist()
            pictures = _pictures(part, images, measured, spool)
            _ask(own, part, pictures, texts, rows, failed)
    rows[given.RULE_FAILED] = np.array([name is not None for name in failed], np.bool_)
    found = faults([*own, given.OF_FAILED_IMAGE_RULES], rows, rules.numbers)
    reasons = pc.coalesce(verdicts.reasons, first_of(found))
    is_failed = pc.fill_null(pc.equal(reasons, given.RULE_FAILED), False)
    columns = {
        name: pa.array(rows[name], from_pandas=True) for name in rules.columns if name in rows
    }
    return Verdicts(
        reasons,
        pc.if_else(is_failed, pa.array(failed, pa.string()), verdicts.details),
        verdicts.measures | columns,
        rules.columns,
    )


def _pictures(
    rows: Iterable[int], images: SharedImages, measured: Measured, spool: Spool
) -> list[Pixels | None]:
    """uint8[height, width, 3] of each pair, None where it cannot be decoded after all."""
    found: list[Pixels | None] = []
    for row in rows:
        image = int(images.of_pairs[row])
        try:
            body = spool.get(measured.places[image])
            found.append(shown_pixels(body, measured.columns["image"][image]))
        except Exception as error:  # it was decoded once: whatever this is, is new
            tell_once("decoding an image for a rule", error)
            found.append(None)
    return found


def _ask(
    own: list[CustomLimit],
    part: list[int],
    pictures: list[Pixels | None],
    texts: pa.StringArray,
    rows: Rows,
    failed: np.ndarray,
) -> None:
    """Puts what the rules measure of some pairs into their rows."""
    seen = [at for at, picture in enumerate(pictures) if picture is not None]
    of_part = [texts[row].as_py() for row in part]
    asked = Rows(pixels=[pictures[at] for at in seen], text=[of_part[at] for at in seen])
    places = np.array([part[at] for at in seen], np.int64)
    for limit in own:
        values, broken = computed(limit, asked, len(seen))
        rows[limit.column][places] = values
        failed[places[broken]] = limit.name
        unseen = [row for row, picture in zip(part, pictures, strict=True) if picture is None]
        failed[unseen] = limit.name
