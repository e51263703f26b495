"""The funnel's image: what it tells is the funnel, and its bars are as long as that says."""

import xml.etree.ElementTree as ET

import pytest

from alignset.pipeline.datasets.funnel import funnel
from alignset.pipeline.documents.funnel_svg import WIDTH, funnel_svg
from alignset.pipeline.runs.documents import Step
from alignset.transforms.workers.counts import Counts
from tests.support.rules import STEPS

SVG = "{http://www.w3.org/2000/svg}"
COUNTS = Counts(10_000, 0, {"malformed_pair": 1, "too_few_words": 2500, "fetch_failed": 5000})


def texts(picture: ET.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SVG}text")]


def bars(picture: ET.Element, kind: str) -> list[float]:
    """Widths, without the legend's."""
    drawn = [bar for bar in picture.iter(f"{SVG}rect") if bar.get("class") == kind]
    return [float(bar.get("width", "")) for bar in drawn[1:]]


def test_every_count_and_share_is_in_it():
    picture = ET.fromstring(funnel_svg(funnel(COUNTS, STEPS)))
    words = texts(picture)
    assert words[0] == "2,499 of 10,000 pairs (25.0%) were kept"
    assert [word for word in words if word in STEPS] == [*STEPS]
    assert "malformed_pair: 1, <0.1% of all" in words
    assert "too_few_words: 2,500, 25.0% of all" in words
    assert not [word for word in words if word.startswith("unsafe")]  # none was dropped
    at = words.index("fetch")
    assert words[at : at + 4] == ["fetch", "2,499", "25.0%", "fetch_failed: 5,000, 50.0% of all"]


def test_bars_are_as_long_as_the_counts_say():
    picture = ET.fromstring(funnel_svg(funnel(COUNTS, STEPS)))
    kept, dropped = bars(picture, "kept"), bars(picture, "dropped")
    assert len(kept) == len(STEPS)
    assert kept[-1] == pytest.approx(400 * 0.2499, abs=0.1)
    assert dropped == [1.5, 100.0, 200.0]  # one pair can be seen


def test_all_is_within_the_picture():
    steps = funnel(
        Counts(10**12, 0, dict.fromkeys((r for s in STEPS.values() for r in s), 10**10)), STEPS
    )
    picture = ET.fromstring(funnel_svg(steps))
    _, _, width, height = map(float, picture.get("viewBox", "").split())
    assert width == WIDTH
    for text in picture.iter(f"{SVG}text"):
        assert 0 < float(text.get("y", "")) < height
    for bar in picture.iter(f"{SVG}rect"):
        assert float(bar.get("x", "")) + float(bar.get("width", "")) <= width
    assert funnel_svg(steps) == funnel_svg(steps)


def test_a_funnel_of_nothing_is_drawn():
    picture = ET.fromstring(funnel_svg(funnel(Counts(), STEPS)))
    assert texts(picture)[0] == "0 of 0 pairs were kept"
    assert not any(bars(picture, "kept"))


def test_words_of_somebody_else_are_text_alone():
    hostile = "</text><script>alert(1)</script>&"
    steps = [Step(hostile, 2, 1, {hostile: 1})]
    picture = ET.fromstring(funnel_svg(steps))
    assert not [*picture.iter(f"{SVG}script")]
    assert hostile in texts(picture)


def test_the_picture_brings_its_own_style_and_ground():
    picture = ET.fromstring(funnel_svg(funnel(COUNTS, STEPS)))
    style = picture.findtext(f"{SVG}style")
    classes = {rect.get("class") for rect in picture.iter(f"{SVG}rect")}
    assert classes == {"ground", "kept", "dropped"}
    assert all(f".{name} {{ fill" in style for name in classes)
