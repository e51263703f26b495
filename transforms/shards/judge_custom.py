"""The rules of users on the pairs of a shard: those on an image with its text, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.small_pixels import shown_in_groups
from alignset.transforms.rules import given
from alignset.transforms.rules.custom import computed
from alignset.transforms.rules.rule import Limit, Rows, Stage
from alignset.transforms.rules.verdicts import faults, first_of
from alignset.transforms.shards.score_images import FAILED_RULE
from alignset.transforms.shards.shard_pairs import ShardPairs


def judge_custom(pairs: ShardPairs) -> None:
    """Drops the pairs that rules of users drop, and adds what these measured."""
    rules, texts = pairs.rules, pairs.captions
    if not rules.columns:
        return
    rows = Rows()
    failed_rule = np.array(pairs.measures[FAILED_RULE].to_pylist(), object)
    for limit in rules.computing(Stage.TEXT):  # a text that was kept has passed them
        rows[limit.measure.column] = computed(limit, Rows(text=texts.to_pylist()), len(texts))[0]
    own = rules.computing(Stage.PAIR)
    alive = [pair for pair in pairs.kept.tolist() if failed_rule[pair] is None]
    for limit in own:
        rows[limit.measure.column] = np.full(len(texts), np.nan)
    if own:
        begin = 0
        for pictures in shown_in_groups(map(pairs.stored, alive)):
            part = alive[begin : begin + len(pictures)]
            _ask(own, part, pictures, texts, rows, failed_rule)
            begin += len(pictures)
    rows[given.RULE_FAILED] = np.array([name is not None for name in failed_rule], np.bool_)
    found = faults([*own, given.OF_FAILED_IMAGE_RULES], rows, rules.numbers)
    for pair, reason in enumerate(first_of(found).to_pylist()):
        if reason is not None:
            pairs.drop(pair, reason, failed_rule[pair] if reason == given.RULE_FAILED else None)
    pairs.measures |= {
        name: pa.array(rows[name], from_pandas=True) for name in rules.columns if name in rows
    }


def _ask(
    own: list[Limit],
    part: list[int],
    pictures: Sequence[Pixels | None],
    texts: pa.StringArray,
    rows: Rows,
    failed_rule: npt.NDArray[Any],
) -> None:
    """Puts what the rules measure of some pairs into their rows."""
    seen = [at for at, picture in enumerate(pictures) if picture is not None]
    of_part = [texts[row].as_py() for row in part]
    asked = Rows(pixels=[pictures[at] for at in seen], text=[of_part[at] for at in seen])
    places = np.array([part[at] for at in seen], np.int64)
    for limit in own:
        values, broken = computed(limit, asked, len(seen))
        rows[limit.measure.column][places] = values
        failed_rule[places[broken]] = limit.name
        unseen = [row for row, picture in zip(part, pictures, strict=True) if picture is None]
        failed_rule[unseen] = limit.name
