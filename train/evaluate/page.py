"""What a task found: numbers for the line of JSON, and one HTML file with them and some images."""

import base64
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from alignset.train.data.images import decode_image
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError
from alignset.train.evaluate.bootstrap import Interval
from alignset.train.evaluate.task_table import TaskSettings

_THUMBNAIL = 192  # px
_LONGEST_LINE = 300  # characters of a text


class Card(NamedTuple):
    """An image and what is said of it.

    Attributes:
      identity: the SHA-256 of its file; empty: there is no image.
      lines: the first is its title.
      right: whether the model was right; None: that is not what it is about.
    """

    identity: bytes
    lines: tuple[str, ...]
    right: bool | None = None


class Section(NamedTuple):
    title: str
    cards: list[Card]


@dataclass
class TaskResult:
    """The result of one task.

    Attributes:
      result: what is printed, besides what every task says.
      sections: the page's.
      files: goes through the files of the dataset's images again, for the page.
    """

    result: dict[str, Any]
    sections: list[Section] = field(default_factory=list)
    files: Callable[[], Iterable[bytes]] = tuple


def percent(share: float) -> float:
    return round(100 * share, 3)


def percents(interval: Interval) -> list[float]:
    """An interval, in percent, as JSON has it."""
    return [percent(end) for end in interval]


def check_page(page: str) -> None:
    """Raises SettingsError where a page can't be written, before anything takes time."""
    if not page:
        return
    folder = Path(page).parent
    if Path(page).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SettingsError(
            f"--page={page} can't be written: name a file in a folder that can be written to"
        )


def write_page(settings: TaskSettings, result: dict[str, Any], outcome: TaskResult) -> None:
    """Writes the file, whole or not at all."""
    cards = (card for section in outcome.sections for card in section.cards)
    missing = {card.identity for card in cards} - {b""}
    pictures: dict[bytes, str] = {}  # data: URLs
    for data in outcome.files() if missing else ():
        if (identity := hashlib.sha256(data).digest()) in missing:
            small = decode_image(data).copy()
            small.thumbnail((_THUMBNAIL, _THUMBNAIL))
            small.save(buffer := io.BytesIO(), "JPEG", quality=80)
            encoded = base64.b64encode(buffer.getvalue()).decode()
            pictures[identity] = f"data:image/jpeg;base64,{encoded}"
            missing.remove(identity)
        if not missing:
            break
    template = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(template).render(
        right=settings.right,
        result=result,
        numbers=numbers(outcome.result, outcome.result.get("intervals", {})),
        sections=outcome.sections,
        pictures=pictures,
        marks={True: "right", False: "wrong", None: ""},
        longest=_LONGEST_LINE,
    )
    write_whole(Path(settings.page), html)


def numbers(
    values: dict[str, Any], intervals: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Each number of a tree by its path, with its interval, where it has one."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numbers(value, intervals.get(name, {}), f"{path}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            interval = "to".join(f" {end:g} " for end in intervals.get(name, ()))
            yield f"{path}{name}", f"{value:g}", interval
