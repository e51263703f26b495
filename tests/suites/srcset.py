"""Images of a `srcset`: the cases of parse-srcset, which are of the web platform tests, and what it
says of each."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from alignset.transforms.pages.page_images import srcset_candidates
from tests.suites.case import Case
from tests.suites.packages import by_node, unpacked

_SRCSET = re.compile(r"srcset: *'((?:[^'\\]|\\.)*)'")
# A candidate with only a height is one of no width and no density, as in browsers.
_PARSE = """
import { createRequire } from "node:module"
const parse = createRequire(import.meta.url)("@fisker/parse-srcset")
(srcset) => parse(srcset).map((one) => [one.w ?? one.d ?? 1, one.url])
"""


def cases() -> Iterator[Case]:
    """Yields a case for each `srcset`: its candidates."""
    text = (unpacked("@fisker/parse-srcset") / "tests" / "unit" / "ps.js").read_text("utf-8")
    literals = (found.replace("\\\\", "\\") for found in _SRCSET.findall(text))
    found = list(dict.fromkeys(map(html.unescape, literals)))
    for srcset, theirs in zip(
        found, by_node(_PARSE, ("@fisker/parse-srcset",), found), strict=True
    ):
        ours = [*srcset_candidates(srcset)]
        yield Case(srcset, [tuple(one) for one in theirs], [(size, url) for size, url in ours])
