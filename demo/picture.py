"""One image of a curated dataset: the funnel, and some pairs that were kept and dropped."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageDraw, ImageFont

from alignset.demo.compare import read_run

WIDTH, MARGIN = 1600, 40
THUMBNAIL = 150
COLUMNS = 5
BACKGROUND, INK, FAINT = "#ffffff", "#1f2933", "#7b8794"
KEPT, DROPPED = "#2b8a5f", "#c2453d"
ROW_HEIGHT = 34
# Reasons whose images a viewer can show, and which a look explains.
REASONS = (
    *("wrong_language", "too_few_words", "text_on_too_many_images", "rare_token"),
    *("image_with_too_many_texts", "too_small", "too_elongated", "evaluation_overlap"),
    *("duplicate_pair", "too_many_words"),
)


def _font(size: int, text: str = "") -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font for a text: Pillow's own, which has ASCII, or the system's for other letters."""
    if letters := sorted({f"{ord(c):x}" for c in text if not c.isascii() and c.isalpha()}):
        command = ["fc-match", "--format=%{file}", f"sans:charset={' '.join(letters)}"]
        with suppress(OSError, subprocess.SubprocessError):  # no fontconfig, or no file for Pillow
            file = subprocess.run(command, capture_output=True, timeout=10, check=True).stdout
            return ImageFont.truetype(file.decode(), size)
    return ImageFont.load_default(size)


def _path_of(url: str) -> str:
    try:
        return unquote(urlsplit(url).path).lstrip("/")
    except ValueError:
        return ""


def _image_of(url: str, site: Path) -> Image.Image | None:
    """The image that the web serves at a URL, or None where that is not a plain image."""
    try:
        with Image.open(site / _path_of(url)) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError):
        return None


def _examples(output: Path, site: Path) -> tuple[list[tuple], list[tuple]]:
    """(image, text, reason) of some kept pairs, of all parts of the web, and of a dropped one for
    each of REASONS."""
    # In an order that mixes the parts of the web, and is the same each time.
    rows = sorted(read_run(output), key=lambda row: sha256(row["url"].encode()).digest())
    kept, dropped = {}, {}
    for row in rows:
        reason, part = row["reason"], _path_of(row["url"]).partition("/")[0]
        missing = reason in REASONS and reason not in dropped
        if reason is None:
            missing = len(kept) < COLUMNS and (part, len(kept) // 2) not in kept
        if missing and (image := _image_of(row["url"], site)):
            if reason is None:
                kept[part, len(kept) // 2] = (image, row["caption"], "")
            else:
                dropped[reason] = (image, row["caption"], reason)
    return [*kept.values()], [dropped[reason] for reason in REASONS if reason in dropped]


def _lines(text: str, font: ImageFont.ImageFont, width: int, most: int) -> Iterator[str]:
    """A text in lines of a width; the last may be cut short."""
    line, words = "", text.split()
    for number in range(most):
        while words and font.getlength(f"{line} {words[0]}".strip()) <= width:
            line = f"{line} {words.pop(0)}".strip()
        if words and not line:
            line = words.pop(0)
        last = number == most - 1 and words
        yield f"{line} …" if last else line
        line = ""
        if not words:
            return


def _draw_funnel(draw: ImageDraw.ImageDraw, steps: list[dict], top: int) -> int:
    """Bars of what each step kept and dropped; returns where they end."""
    font, small = _font(20), _font(17)
    left, right = 260, 1060
    most = max(1, steps[0]["seen"])
    for step in steps:
        kept, seen = (int((right - left) * step[name] / most) for name in ("kept", "seen"))
        draw.text((MARGIN, top + 5), step["step"], INK, font)
        draw.rectangle((left, top + 4, left + kept, top + ROW_HEIGHT - 6), KEPT)
        if seen > kept:
            draw.rectangle((left + kept, top + 4, left + seen, top + ROW_HEIGHT - 6), DROPPED)
        draw.text((right + 12, top + 7), f"{step['kept']:,}", INK, small)
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in step["dropped"].items() if n)
        draw.text((right + 90, top + 7), reasons, FAINT, small)
        top += ROW_HEIGHT
    return top


def _draw_pairs(page: Image.Image, pairs: list[tuple], title: str, colour: str, top: int) -> int:
    """A grid of pairs; returns where it ends."""
    draw, small = ImageDraw.Draw(page), _font(18)
    draw.text((MARGIN, top), title, colour, _font(24))
    top += 42
    step = (WIDTH - 2 * MARGIN) // COLUMNS
    for number, (image, text, reason) in enumerate(pairs):
        x, y = MARGIN + step * (number % COLUMNS), top + (THUMBNAIL + 96) * (number // COLUMNS)
        image.thumbnail((THUMBNAIL * 1.6, THUMBNAIL))
        page.paste(image, (x, y))
        y += THUMBNAIL + 6
        if reason:
            draw.text((x, y), reason, colour, small)
            y += 24
        font = _font(16, text)
        for line in _lines(text, font, step - 20, 2):
            draw.text((x, y), line, INK, font)
            y += 20
    rows = -(-len(pairs) // COLUMNS)
    return top + (THUMBNAIL + 96) * rows


def draw_picture(output: Path, web: Path) -> Image.Image:
    """The image of a dataset that was made of the demo's web.

    Args:
      output: the dataset's folder. web: the demo's.
    """
    funnel = json.loads((output / "funnel.json").read_text())
    kept, dropped = _examples(output, web / "site")
    page = Image.new("RGB", (WIDTH, 2000), BACKGROUND)
    draw = ImageDraw.Draw(page)
    total = funnel["steps"][0]["seen"]
    title = f"{total:,} pairs of the demo's web, {funnel['pairs']:,} of them kept"
    draw.text((MARGIN, MARGIN), title, INK, _font(32))
    top = _draw_funnel(draw, funnel["steps"], MARGIN + 60)
    top = _draw_pairs(page, kept, "kept", KEPT, top + 26)
    top = _draw_pairs(page, dropped, "dropped, each with its reason", DROPPED, top + 10)
    return page.crop((0, 0, WIDTH, top + MARGIN // 2))
