"""The documents' texts as templates of jinja2: the `.j2` files of this folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from alignset.pipeline.datasets.sizes_and_days import as_code
from alignset.pipeline.shown_texts import counted


@cache
def template(name: str) -> jinja2.Template:
    """The template in a file; it knows `n`, `counted` and `code`."""
    documents = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
    )
    documents.globals |= {"n": "{:,}".format, "counted": counted, "code": as_code}
    return documents.get_template(name)
