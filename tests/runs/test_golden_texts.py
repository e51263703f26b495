"""Frozen pairs through the whole command: reasons, details and keys that must never change."""

import json
from collections import Counter
from pathlib import Path

from alignset.demo import text_rules
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.rules.given import (
    BLOCKED,
    BROKEN_INPUT,
    BROKEN_PAGE,
    OPTED_OUT,
    REMOVED_BEFORE,
)
from tests.golden_texts.regenerate import GOLDEN, MADE, run

ROWS = [json.loads(line) for line in GOLDEN.read_text().splitlines()]


def test_the_command_gives_the_frozen_rows(tmp_path: Path) -> None:
    assert run(tmp_path) == ROWS


def test_the_frozen_rows_are_those_made_by_hand() -> None:
    meant: Counter = Counter()
    for url, caption, reason in MADE:
        pair = text_rules.pair_identity((url, caption))
        meant[pair if reason != "malformed_pair" else None, reason] += 1
    fates: Counter = Counter()
    for row in ROWS:
        pair = text_rules.pair_identity((row["url"], row["caption"]))
        fates[pair if row["reason"] != "malformed_pair" else None, row["reason"]] += 1
    assert fates == meant


def test_each_reason_of_the_text_stage_is_among_them() -> None:
    reasons = {reason for its in PRODUCT.text_steps.values() for reason in its}
    # The rows are pairs, without a page, a file that breaks or a list.
    others = {REMOVED_BEFORE, BLOCKED, BROKEN_INPUT, BROKEN_PAGE, OPTED_OUT}
    assert {row["reason"] for row in ROWS} == reasons - others | {None}
