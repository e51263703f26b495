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
    style, script = ((_FOLDER / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    hashes = [_base64(hashlib.sha256(text.encode()).digest()) for text in (style, script)]
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    )
    own = {"style": Markup(style), "script": Markup(script), "policy": Markup(policy)}
    return _environment().get_template(template).render(own, **values)


def macro(template: str, name: str) -> Callable[..., Markup]:
    """A macro of a template of this folder."""
    return getattr(_environment().get_template(template).module, name)


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()
