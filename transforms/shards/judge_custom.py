"""The rules of users on the pairs of a shard: those on an image with its text, and what failed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.small_pixels import shown_in_groups
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import RunRules
from alignset.transforms.rules.custom import computed
from alignset.transforms.rules.rule import Limit, Rows, Stage
from alignset.transforms.rules.verdicts import faults, first_of
from alignset.transforms.shards.measure_images import FAILED_RULE, Measured
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.shards.shard_samples import Verdicts
from alignset.transforms.shards.shared_images import SharedImages


def judge_custom(
    verdicts: Verdicts,
    texts: pa.StringArray,
    images: SharedImages,
    measured: Measured,
    spool: Spool,
    rules: RunRules,
) -> Verdicts:
    """The verdicts with those of rules of users on pairs, and with what they measured."""
    if not rules.columns:
        return verdicts
    rows = Rows()
    failed = np.array(verdicts.measures[FAILED_RULE].to_pylist(), object)
    for limit in rules.computing(Stage.TEXT):  # a text that was kept has passed them
        rows[limit.measure.column] = computed(limit, Rows(text=texts.to_pylist()), len(texts))[0]
    own = rules.computing(Stage.PAIR)
    alive = np.flatnonzero(verdicts.reasons.is_null().to_numpy(zero_copy_only=False))
    alive = alive[[failed[row] is None for row in alive.tolist()]]
    for limit in own:
        rows[limit.measure.column] = np.full(len(texts), np.nan)
    if own:
        places = images.of_pairs[alive].tolist()
        files = ((spool.get(measured.places[i]), measured.columns["image"][i]) for i in places)
        asked = 0
        for pictures in shown_in_groups(files):
            part = alive[asked : asked + len(pictures)].tolist()
            _ask(own, part, pictures, texts, rows, failed)
            asked += len(pictures)
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


def _ask(
    own: list[Limit],
    part: list[int],
    pictures: Sequence[Pixels | None],
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
        rows[limit.measure.column][places] = values
        failed[places[broken]] = limit.name
        unseen = [row for row, picture in zip(part, pictures, strict=True) if picture is None]
        failed[unseen] = limit.name
