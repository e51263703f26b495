"""Tag soup: the tokenizer's kernel against expressions of the HTML standard's states, and pages
that are read together against each alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from transforms.pages.archive_members import Broken
from transforms.pages.html_tags import picked_tags, pieces
from transforms.pages.http_pages import Page
from transforms.pages.page_images import images_of, tags_of

TOKENS = [
    *(b"<", b">", b"/", b"!", b"-", b"--", b"=", b"'", b'"', b" ", b"\n", b"a", b"\x00", b"\xff"),
    *(
        b"<!--",
        b"-->",
        b"--!>",
        b"<!-->",
        b"<!",
        b"<?",
        b"</",
        b"<![CDATA[",
        b"]]>",
        b"&#65",
        b"&lt;",
    ),
    *(b"<img ", b"<img src=a alt=b>", b"<IMG\nalt='c'", b"<img alt=d srcset='e 2x, f'>", b"</img>"),
    *(b"<picture>", b"</picture>", b"<picture><source srcset=g>", b"<source/>", b"<img alt=h>"),
    *(b"<base href=/i/>", b"<link rel=canonical href=http://j.example/k>", b"<link>", b"<p>"),
    *(b"<script>", b"<script", b"</script>", b"</script", b"<style>", b"</style>", b"<title>"),
    *(b"</title>", b"<textarea>", b"</TEXTAREA\t", b"<noembed>", b"<iframe>", b"</iframe/"),
    *(
        b"<svg>",
        b"</svg>",
        b"<svg/>",
        b"<math>",
        b"<plaintext>",
        b"<abcdefghijk",
        b"<xmp>",
        b"</p>",
    ),
    *(
        b"srcset=",
        b" alt=l",
        b" src=m.png",
        b" data-src=n",
        b"1x,",
        b"(o",
        b",",
        b"a text of words",
    ),
]

SPACE, END = rb"[ \t\n\f\r]", rb"[ \t\n\f\r/>]"
VALUE = rb"(?:\"[^\"]*+\"|'[^']*+'|(?![\"'])[^ \t\n\f\r>]*+)"
NAME = rb"[^ \t\n\f\r/>][^ \t\n\f\r/>=]*+"
ATTRIBUTE = NAME + SPACE + rb"*+(?:=" + SPACE + rb"*+" + VALUE + rb"|(?!=))"
TAG = re.compile(
    rb"<(/?)([a-zA-Z][^ \t\n\f\r/>]*+)((?:[ \t\n\f\r/]++|" + ATTRIBUTE + rb")*+)>", re.S
)
COMMENT = re.compile(rb"<!--(?:-?>|.*?(?:--!?>|\Z))", re.S)
CDATA = re.compile(rb"<!.*?(?:\]\]>|\Z)", re.S)
BOGUS = re.compile(rb"<(?:[!?]|/(?=[^a-zA-Z]))[^>]*>?", re.S)
RAW = (
    b"script",
    b"style",
    b"textarea",
    b"title",
    b"xmp",
    b"iframe",
    b"noembed",
    b"noframes",
    b"plaintext",
)
SCRIPT = re.compile(rb"<!--|-->|<(/?)script(?=" + END + rb")", re.I)


def reference(page: bytes, links: bool) -> bytes:
    """The wanted tags, by expressions."""
    wanted = {b"img", b"source", b"picture", b"base"} | ({b"link"} if links else set())
    tags, at, foreign = [], 0, False
    while (at := page.find(b"<", at)) >= 0:
        if after := markup_end(page, at, foreign):
            at = after
            continue
        if not (tag := TAG.match(page, at)):
            break  # the page ends within it
        at, closes, name = tag.end(), bool(tag[1]), tag[2].lower()
        if name in wanted:
            tags += [tag[0]] if not closes or name == b"picture" else []
            foreign = foreign and name != b"img"
        elif name in (b"svg", b"math"):
            foreign = not closes and not tag[3].endswith(b"/")
        elif not closes and not foreign and name in RAW:
            at = raw_text_end(page, at, name)
    return b"".join(tags)


def markup_end(page: bytes, at: int, foreign: bool) -> int:
    """Where what begins at `<` ends, if that is no tag; else 0."""
    if page.startswith(b"<!--", at):
        match = COMMENT.match(page, at)
    elif foreign and page.startswith(b"<![", at):
        match = CDATA.match(page, at)
    elif not re.match(rb"</?[a-zA-Z]", page[at : at + 3]):
        match = BOGUS.match(page, at) or re.compile(b"<").match(page, at)
    else:
        match = None
    return match.end() if match else 0


def raw_text_end(page: bytes, at: int, name: bytes) -> int:
    if name == b"plaintext":
        return len(page)
    if name != b"script":
        end = re.compile(rb"</" + name + rb"(?=" + END + rb")", re.I).search(page, at)
        return end.start() if end else len(page)
    escaped = nested = False
    while event := SCRIPT.search(page, at):
        at = event.end()
        if event[0] == b"<!--":
            at = event.start() + 2 if not escaped else at - 2
            escaped = True
        elif event[0] == b"-->":
            escaped = nested = False
        elif not event[1]:
            nested = escaped
        elif nested:
            nested = False
        else:
            return event.start()
    return len(page)


def soup(random: Random) -> bytes:
    """Of a few kinds of tokens mostly, so that they meet."""
    few = random.choices(TOKENS, k=random.randint(1, 8))
    parts = [random.choice(few if random.random() < 0.8 else TOKENS) for _ in range(40)]
    page = bytearray(b"".join(parts[: random.randint(0, 40)]))
    for _ in range(random.choice([0, 0, 0, 1, 3])):
        if page:
            page[random.randrange(len(page))] = random.randrange(256)
    return bytes(page)


def images(pages: list[Page]) -> list[tuple[str, str, str]]:
    images_and_faults = list(images_of([tags for page in pages for tags in tags_of(page)]))
    assert not any(isinstance(image, Broken) for image in images_and_faults), images_and_faults
    return [tuple(image) for image in images_and_faults]


def check(random: Random) -> None:
    bodies = [soup(random) for _ in range(4)]
    for body in bodies:
        links = random.random() < 0.5
        tags = picked_tags(body, links=links).images
        assert tags == reference(body, links), body
        assert picked_tags(tags, links=links).images == tags == b"".join(pieces(tags, least=20)), (
            body
        )
    urls = ["http://a.example/b/", "", "no URL", "https://c.example/?d#e"]
    charsets = ["", "utf-16le", "shift_jis", "latin1", "utf-8", "iso-2022-jp"]
    pages = [Page(random.choice(urls), body, random.choice(charsets)) for body in bodies]
    assert images(pages) == [image for page in pages for image in images([page])], bodies


def _within(before: bytes) -> Callable[[bytes], object]:
    return lambda body: picked_tags(before + body).images


def _pieces(body: bytes) -> None:
    b"".join(pieces(picked_tags(body, links=True).images, least=64))


PLACES = {"page": b"", "script": b"<script><!--", "style": b"<style>", "tag": b"<a b=c"}
STEPS = {name: (_within(before), TOKENS) for name, before in PLACES.items()}
STEPS["pieces"] = (_pieces, TOKENS)
