"""The page in a real browser, from `file:`: every control, no request, no console error, axe."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image as PillowImage
from playwright.sync_api import Browser, Page

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.options import parse
from alignset.pipeline.report.comparison import write_comparison
from alignset.pipeline.report.page import render_page
from alignset.pipeline.runs.documents import NamedList
from alignset.pipeline.settings import Settings, deciding_settings
from alignset.transforms.columns.records import LONGEST_TEXT, REJECTED, key_hashes
from alignset.transforms.corpus.corpus_documents import HashFile
from alignset.transforms.decontamination.overlap_settings import INDEX_SETTINGS, EvaluationFile
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.rules.rule import IMAGES
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.shards.shard_files import SHARD_SCHEMA
from tests.pipeline.datasets.test_summary import MODEL
from tests.support.golden_run import Golden
from tests.support.made_sets import RULES, put_made_set, put_run
from tests.support.small_sets import put_shard, put_table

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
    "1 MB of <b> & \u202e" + "x" * (1 << 20),
)
NAMES_OF_OBJECTS = ("constructor", "toString", "__proto__")  # which a reason may be called
# What a run may have been told besides its rules.
TOLD: dict[str, Any] = {
    "job": {"text_only": False, "holdout": 0.05, "input_format": "csv", "url_column": "a b"},
    "rules": deciding_settings(
        Settings(input="in", output="out", min_evaluation_distance=RULES.min_evaluation_distance)
    )["rules"],
    "resize": {"resize_mode": "keep_ratio", "image_size": 300},
    "fetch": {"user_agent": 'a "b" $HOME', "max_redirects": 2},
    "evaluation": [EvaluationFile("coco", "/home/me/val/1.jpg")],
    "given_vocabulary": HashFile("/home/me/old/vocabulary.u64", 8, "ab"),
    "overlap": INDEX_SETTINGS,
    "unsafe_model": UnsafeModel("/home/me/own.onnx", "ab", MODEL),
    "blocklists": [NamedList("takedowns.txt", "ab", {"host": 1})],
}


class Shown(NamedTuple):
    """The page of a dataset, what the dataset is, and what the browser said."""

    page: Page
    facts: Facts
    said: list[str]
    asked: list[str]


@pytest.fixture(scope="module")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three shards, some of whose texts, hosts, reasons and keys mean harm."""
    folder = tmp_path_factory.mktemp("set") / "a <b>set & more"
    put_made_set(folder, 3, np.random.default_rng(5), pairs=400, compared=True)
    put_run(folder, **TOLD)
    change_rows(
        folder / "shards/00000.parquet",
        [
            {"caption": text, "url": f"http://{'evil' if at else text}.example/{text}"}
            for at, text in enumerate(HOSTILE)
        ],
    )
    why = {"reason": f"<b>{PROBE}</b>", "detail": HOSTILE[1]}
    names = [{"reason": name} for name in NAMES_OF_OBJECTS]
    change_rows(folder / "rejected/images-00000.parquet", [*[why] * 3, *names])
    (folder / "rejected/images-00002.parquet").write_bytes(b"<script>")
    return folder


def change_rows(path: Path, changes: list[dict[str, str]]) -> None:
    """Changes columns of the rows that a report shows first."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows.sort(key=lambda row: int(key_hashes(np.array([int(row["key"], 16)], np.uint64))[0]))
    rows = [row | change for row, change in zip_longest(rows, changes, fillvalue={})]
    put_table(str(path), pa.Table.from_pylist(rows, table.schema))


@pytest.fixture(scope="module")
def page_of_set(browser: Browser, made_set: Path) -> Iterator[Shown]:
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
    page.set_default_timeout(5000)
    yield Shown(page, facts, said, asked)
    page.close()


@pytest.fixture
def shown(page_of_set: Shown) -> Shown:
    """The page as it was opened: nothing is chosen."""
    page_of_set.page.evaluate("byId('pair').close(), location.hash = 'set?', recall()")
    return page_of_set


def cards(page: Page, grid: str) -> int:
    return page.locator(f"{grid} .card").count()


def test_a_reason_opens_its_examples(shown: Shown):
    page = shown.page
    page.locator("button[data-list=too_small]").click()
    assert page.locator("#why").input_value() == "too_small"
    whys = page.locator("#matches .why").all_inner_texts()
    assert whys
    assert all(why.startswith("too_small") for why in whys)
    for name in NAMES_OF_OBJECTS:
        page.locator("#why").select_option(name)
        assert cards(page, "#matches") == 1
    page.locator("#why").select_option("unsafe")
    images = page.locator("#matches .card.unsafe img")
    assert images.count() == cards(page, "#matches") > 0
    assert "blur" in images.first.evaluate("image => getComputedStyle(image).filter")
    page.locator("#why").select_option("")
    assert cards(page, "#matches") == 24


def test_examples_are_filtered_by_text_key_and_host(shown: Shown):
    page = shown.page
    key = page.evaluate("data.examples[20].key")
    page.locator("#words").fill(key)
    assert page.locator("#matched").inner_text().startswith("1 of ")
    page.locator("#words").fill("")
    page.locator("#host").fill("evil")
    assert cards(page, "#matches") == len(HOSTILE) - 1
    page.locator("#host").fill("")
    page.locator("#words").fill("1 MB of")
    assert cards(page, "#matches") == 1
    page.locator("#matches .card").click()
    text = page.locator("#pair dd").first.inner_text()
    assert text.startswith("1 MB of <b> & ")
    assert len(text) <= LONGEST_TEXT + len(r"\u202e")
    assert page.evaluate("document.documentElement.outerHTML.length") < 3 << 20


def test_a_pair_opens_with_its_values_and_the_ways_to_it(shown: Shown, made_set: Path):
    page = shown.page
    assert page.locator("h1").inner_text() == "Image and alt-text pairs"
    assert str(made_set) not in (made_set / "report.html").read_text()
    assert page.evaluate("OUT") == str(made_set)
    page.locator("#grid .card").first.click()
    dialog = page.locator("#pair")
    assert dialog.is_visible()
    told = dialog.inner_text()
    key = page.evaluate("data.examples[data.lists.kept[0]].key")
    assert f"key = '{key}'" in told
    assert "tarfile.open(" in told
    assert "Image.open(" in told
    assert "shards/0000" in told
    dialog.get_by_role("button", name="Copy the key").click()
    dialog.get_by_role("button", name="Copied").wait_for()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_examples_on_either_side_of_a_threshold(shown: Shown):
    page = shown.page
    page.locator("#near-rule").select_option("min_image_side")
    sides = page.locator("#near .cards")
    counts = [sides.nth(number).locator(".card").count() for number in (0, 1)]
    assert min(counts) > 0
    said = f"{counts[0]} kept and {counts[1]} dropped of a sample, the nearest first"
    assert said in page.locator("#near-told").inner_text()
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
    expected = kept_alone(facts, "min_image_side", float(side))
    outcome = page.locator("[data-stage=images] .outcome")
    told = outcome.inner_text()
    assert f"{expected:,} pairs would be kept" in told
    assert f"--min_image_side={side}" in told
    assert ("The count is exact" in told) == (side > 200)
    assert ("Only images that may come back are fetched" in told) == (side < 200)
    outcome.get_by_role("button", name="As in the run").click()
    assert "run's own thresholds" in outcome.inner_text()
    assert f"{facts.kept:,} pairs are kept" in outcome.inner_text()


def kept_alone(facts: Facts, rule: str, threshold: float) -> int:
    """How many pairs are kept where a rule has another threshold."""
    limit = PRODUCT.limits[rule]
    numbers = facts.numbers.of(limit.judges)
    axis, counts = numbers.axes[limit.measure.axis], numbers.alone[rule]
    passed = axis.passes(np.arange(axis.bins), limit.edge(threshold), beyond=limit.keeps_above)
    return int(counts[passed].sum())


def kept_of_sample(facts: Facts, stage: str, **thresholds: float) -> int:
    """About how many pairs are kept where several rules have other thresholds."""
    numbers, passed = facts.numbers.of(stage), np.True_
    for limit in numbers.limits:
        axis = numbers.axes[limit.measure.axis]
        edge = limit.edge((facts.rules | thresholds)[limit.name])
        passed = passed & axis.passes(numbers.bins[axis.name], edge, beyond=limit.keeps_above)
    return round(float(passed.sum() * round(numbers.free / len(numbers.hashes), 6)))


def test_two_thresholds_count_together(shown: Shown):
    page, facts = shown.page, shown.facts
    slide(page, "min_image_side", 256)
    slide(page, "max_unsafe_score", 0.1)
    expected = kept_of_sample(facts, IMAGES, min_image_side=256.0, max_unsafe_score=0.1)
    told = page.locator("[data-stage=images] .outcome").inner_text()
    is_all = facts.numbers.images.free == len(facts.numbers.images.hashes)
    assert f"{'' if is_all else 'about '}{expected:,} pairs would be kept" in told
    assert ("counted in a sample" in told) != is_all
    outcome = page.locator("[data-stage=images] .outcome")
    outcome.get_by_role("button", name="As in the run").click()


def test_a_slider_of_texts(shown: Shown):
    page = shown.page
    slide(page, "min_words", 5)
    told = page.locator("[data-stage=texts] .outcome").inner_text()
    assert "pairs would pass all rules of texts" in told
    assert "The rules of images come after." in told
    assert "The count is exact" in told
    slide(page, "min_words", 2)
    told = page.locator("[data-stage=texts] .outcome").inner_text()
    assert "up to" in told
    assert "Only images that may come back are fetched" in told
    assert "were not judged by the rules that come after" in told
    slide(page, "min_words", 15)
    slide(page, "max_words", 10)
    outcome = page.locator("[data-stage=texts] .outcome")
    assert "0 pairs would pass" in outcome.inner_text()
    assert "no run takes these thresholds" in outcome.inner_text()
    assert not outcome.locator("pre").is_visible()
    slide(page, "min_words", 5)
    assert parsed(page, "min_words").max_words == 10
    page.evaluate("data.textOnly = true, stages.forEach(update)")  # as of texts alone
    told = outcome.inner_text()
    assert "pairs would be kept" in told
    assert "fetch" not in told.partition("alignset curate")[0]
    assert "images come after" not in told
    page.evaluate("data.textOnly = false")


def slide(page: Page, rule: str, value: float) -> None:
    """Moves a slider to a threshold, as its reader would."""
    slider = page.locator(f"#rule-{rule}")
    edges = [float(edge) for edge in (slider.get_attribute("data-edges") or "").split()]
    slider.fill(str(edges.index(value)))
    assert float(page.locator(f"output[for=rule-{rule}]").inner_text()) == value


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


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1400, "dark")])
def test_at_any_width_nothing_is_cut_and_axe_is_content(
    browser: Browser, shown: Shown, made_set: Path, width: int, scheme: Any
):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto((made_set / "report.html").as_uri())
    page.wait_for_selector("#matches .card")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
    page.locator("#grid .card").first.click()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def violations(page: Page) -> list[tuple[str, str]]:
    found = Axe().run(page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found]


# ---- The command that is shown ------------------------------------------------------------


def test_the_command_of_each_slider_is_one_that_the_command_takes(shown: Shown):
    page = shown.page
    rules = page.locator("input[data-rule]").evaluate_all("all => all.map(e => e.dataset.rule)")
    assert rules == [
        *("min_image_side", "max_image_aspect", "max_unsafe_score", "min_evaluation_distance"),
        *("min_words", "max_words", "min_language_score"),
    ]
    for rule in rules:
        edges = page.locator(f"#rule-{rule}").get_attribute("data-edges").split()  # type: ignore[union-attr]
        own = TOLD["rules"][rule]
        for edge in {edges[0], edges[-1]} - {f"{own:g}", str(float(own))}:
            slide(page, rule, float(edge))
            command = parsed(page, rule)
            assert getattr(command, rule) == pytest.approx(float(edge))
            assert command.output == "NEW"
        page.locator(f"[data-stage]:has(#rule-{rule}) [data-reset]").click()


def parsed(page: Page, rule: str) -> Settings:
    """The command that is shown, as the command reads it."""
    text = page.locator(f"[data-stage]:has(#rule-{rule}) pre").inner_text()
    program, name, *flags = shlex.split(text)
    assert (program, name) == ("alignset", "curate")
    return parse(flags)


def test_the_command_has_all_that_the_run_was_told_and_no_path(shown: Shown, made_set: Path):
    page = shown.page
    slide(page, "min_evaluation_distance", 1.5)
    command = parsed(page, "min_evaluation_distance")
    assert command.input == str(made_set)
    assert (command.input_format, command.url_column) == ("auto", "")
    assert command.holdout == 0.05
    assert command.eval_images == "coco=val"
    assert command.vocabulary == "vocabulary.u64"
    assert command.blocklist == "takedowns.txt=FILE"
    assert command.unsafe_model == "own.onnx"
    assert command.user_agent == 'a "b" $HOME'
    assert command.resize_mode == "keep_ratio"
    outcome = page.locator("[data-stage=images] .outcome").inner_text()
    assert "Pass the paths of your own files in --vocabulary and --blocklist" in outcome
    assert "/home/me" not in page.content()
    page.locator("[data-stage=images] [data-reset]").click()
    assert "Pass the paths" not in page.locator("[data-stage=images] .outcome").inner_text()


# ---- What opens the very sample -----------------------------------------------------------


def test_the_query_and_the_line_of_python_open_the_very_sample(
    browser: Browser, golden: Golden, monkeypatch
):
    """Both are copied from the page, for kept pairs and for dropped pairs of both stages."""
    opened: list[PillowImage.Image] = []
    monkeypatch.setattr(PillowImage.Image, "show", lambda image: opened.append(image))
    page = browser.new_page()
    page.set_content(render_page(find_facts(str(golden.output)), str(golden.output)))
    kept = page.evaluate("listed('kept').slice(0, 3)")
    dropped = page.evaluate("['too_small', 'too_few_words'].map(name => listed(name)[0])")
    assert len(kept) == 3
    for pair in (*kept, *dropped):
        ways = dict(page.evaluate("pair => waysTo(pair)", pair))
        row = duckdb.sql(ways["DuckDB"]).fetchall()
        assert len(row) == 1
        assert pair["key"] in row[0]
        assert pair["text"] in row[0]
        assert ("Python" in ways) == ("reason" not in pair)
        if "Python" not in ways:
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(ways["Python"], {})
        assert said.getvalue().startswith(pair["text"])
        assert opened[-1].size == (pair["width"], pair["height"])
    assert len(opened) == 3
    page.close()


# ---- A link to what is chosen -------------------------------------------------------------


def test_what_is_chosen_is_in_the_address_and_opens_from_it(
    browser: Browser, shown: Shown, made_set: Path
):
    page = shown.page
    page.locator("#why").select_option("too_small")
    page.locator("#axis").select_option("side")
    page.locator("#from").fill("100")
    page.locator("#order").select_option("down")
    slide(page, "min_image_side", 128)
    page.locator("#near-rule").select_option("min_image_side")
    page.locator("#matches .card").first.click()
    key = page.locator("#pair dd.key, #pair dd").nth(3).inner_text()
    other = browser.new_page()
    other.goto(page.url)
    other.wait_for_selector("#pair[open]")
    assert key in other.locator("#pair").inner_text()
    other.locator("#pair").get_by_role("button", name="Close").click()
    for name, value in (("why", "too_small"), ("axis", "side"), ("from", "100"), ("order", "down")):
        assert other.locator(f"#{name}").input_value() == value
    assert other.locator("#near-rule").input_value() == "min_image_side"
    assert "--min_image_side=128" in other.locator("[data-stage=images] pre").inner_text()
    sides = sizes(other)
    assert sides == sorted(sides, reverse=True)
    assert min(sides) >= 100
    other.goto("about:blank")
    other.goto((made_set / "report.html").as_uri() + "#examples?why=nothing&axis=x&pair=y&from=z")
    assert other.locator("#why").input_value() == ""  # what is not there is not chosen
    assert cards(other, "#matches") == 24
    other.close()
    page.locator("#pair").get_by_role("button", name="Close").click()
    page.locator("[data-stage=images] [data-reset]").click()
    for name in ("why", "axis", "order"):
        page.locator(f"#{name}").select_option("")
    page.locator("#from").fill("")


def sizes(page: Page) -> list[int]:
    """The shorter sides of the examples that are shown, px."""
    metas = page.locator("#matches .meta").all_inner_texts()
    return [min(map(int, re.findall(r"\d+", meta.split(" ")[0])[:2])) for meta in metas]


def test_a_bar_shows_its_examples(shown: Shown):
    page = shown.page
    bars = page.locator('svg[data-measure="side"] g[data-from]')
    spans = bars.evaluate_all("all => all.map(bar => [+bar.dataset.from, +bar.dataset.to])")
    place = next(n for n, (_, high) in enumerate(spans) if high == 256)
    bars.nth(place).locator(".hover").click()
    assert page.locator("#axis").input_value() == "side"
    low, high = spans[place]
    assert (low, high) == (241, 256)
    shown_sides = sizes(page)
    assert shown_sides
    assert all(low <= side <= high for side in shown_sides)
    all_sides = page.evaluate(
        "data.examples.map(pair => valueOn(pair, 'side')).filter(side => side)"
    )
    expected = [side for side in all_sides if low <= side <= high]
    assert page.locator("#matched").inner_text().startswith(f"{len(expected)} of ")
    for name in ("axis", "why"):
        page.locator(f"#{name}").select_option("")
    for name in ("from", "to"):
        page.locator(f"#{name}").fill("")


# ---- Two sets compared --------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The comparison of two datasets; one has texts that mean harm, and a key that is none."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("a", "b"))
    own = put_shard(str(first), 0, 6)
    put_shard(str(second), 1, 3)
    sidecar = first / "shards/00000.parquet"
    rows = pq.read_table(sidecar).to_pylist()
    for row, text in zip(rows, HOSTILE, strict=False):
        row["caption"] = text
    nameless = rows[0] | {"key": None}
    put_table(str(sidecar), pa.Table.from_pylist([*rows, nameless], SHARD_SCHEMA))
    whys = [("opted_out", "noai_header"), ("too_small", None), (f"<b>{PROBE}</b>", None)]
    dropped = [
        {"key": key, "url": "http://h/", "caption": "", "reason": reason, "detail": detail}
        for key, (reason, detail) in zip(own, whys, strict=False)
    ]
    put_table(f"{second}/rejected/images-00001.parquet", pa.Table.from_pylist(dropped, REJECTED))
    path = first / "compare.html"
    write_comparison(str(first), str(second), str(path))
    return path


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1400, "dark")])
def test_the_comparison_runs_and_loads_nothing_and_axe_is_content(
    browser: Browser, compared: Path, width: int, scheme: Any
):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(compared.as_uri())
    assert page.evaluate("document.documentElement.dataset.hacked") is None
    assert [url for url in asked if not url.startswith("data:image/jpeg")] == [compared.as_uri()]
    assert said == []
    assert page.locator("script").count() == 0
    assert "\u202e" not in page.content()
    assert "6 pairs that A keeps and B does not" in page.locator("body").inner_text()
    cards_of = page.locator("section:has(h2:text('Only in A')) .card")
    opted_out = cards_of.filter(has_text="opted_out")
    assert (cards_of.count(), opted_out.count(), opted_out.locator("img").count()) == (6, 1, 0)
    assert cards_of.locator("img").count() == 5
    assert "script-src 'sha256-" in page.locator("meta[http-equiv]").get_attribute("content")  # type: ignore[operator]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
    page.close()
