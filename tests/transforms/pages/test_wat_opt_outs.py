"""Which records of a WAT are parsed for the opt-outs that they may state."""

import pytest

from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.wat_links import ODD, PAGE, look
from tests.transforms.pages.test_wat import USUAL, compact, member, page

DIRECTIVES = OptOutSettings().page_directives


@pytest.mark.parametrize(
    ("content", "odd"),
    [
        *(("noai", True), ("NoImageAI", True), ("noindex", False), ("none", False)),
        *(("no&#97;i", True), ("&#78;oai", True), ("no&#x61;i", True), ("no&#X0061i", True)),
        *(
            ("&#45;", True),
            ("&#x5f;", True),
            ("&#57;", False),
            ("&#039;", False),
            ("&#x27;", False),
        ),
        *(("&#8217;", False), ("&#160;", False), ("&amp;", False), ("&", False), ("&#", False)),
        *(("&#x", False), ("&#0000000000000000000097;", True), ("&#99999999999999999999;", False)),
        *(("&#64;&#91;&#96;&#123;", False), ("&#x41;", True), ("&#122;", True), ("no", False)),
    ],
)
def test_a_page_that_may_state_an_opt_out_is_parsed(content: str, odd: bool):
    whole = member(compact(page(USUAL, Head={"Metas": [{"name": "robots", "content": content}]})))
    assert look([whole], DIRECTIVES).kinds.tolist() == [ODD if odd else PAGE]
    behind = page([*USUAL, {"path": "A@/href", "url": "x", "text": content}], Head={"Title": "x"})
    assert look([member(compact(behind))], DIRECTIVES).kinds.tolist() == [PAGE]


@pytest.mark.parametrize(
    ("directives", "content", "odd"),
    [
        ({"noindex"}, "noindex", True),
        ({"noindex"}, "none", True),
        ({"nofollow"}, "NONE", True),
        ({"noindex"}, "noai", False),
        ({"d" * 40}, "D" * 40, True),
        ({"d" * 40}, "d" * 20, False),
        ({"no_ai"}, "no&lowbar;ai", True),
        ({"no_ai"}, "no&UnderBar;ai", True),
        (set(), "noai", False),
        (set(), "tdm-reservation", True),
    ],
)
def test_the_directives_that_are_sought(directives: set[str], content: str, odd: bool):
    whole = member(compact(page(USUAL, Head={"Metas": [{"name": "robots", "content": content}]})))
    kinds = look([whole], frozenset(directives)).kinds
    assert kinds.tolist() == [ODD if odd else PAGE]
