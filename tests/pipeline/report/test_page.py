"""The page in a real browser, from `file:`: every control, no request, no console error, axe."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.report.facts import Facts, find_facts
from pipeline.report.histograms import image_verdicts
from pipeline.report.page import render_page
from tests.support.made_records import put_made_set
from transforms.columns.record_files import decode_record, encode_record

CHROMIUM = "/usr/bin/chromium"
PROBE = "document.documentElement.dataset.hacked = 'yes'"
HOSTILE = (
    f"</script><script>{PROBE}</script>",
    f'<img src="x" onerror="{PROBE}">',
    f"</style><svg onload={PROBE}>",
    f'--><a href="javascript:{PROBE}">a link</a><!--',
    "{{ 7 * 7 }} {% raw %} ${7 * 7}",
    "\u202egnp.exe\u202c mirrored \u2067and isolated",
    "zalgo " + "h\u0301\u0302\u0303\u0304\u0305" * 50,
    "a\x00b\x1b[31mred\u2028line",
)


class Shown(NamedTuple):
    """The page of a set, what the set is, and what the browser said."""

    page: Page
    facts: Facts
    said: list[str]
    asked: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three shards, some of whose texts, hosts, reasons and keys mean harm."""
    folder = tmp_path_factory.mktemp("set") / "a <b>set & more"
    put_made_set(folder, 3, np.random.default_rng(5), pairs=400)
    path = folder / "report/images-00000.json"
    record = decode_record(path.read_bytes(), "")
    for place, text in enumerate(HOSTILE):
        url = f"http://{'evil' if place else text}.example/{text}"
        changed = msgspec.structs.replace(record.examples[place], caption=text, url=url)
        record.examples[place] = changed
    outcomes = record.outcomes | {f"<b>{PROBE}</b>": {HOSTILE[1]: 3}}
    record.tops["texts"] = msgspec.structs.replace(
        record.tops["hosts"], counts={text: {"kept": 9} for text in HOSTILE}
    )
    object.__setattr__(record, "outcomes", outcomes)
    path.write_bytes(encode_record(record))
    (folder / "report/images-00002.json").write_bytes(b'{"pairs": "<script>"}')
    return folder


@pytest.fixture(scope="module")
def shown(browser: Browser, made_set: Path) -> Iterator[Shown]:
    facts = find_facts(str(made_set))
    path = made_set / "report.html"
    path.write_text(render_page(facts))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#matches .card")
    yield Shown(page, facts, said, asked)
    page.close()


def cards(page: Page, grid: str) -> int:
    return page.locator(f"{grid} .card").count()


def test_in_its_set_it_tells_no_path_and_finds_the_folder(shown: Shown, made_set: Path):
    assert shown.page.locator("h1").inner_text() == "Image and alt-text pairs"
    assert "report of a set" in shown.page.title()
    assert str(made_set) not in (made_set / "report.html").read_text()
    assert shown.page.evaluate("OUT") == str(made_set)


def test_elsewhere_the_title_is_the_sets_name_as_text(browser: Browser, made_set: Path):
    page = browser.new_page()
    page.set_content(render_page(find_facts(str(made_set)), str(made_set)))
    assert page.locator("h1").inner_text() == "a <b>set & more"
    assert page.evaluate("OUT") == str(made_set)
    page.close()


def test_a_record_that_is_none_is_told_of(shown: Shown):
    assert "cannot be read and is left out" in shown.page.locator(".notes").first.inner_text()


def test_a_reason_opens_its_examples(shown: Shown):
    page = shown.page
    page.locator("button[data-list=too_small]").click()
    assert page.locator("#why").input_value() == "too_small"
    whys = page.locator("#matches .why").all_inner_texts()
    assert whys
    assert all(why.startswith("too_small") for why in whys)
    page.locator("#why").select_option("")
    assert cards(page, "#matches") == min(24, total(page))


def total(page: Page) -> int:
    return int(page.locator("#matched").inner_text().split(" of ")[1].split()[0].replace(",", ""))


def test_examples_are_filtered_by_text_key_and_host(shown: Shown):
    page = shown.page
    key = page.evaluate("data.examples[20].key")
    page.locator("#words").fill(key)
    assert page.locator("#matched").inner_text().startswith("1 of ")
    page.locator("#words").fill("")
    page.locator("#host").fill("evil")
    assert cards(page, "#matches") == len(HOSTILE) - 1
    page.locator("#host").fill("")


def test_more_examples_on_demand(shown: Shown):
    page = shown.page
    if total(page) > 24:
        page.locator("#matches-more").click()
        assert cards(page, "#matches") == min(48, total(page))


def test_a_pair_opens_with_its_values_and_the_ways_to_it(shown: Shown):
    page = shown.page
    page.locator("#grid .card").first.click()
    dialog = page.locator("#pair")
    assert dialog.is_visible()
    told = dialog.inner_text()
    key = page.evaluate("data.examples[data.lists.kept[0]].key")
    assert f"key = '{key}'" in told
    assert "tarfile.open(" in told
    assert "shards/0000" in told
    dialog.get_by_role("button", name="Copy the key").click()
    dialog.get_by_role("button", name="Copied").wait_for()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_examples_on_either_side_of_a_threshold(shown: Shown):
    page = shown.page
    page.locator("#near-rule").select_option("min_image_side")
    sides = page.locator("#near .cards")
    for number, near in ((0, [s > 200 for s in side_px(page, 0)]), (1, [])):
        assert sides.nth(number).locator(".card").count() > 0
        assert all(near)
    kept = side_px(page, 0)
    assert kept == sorted(kept)
    dropped = side_px(page, 1)
    assert dropped == sorted(dropped, reverse=True)
    assert max(dropped) <= 200 < min(kept)


def side_px(page: Page, side: int) -> list[int]:
    whys = page.locator("#near .cards").nth(side).locator(".why").all_inner_texts()
    return [int(why.split(" px")[0].split(" ")[-1]) for why in whys]


@pytest.mark.parametrize("side", [128, 256, 512])
def test_a_slider_counts_what_another_threshold_would_keep(shown: Shown, side: int):
    page, facts = shown.page, shown.facts
    slide(page, "min_image_side", side)
    joint = facts.records.images.whole.joint
    verdicts = image_verdicts(joint, facts.rules | {"min_image_side": float(side)})
    expected = int(np.array(joint.counts)[verdicts].sum())
    outcome = page.locator("[data-plane=images] .outcome")
    told = outcome.inner_text()
    assert f"{expected:,} pairs would be kept" in told
    assert f"--min_image_side={side}" in told
    assert ("The count is exact" in told) == (side > 200)
    assert ("--also_rejected=too_small" in told) == (side < 200)
    outcome.get_by_role("button", name="As in the run").click()
    assert "run's own thresholds" in outcome.inner_text()
    kept = sum(facts.records.images.whole.outcomes["kept"].values())
    assert f"{kept:,} pairs are kept" in outcome.inner_text()


def test_two_thresholds_count_together(shown: Shown):
    page, facts = shown.page, shown.facts
    slide(page, "min_image_side", 256)
    slide(page, "max_unsafe_score", 0.1)
    joint = facts.records.images.whole.joint
    rules = facts.rules | {"min_image_side": 256.0, "max_unsafe_score": 0.1}
    expected = int(np.array(joint.counts)[image_verdicts(joint, rules)].sum())
    outcome = page.locator("[data-plane=images] .outcome")
    assert f"{expected:,} pairs would be kept" in outcome.inner_text()
    outcome.get_by_role("button", name="As in the run").click()


def test_a_slider_of_texts(shown: Shown):
    page = shown.page
    slide(page, "min_words", 5)
    told = page.locator("[data-plane=texts] .outcome").inner_text()
    assert "pairs would pass all rules of texts" in told
    assert "The rules of images come after." in told
    assert "The count is exact" in told
    slide(page, "min_words", 2)
    told = page.locator("[data-plane=texts] .outcome").inner_text()
    assert "up to" in told
    assert "--also_rejected=too_few_words" in told
    assert "Rare tokens were not looked for" in told


def slide(page: Page, rule: str, value: float) -> None:
    """Moves a slider to a threshold, as its reader would."""
    slider = page.locator(f"#rule-{rule}")
    edges = [float(edge) for edge in (slider.get_attribute("data-edges") or "").split()]
    slider.fill(str(edges.index(value)))
    assert float(page.locator(f"output[for=rule-{rule}]").inner_text()) == value


def test_unsafe_pictures_are_blurred(shown: Shown):
    page = shown.page
    page.locator("#why").select_option("unsafe")
    images = page.locator("#matches .card.unsafe img")
    assert images.count() == cards(page, "#matches") > 0
    assert "blur" in images.first.evaluate("image => getComputedStyle(image).filter")
    page.locator("#why").select_option("")


def test_no_text_of_the_web_runs_or_becomes_markup(shown: Shown):
    page = shown.page
    page.locator("#host").fill("")
    page.locator("#words").fill("onerror")
    page.locator("#matches .card").first.click()
    page.locator("#pair").get_by_role("button", name="Close").click()
    page.locator("#words").fill("")
    assert page.evaluate("document.documentElement.dataset.hacked") is None
    assert page.locator("img:not([src^='data:image/jpeg;base64,'])").count() == 0
    assert page.locator("a:not([href^='#'])").count() == 0
    assert page.locator("script").count() == 2
    text = page.content()
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_nothing_is_asked_for_and_nothing_goes_wrong(shown: Shown):
    assert [url for url in shown.asked if not url.startswith(("file:", "data:image/jpeg"))] == []
    assert len([url for url in shown.asked if url.startswith("file:")]) == 1
    assert shown.said == []


@pytest.mark.parametrize("width", [390, 820, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_at_any_width_nothing_is_cut_and_axe_is_content(
    browser: Browser, shown: Shown, made_set: Path, width: int, scheme: Any
):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto((made_set / "report.html").as_uri())
    page.wait_for_selector("#matches .card")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    violations = Axe().run(page).response["violations"] if width != 820 else []
    told = [(v["id"], v["nodes"][0]["html"][:200]) for v in violations]
    assert told == []
    page.close()


def test_it_can_be_printed(shown: Shown):
    shown.page.emulate_media(media="print")
    assert not shown.page.locator("nav").is_visible()
    assert shown.page.locator("#funnel table").is_visible()
    shown.page.emulate_media(media="screen")
