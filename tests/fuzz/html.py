"""Tag soup: nothing unforeseen, and no image that libxml2's tree has not."""

from __future__ import annotations

from random import Random

from lxml import etree

from alignset.transforms.pages.archives import Broken
from alignset.transforms.pages.http_pages import Page
from alignset.transforms.pages.page_images import images_of

TOKENS = (
    b"<|>|/|!|-|--|=|'|\"| |\n|a|\x00|\xff|<!--|-->|--!>|<!-->|<!|<?|</|<![CDATA[|]]>|&#65|"
    b"&lt;|<img |<img src=a alt=b>|<IMG\nalt='c'|<img alt=d srcset='e 2x, f'>|</img>|<picture>|"
    b"</picture>|<picture><source srcset=g>|<source/>|<img alt=h>|<base href=/i/>|"
    b"<link rel=canonical href=http://j.example/k>|<link>|<p>|<script>|<script|</script>|"
    b"</script|<style>|</style>|<title>|</title>|<textarea>|</TEXTAREA\t|<noembed>|<iframe>|"
    b"</iframe/|<svg>|</svg>|<svg/>|<math>|<plaintext>|<abcdefghijk|<xmp>|</p>|<g>|</g>|<b>|"
    b"</b>|<foreignObject>|</foreignObject>|<desc>|</desc>|<mi>|</mi>|<mglyph>|"
    b"<image src=p alt=q>|<font>|</math>|<font color=r>|<annotation-xml>|"
    b"<annotation-xml encoding=text/html>|<div>|</div>|<meta name=robots content=noai>|"
    b"<a rel=license href=s>|</a>|srcset=| alt=l| src=m.png| data-src=n|1x,|(o|,|"
    b"a text of words"
).split(b"|")


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
