"""Which tags are HTML in and behind SVG and MathML."""

import pytest

from alignset.transforms.pages.html_tags import picked_tags

IMG = "<img src=a>"
RAW = f"<textarea>{IMG}</textarea>"  # of which the image counts in foreign content alone
BREAKOUTS = (
    *("b", "big", "blockquote", "body", "br", "center", "code", "dd", "div", "dl", "dt", "em"),
    *("embed", "h1", "h2", "h3", "h4", "h5", "h6", "head", "hr", "i", "img", "li", "listing"),
    *("menu", "meta", "nobr", "ol", "p", "pre", "ruby", "s", "small", "span", "strong", "strike"),
    *("sub", "sup", "table", "tt", "u", "ul", "var"),
)


def is_foreign(page: str) -> bool:
    """Whether foreign content goes on behind a page: where it does, raw text is not a raw text."""
    picked = picked_tags(f"{page}{RAW}".encode()).images.decode()
    assert picked in (IMG, "")
    return picked == IMG


@pytest.mark.parametrize(
    ("page", "foreign"),
    [
        ("", False),
        ("<svg>", True),
        ("<SVG a='>'>", True),
        ("<svg/>", False),
        ("<svg></svg>", False),
        ("<svg><g></svg>", False),
        ("<svg><g></g>", True),
        ("<svg><svg></svg>", True),
        ("<svg></g>", True),
        ("<svg></math>", True),
        ("<svg><math></svg>", False),
        ("<math>", True),
        ("<math/>", False),
        ("<math></math>", False),
        ("<svgs>", False),
        # Elements that are open around it end it, and others do not.
        ("<div><svg></div>", False),
        ("<div></div><svg></div>", True),
        ("<svg></div>", True),
        ("<button><svg><g><path></button>", False),
        ("<br><svg></br>", False),
        ("<svg></p>", False),
        ("<svg></body>", True),
        ("<body><svg></body>", True),
        # `font` by its attributes.
        ("<svg><font>", True),
        ("<svg><font x=color>", True),
        ("<svg><font color>", False),
        ("<svg><font a=b FACE=c>", False),
        ("<svg><font size=1>", False),
        # Tags that do not break out.
        *((f"<svg><{name}>", True) for name in ("a", "image", "input", "form", "html", "source")),
        # Integration points of SVG.
        ("<svg><foreignObject>", False),
        ("<svg><FOREIGNOBJECT>", False),
        ("<svg><desc>", False),
        ("<svg><title>", False),
        ("<svg><title/>", True),
        ("<svg><title></title>", True),
        ("<svg><foreignObject></foreignObject>", True),
        ("<svg><foreignObject></svg>", False),
        ("<svg><foreignObject><div></div></foreignObject>", True),
        ("<svg><foreignObject><div></foreignObject>", False),
        ("<svg><foreignObject><div></svg>", False),
        ("<svg><foreignObject><br><input></foreignObject>", True),
        ("<svg><foreignObject><svg>", True),
        ("<svg><foreignObject><svg></svg>", False),
        ("<svg><foreignObject><svg></svg></foreignObject>", True),
        ("<svg><foreignObject><svg></svg></foreignObject></svg>", False),
        ("<svg><foreignObject><p><svg></p>", False),
        ("<svg><foreignObject><i><svg><g></i></foreignObject>", True),
        ("<div><svg><desc><svg></div>", True),
        ("<foreignObject><svg>", True),
        ("<math><foreignObject>", True),
        ("<math><desc>", True),
        # Integration points of MathML.
        *((f"<math><{name}>", False) for name in ("mi", "mo", "mn", "ms", "mtext")),
        ("<svg><mi>", True),
        ("<math><mrow>", True),
        ("<math><mi><mglyph>", True),
        ("<math><mi><malignmark>", True),
        ("<math><mi><mglyph/>", False),
        ("<math><mi><svg>", True),
        ("<math><mi><svg></svg></mi>", True),
        ("<math><annotation-xml>", True),
        ("<math><annotation-xml encoding=text/plain>", True),
        ("<math><annotation-xml encoding=text/html>", False),
        ("<math><annotation-xml ENCODING='Text/HTML'>", False),
        ("<math><annotation-xml encoding=application/xhtml+xml>", False),
        ("<math><annotation-xml encoding=x encoding=text/html>", True),
        ("<math><annotation-xml encoding='text/html '>", True),
        ("<math><annotation-xml a=text/html>", True),
        ("<math><annotation-xml><svg><desc>", False),
        ("<math><svg><desc>", True),
        ("<svg><annotation-xml encoding=text/html>", True),
        # CDATA is there where the current element is foreign.
        ("<![CDATA[ <svg> ]]>", False),
        ("<svg><![CDATA[ </svg> ]]>", True),
        ("<svg><![CDATA[ <b> ]]]>", True),
        ("<svg><![CDATA[ <b> ]] > ]> ]]>", True),
        ("<svg><![cdata[ > </svg> ]]>", False),
        ("<svg><desc><![CDATA[ <b> ]]></desc>", True),
        ("<svg><desc><b><![CDATA[ > </b> ]]></desc>", True),
        # Raw text elements are none in foreign content.
        ("<svg><style></svg></style>", False),
        ("<svg><script></svg></script>", False),
        ("<svg><desc><style></svg></style>", False),
        ("<svg><desc><style></svg></style></desc></svg>", False),
        # Hundreds of open elements: `svg` stays the outermost.
        ("<svg>" + "<g>" * 10_000, True),
        ("<svg>" + "<g>" * 10_000 + "</svg>", False),
        ("<svg>" + "<g>" * 10_000 + "<b>", False),
    ],
)
def test_where_foreign_content_goes_on(page: str, foreign: bool):
    assert is_foreign(page) == foreign


@pytest.mark.parametrize("name", BREAKOUTS)
def test_start_tags_that_end_it(name: str):
    for page in (f"<svg><g><{name}>", f"<math><mrow><{name.upper()} a=b>", f"<svg/><{name}>"):
        assert picked_tags(f"{page}{RAW}".encode()).images.decode().replace("<img>", "") in (
            "",
            "<IMG a=b>",
        )
    assert is_foreign(f"<svg></{name}>") == (name not in ("p", "br"))


@pytest.mark.parametrize("tag", ["<source src=a>", "<base href=a>", "<image src=a>", "<picture>"])
def test_tags_of_foreign_elements_are_not_those_of_html(tag: str):
    assert picked_tags(f"<svg>{tag}</svg>".encode()).images == b""
    assert picked_tags(f"<svg><desc>{tag}</desc></svg>".encode()).images == tag.encode()
    assert picked_tags(f"<svg><b>{tag}</svg>".encode()).images == tag.encode()
