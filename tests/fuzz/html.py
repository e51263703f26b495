"""Tag soup: nothing unforeseen, and no image that libxml2's tree has not."""

from __future__ import annotations

from random import Random

from lxml import etree

from alignset.transforms.pages.archives import Broken
from alignset.transforms.pages.http_pages import Page
from alignset.transforms.pages.page_images import images_of

TOKENS = [
    *(b"<", b">", b"/", b"!", b"-", b"--", b"=", b"'", b'"', b" ", b"\n", b"a", b"\x00", b"\xff"),
    *(
        *(b"<!--", b"-->", b"--!>", b"<!-->", b"<!", b"<?", b"</", b"<![CDATA[", b"]]>", b"&#65"),
        b"&lt;",
    ),
    *(b"<img ", b"<img src=a alt=b>", b"<IMG\nalt='c'", b"<img alt=d srcset='e 2x, f'>", b"</img>"),
    *(b"<picture>", b"</picture>", b"<picture><source srcset=g>", b"<source/>", b"<img alt=h>"),
    *(b"<base href=/i/>", b"<link rel=canonical href=http://j.example/k>", b"<link>", b"<p>"),
    *(b"<script>", b"<script", b"</script>", b"</script", b"<style>", b"</style>", b"<title>"),
    *(b"</title>", b"<textarea>", b"</TEXTAREA\t", b"<noembed>", b"<iframe>", b"</iframe/"),
    *(
        *(b"<svg>", b"</svg>", b"<svg/>", b"<math>", b"<plaintext>", b"<abcdefghijk", b"<xmp>"),
        b"</p>",
    ),
    *(b"<g>", b"</g>", b"<b>", b"</b>", b"<foreignObject>", b"</foreignObject>", b"<desc>"),
    *(b"</desc>", b"<mi>", b"</mi>", b"<mglyph>", b"<image src=p alt=q>", b"<font>", b"</math>"),
    *(b"<font color=r>", b"<annotation-xml>", b"<annotation-xml encoding=text/html>", b"<div>"),
    *(b"</div>", b"<meta name=robots content=noai>", b"<a rel=license href=s>", b"</a>"),
    *(
        *(b"srcset=", b" alt=l", b" src=m.png", b" data-src=n", b"1x,", b"(o", b","),
        b"a text of words",
    ),
]


def soup(random: Random) -> bytes:
    """Of a few kinds of tokens mostly, so that they meet."""
    few = random.choices(TOKENS, k=random.randint(1, 8))
    parts = [random.choice(few if random.random() < 0.8 else TOKENS) for _ in range(40)]
    page = bytearray(b"".join(parts[: random.randint(0, 40)]))
    for _ in range(random.choice([0, 0, 0, 1, 3])):
        if page:
            page[random.randrange(len(page))] = random.randrange(256)
    return bytes(page)


def check(random: Random) -> None:
    body, charset = (
        soup(random),
        random.choice(["", "utf-16le", "shift_jis", "iso-2022-jp", "utf-8"]),
    )
    page = Page(random.choice(["http://a.example/b/", "", "no URL"]), body, charset)
    found = list(images_of(page))
    assert not any(isinstance(image, Broken) for image in found), (page, found)
    texts = {image.text for image in found}
    if charset == "utf-8":
        parser = etree.HTMLParser(encoding="utf-8", huge_tree=True)
        tree = etree.fromstring(body.decode("utf-8", "replace").encode() or b"<p>", parser)
        in_tree = [] if tree is None else tree.iter("img", "image")
        assert texts <= {image.get("alt") for image in in_tree}, page
