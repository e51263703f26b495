"""One HTML file with a task's numbers and some of its images. It needs nothing beside itself."""

import base64
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from alignset.train.data.images import decode_image
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError
from alignset.train.evaluate.task_result import TaskResult

_THUMBNAIL = 192  # px
_LONGEST_LINE = 300  # characters of a text


def check_page(page: str) -> None:
    """Raises SettingsError where a page can't be written, before anything takes time."""
    if not page:
        return
    folder = Path(page).parent
    if Path(page).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SettingsError(
            f"--page={page} can't be written: name a file in a folder that can be written to"
        )


def write_page(page: str, result: dict[str, Any], outcome: TaskResult) -> None:
    """Writes the file, whole or not at all."""
    places = {card.place for section in outcome.sections for card in section.cards}
    pictures = _pictures(outcome.files(), places - {-1})
    sections = [
        {
            "title": section.title,
            "cards": [
                {
                    "picture": pictures.get(card.place),
                    "lines": [line[:_LONGEST_LINE] for line in card.lines],
                    "alt": card.lines[0][:_LONGEST_LINE] if card.lines else "",
                    "mark": {True: "right", False: "wrong", None: ""}[card.right],
                }
                for card in section.cards
            ],
        }
        for section in outcome.sections
    ]
    template = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(template).render(
        result=result, numbers=numbers(result), sections=sections
    )
    write_whole(Path(page), html)


def numbers(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Each number of a result by its path, with its interval, where it has one."""
    intervals = dict(_leaves(result.get("intervals", {})))
    no_numbers = ("intervals", "bootstrap", "data")
    return [
        (
            " ".join(path),
            f"{value:g}",
            "to".join(f" {end:g} " for end in intervals.get(path, ())),
        )
        for path, value in _leaves({k: v for k, v in result.items() if k not in no_numbers})
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterable[tuple[Any, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _pictures(files: Iterable[bytes], places: set[int]) -> dict[int, str]:
    """Small ones of these places, as data: URLs."""
    pictures: dict[int, str] = {}
    for place, data in enumerate(files):
        if place in places:
            pictures[place] = thumbnail(decode_image(data))
        if len(pictures) == len(places):
            break
    return pictures


def thumbnail(image: Image.Image) -> str:
    """A small image as a data: URL."""
    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
