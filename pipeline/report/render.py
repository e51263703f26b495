"""Pages of HTML, each in one file: nothing in them is loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from alignset.pipeline.shown_texts import printable

_FOLDER = Path(__file__).parent / "page"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": "{:,}".format, "shown": printable, "base64": _base64}
    return environment


def render(template: str, **values: Any) -> str:
    """A page of this folder, with the style, the script and the policy that allows just these."""
    style, script = (_file(name) for name in ("report.css", "report.js"))
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    return (
        _environment()
        .get_template(template)
        .render(style=Markup(style), script=Markup(script), policy=Markup(policy), **values)
    )


def macro(template: str, name: str) -> Callable[..., Markup]:
    """A macro of a template of this folder."""
    return getattr(_environment().get_template(template).module, name)


def _file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()
