"""Tag soup: the tokenizer's kernel against expressions of the HTML standard's states, and pages
that are read together against each alone."""

from __future__ import annotations

import re
from collections import Counter
from itertools import takewhile
from random import Random

import numpy as np

from alignset.transforms.pages.archive_members import Broken
from alignset.transforms.pages.foreign_content import COUNTERS
from alignset.transforms.pages.html_tags import picked_tags, pieces
from alignset.transforms.pages.html_tokens import name_at
from alignset.transforms.pages.http_pages import Page
from alignset.transforms.pages.page_images import images_of, tags_of

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

SPACE, END = rb"[ \t\n\f\r]", rb"[ \t\n\f\r/>]"
VALUE = rb"(?:\"[^\"]*+\"|'[^']*+'|(?![\"'])[^ \t\n\f\r>]*+)"
NAME = rb"[^ \t\n\f\r/>][^ \t\n\f\r/>=]*+"
ATTRIBUTE = NAME + SPACE + rb"*+(?:=" + SPACE + rb"*+" + VALUE + rb"|(?!=))"
TAG = re.compile(
    rb"<(/?)([a-zA-Z][^ \t\n\f\r/>]*+)((?:[ \t\n\f\r/]++|" + ATTRIBUTE + rb")*+)>", re.S
)
COMMENT = re.compile(rb"<!--(?:-?>|.*?(?:--!?>|\Z))", re.S)
CDATA = re.compile(rb"<!\[CDATA\[.*?(?:\]\]>|\Z)", re.S)
ATTRIBUTES = re.compile(
    rb"[ \t\n\f\r/]*+(" + NAME + rb")(?:" + SPACE + rb"*+=" + SPACE + rb"*+(" + VALUE + rb"))?+"
)
BREAKOUTS = frozenset(
    b"b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li"
    b" listing menu meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var"
    b"".split()
)
CHILDLESS = frozenset(b"img image source base link meta br".split())
BOGUS = re.compile(rb"<(?:[!?]|/(?=[^a-zA-Z]))[^>]*>?", re.S)
RAW = (
    *(b"script", b"style", b"textarea", b"title", b"xmp", b"iframe", b"noembed", b"noframes"),
    b"plaintext",
)
SCRIPT = re.compile(rb"<!--|-->|<(/?)script(?=" + END + rb")", re.I)


def counter(name: bytes) -> int:
    """Which counter a name has; few names share one."""
    return int(name_at(np.frombuffer(name, np.uint8), 0, len(name))[1]) % COUNTERS


class Elements:
    """What is open within `svg` and `math`, as the standard has it, and what is open around it."""

    def __init__(self) -> None:
        self.stack: list[tuple[bytes, str]] = []
        self.around: Counter[int] = Counter()

    @property
    def kind(self) -> str:
        return self.stack[-1][1] if self.stack else "html"

    def opens(self, name: bytes, text: bytes) -> bool:
        """Whether a start tag is HTML."""
        found = list(ATTRIBUTES.finditer(text))
        attributes = {match[1].lower(): match[2] or b"" for match in reversed(found)}
        childless = text[found[-1].end() if found else 0 :].endswith(b"/")
        if not self._html_is_expected(name):
            if not (
                name in BREAKOUTS
                or (name == b"font" and attributes.keys() & {b"color", b"face", b"size"})
            ):
                kind = self._foreign_kind(name, attributes.get(b"encoding", b""))
                self.stack += [] if childless else [(name, kind)]
                return False
            self._break_out()
        if name in (b"svg", b"math"):
            self.stack += [] if childless else [(name, name.decode())]
        elif name not in CHILDLESS and self.stack:
            self.stack.append((name, "html"))
        elif name not in CHILDLESS:
            self.around[counter(name)] += 1
        return True

    def _html_is_expected(self, name: bytes) -> bool:
        if self.kind == "math text":
            return name not in (b"mglyph", b"malignmark")
        return self.kind in ("html", "point") or (self.kind == "annotation" and name == b"svg")

    def _foreign_kind(self, name: bytes, encoding: bytes) -> str:
        if self.kind == "svg":
            return "point" if name in (b"foreignobject", b"desc", b"title") else "svg"
        if name in (b"mi", b"mo", b"mn", b"ms", b"mtext"):
            return "math text"
        if name != b"annotation-xml":
            return "math"
        return "point" if encoding.strip(b"\"'").lower() == b"text/html" else "annotation"

    def _break_out(self) -> None:
        while self.kind in ("svg", "math", "annotation"):
            self.stack.pop()

    def closes(self, name: bytes) -> bool:
        """Whether an end tag is HTML."""
        if self.kind != "html" and name in (b"p", b"br"):
            self._break_out()
            return True
        foreign = list(takewhile(lambda element: element[1] != "html", reversed(self.stack)))
        for at, (other, _) in enumerate(foreign, 1):
            if other == name:
                del self.stack[-at:]
                return False
        if not {kind for _, kind in foreign} <= {"svg", "math"}:
            return False
        rest = self.stack[: len(self.stack) - len(foreign)]
        while rest and rest[-1][1] == "html":
            if rest.pop()[0] == name:
                self.stack = rest
                return True
        if rest:
            return False
        if self.around[counter(name)]:
            self.around[counter(name)] -= 1
            self.stack = []
        return True


def reference(page: bytes, links: bool) -> bytes:
    """The wanted tags, by expressions."""
    wanted = {b"img", b"image", b"source", b"picture", b"base"} | ({b"link"} if links else set())
    tags, at, elements = [], 0, Elements()
    while (at := page.find(b"<", at)) >= 0:
        if after := markup_end(page, at, elements.kind != "html"):
            at = after
            continue
        if not (tag := TAG.match(page, at)):
            break  # the page ends within it
        at, name = tag.end(), tag[2].lower()
        if tag[1]:
            tags += [tag[0]] if elements.closes(name) and name == b"picture" else []
        elif elements.opens(name, tag[3]):
            tags += [tag[0]] if name in wanted else []
            at = raw_text_end(page, at, name) if name in RAW else at
    return b"".join(tags)


def markup_end(page: bytes, at: int, foreign: bool) -> int:
    """Where what begins at `<` ends, if that is not a tag; else 0."""
    if page.startswith(b"<!--", at):
        match = COMMENT.match(page, at)
    elif foreign and page.startswith(b"<![CDATA[", at):
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
