"""How counts of things are told, by both packages."""

from collections.abc import Callable

import pytest

import alignset.pipeline.shown_texts
import alignset.train.errors


@pytest.mark.parametrize(
    "counted", [alignset.pipeline.shown_texts.counted, alignset.train.errors.counted]
)
def test_counted(counted: Callable[..., str]) -> None:
    told = [counted(number, "pair") for number in (0, 1, 1000)]
    assert told == ["0 pairs", "1 pair", "1,000 pairs"]
    told = [counted(number, "class", "classes") for number in (1, 2)]
    assert told == ["1 class", "2 classes"]
