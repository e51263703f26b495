"""The report's files, written."""

from __future__ import annotations

from alignset.pipeline.datasets.facts import find_facts
from alignset.pipeline.report.page import render_page
from alignset.transforms.storage.files import write_atomically

REPORT = "report.html"


def write_report(out: str, path: str = "") -> str:
    """Writes the report of a set; returns where it is.

    Args:
      path: where it goes; beside the set where it is empty.

    Raises:
      UsageError: there is no such set.
    """
    place = out if path else ""
    path = path or f"{out.rstrip('/')}/{REPORT}"
    page = render_page(find_facts(out), place).encode("utf-8", "replace")
    write_atomically(path, lambda sink: sink.write(page))
    return path
