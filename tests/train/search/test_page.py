"""The page in a real browser, and what the server is told when it begins."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from alignset.train.search.query import OpenedIndex
from tests.support.colour_search import (
    answer,
    drawn,
    index_of,
    picture_bytes,
    picture_folder,
    serving,
)
from tests.support.nginx import nginx
from tests.support.train_shards import COLOURS

expect.set_options(timeout=60_000)  # beside busy neighbours
PHONE, DESK, WIDE = (390, 844), (1280, 860), (2200, 1200)


@contextlib.contextmanager
def opened(
    browser: Browser, url: str, size: tuple[int, int] = DESK, **options: Any
) -> Iterator[Page]:
    """A page, of which every request goes to its own server and no error is left in the console."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    site = "/".join(url.split("/")[:3])
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.goto(url)
    yield page
    foreign = [u for u in requests if not u.startswith((site, f"blob:{site}"))]
    assert foreign == []
    refused = [error for error in errors if "status of 4" not in error]  # what a test provokes
    assert refused == []
    context.close()


def captions(page: Page) -> list[str]:
    return page.locator("#results .caption").all_inner_texts()


def search(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")
    expect(page.locator("#status")).to_contain_text("images, in")


def test_typing_finds_and_scrolling_loads_more(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        search(page, "green")
        expect(page.locator("#results li").nth(23)).to_be_visible()
        assert all("green" in caption for caption in captions(page)[:12])
        assert "text=green" in page.url
        total = len(answer(f"{site}/api/search?text=green&limit=100")[1]["results"])
        assert total > 80
        for _ in range(600):  # until all are there, however long the page takes for more
            page.mouse.wheel(0, 20_000)
            page.wait_for_timeout(100)
            if page.locator("#results li").count() >= total:
                break
        expect(page.locator("#results li")).to_have_count(total)
        expect(page.locator("#status")).to_contain_text(f"{total} images")
        first = page.locator("#results img").first
        assert first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_the_page_works_below_paths_of_a_proxy(browser: Browser, tmp_path: Path) -> None:
    index_of(picture_folder(tmp_path / "data", each=2), tmp_path / "index")
    index = OpenedIndex(tmp_path / "index")
    with (
        serving(index, root_path="/pics") as site,
        nginx(tmp_path, site.removesuffix("/pics")) as web,
    ):
        assert site.endswith("/pics")
        for path in ("/pics/", "/cut/", "/"):
            with opened(browser, web.url + path) as page:
                search(page, "green")
                assert page.url.startswith(f"{web.url}{path}?text=green")
                first = page.locator("#results img").first
                assert first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
                page.reload()
                expect(page.locator("#results li").first).to_be_visible()
                page.click("#home")
                expect(page.locator("#text")).to_have_value("")
                assert page.url == web.url + path


def test_the_page_has_no_axe_violations_and_fits_its_screen(browser: Browser, site: str) -> None:
    link = f"{site}/?text=red&text=a+quite+long+text+to+add+to+the+query&key=green/1"
    for size, scheme in ((DESK, "light"), (PHONE, "dark"), (WIDE, "light")):
        with opened(browser, link, size, color_scheme=scheme) as page:
            expect(page.locator("#status")).to_contain_text("images, in")
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
            assert page.locator("#results li").first.bounding_box()["width"] >= 100
            page.locator("#filters summary").click()
            result = Axe().run(page)
            assert result.violations_count == 0, result.generate_report()


def test_chips_add_and_take_away_with_weights(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        search(page, "red")
        page.fill("#refinement", "blue")
        page.click("#plus")
        expect(page.locator("#terms li")).to_have_count(1)
        expect(page.locator("#results li").first).to_be_visible()
        both = page.url
        assert "text=red" in both
        assert "text=blue" in both
        weight = page.get_by_label("Weight of blue")
        weight.fill("5")
        weight.press("Enter")
        expect(page.locator("#results .caption").first).to_contain_text("blue")
        page.fill("#refinement", "white")
        page.click("#minus")
        expect(page.locator("#terms li.away")).to_have_count(1)
        assert "text_weight=-1" in page.url
        page.get_by_label("Remove blue").click()
        expect(page.locator("#terms li")).to_have_count(1)
        page.go_back()
        expect(page.locator("#terms li")).to_have_count(2)
        weight = page.get_by_label("Weight of blue")
        weight.fill("0")
        weight.press("Enter")
        expect(page.locator("#status")).to_contain_text("other than 0")


def test_results_that_arrive_late_leave_what_is_typed(browser: Browser, site: str) -> None:
    with opened(browser, f"{site}/style.css") as page:
        held: list[Route] = []
        page.route(f"{site}/api/search?**", lambda route: held.append(route), times=1)
        page.goto(f"{site}/?text=green&key=green/1")
        weight = page.get_by_label("Weight of an image")
        weight.fill("0")
        weight.press("Enter")
        expect(page.locator("#status")).to_contain_text("other than 0")
        weight.press_sequentially("25")
        while not held:
            page.wait_for_timeout(20)
        held.pop().continue_()
        expect(page.locator("#results li").nth(5)).to_be_visible()
        expect(page.locator("#terms img")).to_have_count(1)  # the chip was drawn again
        expect(page.locator("#status")).to_contain_text("other than 0")
        expect(weight).to_have_value("125")
        expect(weight).to_be_focused()
        weight.fill("2")
        weight.press("Enter")
        expect(page.locator("#status")).to_contain_text("images, in")
        expect(weight).to_be_focused()
        weight.press("ArrowUp")  # a step of the field itself
        page.wait_for_url("**key_weight=2.25*")


def test_a_result_is_searched_from_and_a_link_brings_it_back(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        search(page, "yellow")
        page.evaluate("document.querySelector('#results li').dataset.old = ''")
        page.locator(".picture").nth(3).click()
        page.wait_for_url("**/?key=*")
        expect(page.locator("#results li[data-old]")).to_have_count(0)
        expect(page.locator("#terms img")).to_have_count(1)
        expect(page.locator("#results .caption").first).to_contain_text("yellow")
        first, link = captions(page), page.url
    with opened(browser, link) as page:
        expect(page.locator("#results li").nth(3)).to_be_visible()
        assert captions(page)[:24] == first[:24]


def test_a_picture_is_uploaded_dropped_and_pasted(browser: Browser, site: str) -> None:
    blue = picture_bytes(drawn(COLOURS["blue"], 12345), "PNG")
    with opened(browser, site) as page:
        page.set_input_files("#file", {"name": "mine.png", "mimeType": "image/png", "buffer": blue})
        expect(page.locator("#results .caption").first).to_contain_text("blue")
        link = page.url
        for event in ("drop", "paste"):
            page.goto(site)
            page.evaluate(
                """([event, bytes]) => {
                  const data = new DataTransfer();
                  data.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
                  const options = {bubbles: true, cancelable: true};
                  dispatchEvent(event === "drop"
                    ? new DragEvent(event, {...options, dataTransfer: data})
                    : new ClipboardEvent(event, {...options, clipboardData: data}));
                }""",
                [event, list(blue)],
            )
            expect(page.locator("#results .caption").first).to_contain_text("blue")
            assert page.url == link  # the same image
        search(page, "green")  # the image and a text, by their weights
        for value, colour in (("0.1", "green"), ("9", "blue")):
            weight = page.get_by_label("Weight of a.png")
            weight.fill(value)
            weight.press("Enter")
            page.wait_for_url(f"**picture_weight={value}")
            expect(page.locator("#results .caption").first).to_contain_text(colour)
    with opened(browser, link) as page:  # while the server runs
        expect(page.locator("#results .caption").first).to_contain_text("blue")


def test_captions_duplicates_and_unsafe_pictures(browser: Browser, site: str) -> None:
    with opened(browser, f"{site}/?text=red&caption=onerror") as page:
        expect(page.locator("#results li")).to_have_count(1)
        assert captions(page) == [
            "<img src=x onerror=alert(1)> red <script>document.title='owned'</script>"
        ]
        assert page.locator("#results a").count() == 0  # javascript: is not a link
        assert "owned" not in page.title()
    both = {"a red picture, number 1", "a red picture, once more"}
    with opened(browser, f"{site}/?key=red/1&caption=red+picture") as page:
        folded = page.locator("#results li", has_text="and 1 like it")
        expect(folded.first).to_be_visible()
        assert len(both & set(captions(page))) == 1
        page.check("#all")
        for caption in both:
            expect(page.get_by_text(caption, exact=True)).to_be_visible()
        expect(folded).to_have_count(0)
    with opened(browser, f"{site}/?text=pink&host=example.com") as page:
        picture = page.locator(".picture")
        expect(picture).to_have_class("picture unsafe")
        assert "blur" in picture.locator("img").evaluate("node => getComputedStyle(node).filter")
        page.get_by_role("button", name="Add this image to the query").click()
        page.wait_for_url("**key=x3*")
        expect(page.locator("#terms li")).to_have_count(1)
        # Nor is it shown as a part of the query.
        expect(page.locator("#terms img")).to_have_count(0)
        page.get_by_label("Remove pink and unsafe").click()
        expect(page.locator("#terms li")).to_have_count(0)
        picture.click()
        expect(picture).to_have_class("picture")
        assert "host=example.com" in page.url
        assert page.locator("#results a").get_attribute("rel") == "noopener noreferrer"
    for key, images in (("x3", 0), ("green/1", 1)):  # a link shows an image once it is safe
        with opened(browser, f"{site}/?key={key}") as page:
            expect(page.locator("#status")).to_contain_text("images, in")
            expect(page.locator("#terms li")).to_have_count(1)
            expect(page.locator("#terms img")).to_have_count(images)


def test_keys_are_enough(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        assert page.evaluate("document.activeElement.id") == "text"
        page.keyboard.press("/")  # as the page says, wherever one is
        assert page.locator("#text").input_value() == ""
        page.keyboard.type("black")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("images, in")  # the sample has gone
        expect(page.locator("#results li").nth(5)).to_be_visible()
        for _ in range(12):  # past the other buttons of the query
            if page.evaluate("document.activeElement.className") == "picture":
                break
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "picture"
        page.keyboard.press("Enter")
        page.wait_for_url("**/?key=*")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "text"


def test_the_page_tells_what_is_wrong(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        page.press("#text", "Enter")
        expect(page.locator("#status")).to_contain_text("The query is empty")
        svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
        page.set_input_files("#file", {"name": "a.svg", "mimeType": "image/svg+xml", "buffer": svg})
        expect(page.locator("#status")).to_contain_text("no image that can be opened")
        page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"})
        expect(page.locator("#status")).to_contain_text("That is not an image")
        page.goto(f"{site}/?text=red&min_side=99999")
        expect(page.locator("#status")).to_contain_text("Nothing fits these filters")
        page.goto(f"{site}/?key=gone")
        expect(page.locator("#status")).to_contain_text("no image 'gone'")
        page.goto(f"{site}/?picture=gone")
        expect(page.locator("#status")).to_contain_text("no longer has this image: pass it again")
        page.goto(site)
        page.locator("#filters summary").click()
        page.fill("#max_side", "80")
        search(page, "green")
        sizes = answer(f"{site}/api/search?text=green&max_side=80&limit=100")[1]["results"]
        assert {min(of["width"], of["height"]) for of in sizes} == {80}
        page.reload()
        expect(page.locator("#max_side")).to_have_value("80")
