"""Images of pages: the pages of html5lib's tests, with two images put before each of their tags and
at their end. parse5 builds each tree, and its images must be ours."""

from __future__ import annotations

import re
from collections.abc import Iterator

from alignset.transforms.pages.archives import Broken
from alignset.transforms.pages.http_pages import Page
from alignset.transforms.pages.page_images import images_of
from tests.suites.case import Case
from tests.suites.packages import by_node, unpacked

_DATA = re.compile(r"^#data\n(.*?)\n#(?:errors|new-errors|document)", re.M | re.S)
_IMAGE = "<image src=http://a.test/2 alt=two><img src=http://a.test/1 alt=one>"
# As crawlers read pages: without scripts. Images in `template` are in a fragment of its own.
_PARSE5 = """
import { parse, html } from "parse5"
const name = (node, key) => node.attrs.find((one) => one.name === key)?.value ?? ""
const found = (node) => (node.tagName === "img" && node.namespaceURI === html.NS.HTML
  ? [[name(node, "src"), name(node, "alt")]] : []).concat(
  ...[...(node.childNodes ?? []), ...(node.content ? [node.content] : [])].map(found))
const used = ([src, alt]) => src.trim() && alt.trim()
(page) => found(parse(page, { scriptingEnabled: false })).filter(used)
"""


def pages() -> Iterator[str]:
    """Yields html5lib's pages of tree construction, and each with two images somewhere."""
    folder = unpacked("html5lib") / "html5lib" / "tests" / "testdata" / "tree-construction"
    for file in sorted(folder.glob("*.dat")):
        for page in _DATA.findall(file.read_text("utf-8")):
            yield page
            for place in [tag.start() for tag in re.finditer("<", page)] + [len(page)]:
                yield page[:place] + _IMAGE + page[place:]


def cases() -> Iterator[Case]:
    """Yields a case for each page: its images."""
    found = list(dict.fromkeys(pages()))
    trees = by_node(_PARSE5, ("parse5", "entities"), found)
    for page, theirs in zip(found, trees, strict=True):
        yield Case(page, sorted(map(tuple, theirs)), sorted(_images(page)))


def _images(page: str) -> Iterator[tuple[str, str]]:
    body = page.encode("utf-8", "surrogatepass")
    for image in images_of(Page("", body, "utf-8")):
        if isinstance(image, Broken):
            yield "", image.detail
        else:
            yield image.url, image.text
