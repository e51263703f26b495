"""One HTML file with a task's numbers and some of its pictures. It needs nothing beside itself."""

import base64
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from alignset.train.data.images import decode_image
from alignset.train.errors import SettingsError
from alignset.train.evaluate.task_result import TaskResult

_THUMBNAIL = 192  # px
_LONGEST_LINE = 300  # characters of a text
_TEMPLATE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ result.task }}: {{ result.model.name }}</title>
<style>
  :root { color-scheme: light dark; --ink: #1d2733; --soft: #5c6875; --line: #d9dee4;
    --paper: #fbfbfa; --right: #1b7f4b; --wrong: #b3372b }
  @media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a0abb6;
    --line: #333c46; --paper: #14181d; --right: #5fc491; --wrong: #f08b80 } }
  body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem; color: var(--ink);
    background: var(--paper); font: 1rem/1.5 system-ui, sans-serif }
  h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .8rem }
  p { color: var(--soft); margin: .2rem 0 }
  table { border-collapse: collapse; margin-top: 1.2rem; font-variant-numeric: tabular-nums }
  th, td { text-align: left; padding: .3rem 1.6rem .3rem 0; border-top: 1px solid var(--line) }
  th { font-weight: 500 }
  ul { list-style: none; padding: 0; margin: 0; display: grid; gap: 1rem;
    grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)) }
  li { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem; min-width: 0;
    overflow-wrap: anywhere; font-size: .875rem }
  li img { display: block; width: 100%; height: 10rem; object-fit: contain; margin-bottom: .6rem }
  li b { display: block; font-weight: 600 } .right { color: var(--right) }
  .wrong { color: var(--wrong) }
</style>
<h1>{{ result.task }}</h1>
<p>{{ result.model.name }} ({{ result.model.kind }}, {{ result.model.sha256[:12] }})
{% if result.data.data %}on {{ result.data.data }}{% endif %}</p>
<table>
{% for name, value, interval in numbers %}
<tr><th>{{ name }}</th><td>{{ value }}</td><td>{{ interval }}</td></tr>
{% endfor %}
</table>
{% for section in sections %}
<h2>{{ section.title }}</h2>
<ul>
{% for card in section.cards %}
<li>{% if card.picture %}<img alt="{{ card.alt }}" src="{{ card.picture }}">{% endif %}
{% for line in card.lines %}{% if loop.first %}<b class="{{ card.mark }}">{{ line }}</b>
{% else %}<div>{{ line }}</div>{% endif %}{% endfor %}</li>
{% endfor %}
</ul>
{% endfor %}
</html>
"""


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
    wanted = {card.place for section in outcome.sections for card in section.cards}
    pictures = _pictures(outcome.files(), wanted - {-1})
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
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(_TEMPLATE).render(
        result=result, numbers=numbers(result), sections=sections
    )
    aside = Path(f"{page}.tmp")
    aside.write_text(html, encoding="utf-8", errors="replace")
    os.replace(aside, page)


def numbers(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Each number of a result by its path, with its interval, if it has one."""
    intervals = dict(_leaves(result.get("intervals", {})))
    return [
        (" ".join(path), f"{value:g}", "to".join(f" {end:g} " for end in intervals.get(path, ())))
        for path, value in _leaves(
            {k: v for k, v in result.items() if k not in ("intervals", "bootstrap", "data")}
        )
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterable[tuple[Any, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _pictures(files: Iterable[bytes], wanted: set[int]) -> dict[int, str]:
    """Small ones of these places, as data: URLs."""
    pictures: dict[int, str] = {}
    for place, data in enumerate(files):
        if place in wanted:
            pictures[place] = thumbnail(decode_image(data))
        if len(pictures) == len(wanted):
            break
    return pictures


def thumbnail(image: Image.Image) -> str:
    """A small picture as a data: URL."""
    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
