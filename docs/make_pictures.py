"""Makes every raster image of the pages from this version's report and search page.

  alignset demo --output=DEMO
  python docs/make_pictures.py DEMO TUTORIAL

TUTORIAL is the folder in which all commands of docs/tutorial.md were run. docs/pictures.json gets
the numbers that each picture shows, and a test compares them with the captions. It needs Chromium
and the dev extra.
"""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).resolve().parent
CHROMIUM = "/usr/bin/chromium"
MOST_BYTES = 600_000
SET_SLIDER = """([id, value]) => {
  const slider = document.getElementById(id);
  slider.value = value;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
  const command = document.querySelector(".outcome pre");
  command.textContent = command.textContent.replace(/--input=\\S+/, "--input=OUT");
}"""
SCROLL = "(id) => document.getElementById(id).scrollIntoView({behavior: 'instant'})"
SIDE = "rule-min_image_side"
LOADED = """[...document.querySelectorAll("#results img")].every((image) =>
  image.complete || image.getBoundingClientRect().top > innerHeight)"""

Frames = list[tuple[Image.Image, int]]  # each with its time in ms


@contextmanager
def served(index: Path) -> Iterator[str]:
    """The address of the search page of an index."""
    command = [sys.executable, "-m", "alignset", "search", "serve", str(index), "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            lines = (re.search(r"http://\S+", line) for line in server.stdout)
            yield next(found[0] for found in lines if found)
        finally:
            server.terminate()


def shot(page: Page, **options: object) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")


def write(name: str, frames: Frames, quality: int = 80) -> None:
    """Writes a WebP file, a moving one of several frames.

    Raises:
      SystemExit: it is too large for a page.
    """
    (first, _), *others = frames
    moving = {"save_all": True, "append_images": [image for image, _ in others], "loop": 0}
    moving |= {"duration": [ms for _, ms in frames], "minimize_size": True} if others else {}
    path = DOCS / name
    first.save(path, quality=quality, method=6, **(moving if others else {}))
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{name} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


def search(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")
    page.wait_for_load_state("networkidle")
    page.wait_for_function(LOADED)
    page.wait_for_timeout(500)  # the images fade in


def kept_pairs(page: Page) -> int:
    """How many pairs the first sliders' outcome says."""
    return int(re.sub(r"\D", "", page.inner_text(".outcome .big")))


def moving_report(page: Page, folder: Path, address: str) -> tuple[Frames, list[int]]:
    """A slider of the report is moved, then a text is searched for; counts before and after."""
    page.set_viewport_size({"width": 900, "height": 700})
    page.goto((folder / "report.html").as_uri())
    frames = [(shot(page), 1500)]
    page.evaluate(SCROLL, "thresholds")
    own = int(page.input_value(f"#{SIDE}"))
    counts = [kept_pairs(page)]
    frames += [(shot(page), 1000)]
    for value in range(own - 1, own - 5, -1):
        page.evaluate(SET_SLIDER, [SIDE, value])
        frames += [(shot(page), 350)]
    counts += [kept_pairs(page)]
    frames[-1] = (frames[-1][0], 1600)
    page.select_option("#near-rule", "min_image_side")
    page.evaluate(SCROLL, "near-rule")
    frames += [(shot(page), 2000)]
    page.goto(address)
    search(page, "a cup of coffee")
    return [*frames, (shot(page), 2500)], counts


def main(demo: Path, tutorial: Path) -> None:
    seen: dict[str, list[int]] = {}
    out = tutorial / "OUT"
    with sync_playwright() as playwright, served(tutorial / "INDEX") as address:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light", bypass_csp=True)
        frames, seen["demo.webp"] = moving_report(page, out, address)
        write("demo.webp", frames, 75)
        page.set_viewport_size({"width": 960, "height": 660})
        search(page, "a cup of coffee")
        write("tutorial/search.webp", [(shot(page), 0)])
        page.fill("#refinement", "an orange flower in the garden")
        page.click("#plus")
        search(page, "a cup of coffee")
        write("search.webp", [(shot(page), 0)])
        reports = {"report.webp": (demo / "set", 1400), "tutorial/report.webp": (out, 660)}
        for name, (folder, height) in reports.items():
            page.set_viewport_size({"width": 960, "height": height})
            page.goto((folder / "report.html").as_uri())
            write(name, [(shot(page), 0)])
            steps = json.loads((folder / "funnel.json").read_text())["steps"]
            seen[name] = [steps[-1]["kept"], steps[0]["seen"]]
        for name, width in {"look": 960, "copy": 480}.items():
            page.set_viewport_size({"width": width, "height": 100})
            page.goto((tutorial / f"{name}.html").as_uri())
            write(f"tutorial/{name}.webp", [(shot(page, full_page=True), 0)])
        browser.close()
    curve = Image.open(tutorial / "RUNS" / "a" / "curve.png").convert("RGB")
    write("tutorial/curve.webp", [(curve, 0)])
    (DOCS / "pictures.json").write_text(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
