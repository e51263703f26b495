"""WAT records: the compiled walk finds the pairs that a parser of all of it finds, however the JSON
is written; and what is not JSON, or none of a WAT, harms nothing."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.archive_members import Broken
from alignset.transforms.pages.archives import read_records
from alignset.transforms.pages.page_counts import PageTally
from alignset.transforms.pages.page_images import FoundImage
from alignset.transforms.pages.wat import images_of_members, images_of_wat
from tests.support.page_archives import record

DIRECTIVES = OptOutSettings().page_directives

# The first four are usual.
URLS = [
    *("a.png", "/b.png", "../c.png", "https://d.example/e?f=1", "", " g.png", "data:,h", "//i"),
    *(
        *("j k", "l.png?m&amp;n", "o/../p", "http://[", "q\u00e9", "http://d.example", ".."),
        "IMG@/src",
    ),
]
TEXTS = [
    *(
        *("a dog", "\u72d7", "e", "</f>", "", " ", "\u00a0", "&eacute; &lt", 'says "b"', "c\\"),
        "d\n\te",
    ),
    *(
        '"path":"IMG@/src"',
        "Base",
        "IMG@/src",
        "\ud800",
        "\U0001f436",
        ",",
        ":",
        "{",
        "}",
        "g" * 70,
    ),
]
PAGES = [
    *("http://a.example/b/c", "https://a.example/", "http://a.example/e?f", "http://a.example/d/"),
    *("http://A.example", "", "http://a.example/e#g", "<http://a.example/d>", "no URL"),
    *("http://a.example/\u00e9", f"http://a.example/{'h' * 5000}/"),
]
PATHS = ["IMG@/src", "IMG@/src", "IMG@/src", "A@/href", "IMG@/srcset", "STYLE/#text", "img@/src"]
STATUSES = ["200", "200", "206", "203", "404", ""]


def one(random: Random, choices: list[str]) -> str:
    """Mostly a usual one."""
    return random.choice(choices[:4] if random.random() < 0.9 else choices)


def page(random: Random) -> dict[str, Any]:
    """What a WAT says of a page, mostly in Common Crawl's order."""
    links: list[Any] = [_link(random) for _ in range(random.choice([0, 1, 2, 3, 9]))]
    head = {"Title": one(random, TEXTS)} | ({"Base": "/base/"} if random.random() < 0.1 else {})
    html = {"Head": head, "Links": links}
    answer = {"Response-Message": {"Status": one(random, STATUSES)}}
    if random.random() < 0.2:  # as a server may name its fields
        answer["Headers"] = {random.choice(["Status", "X-Base", "Link"]): one(random, TEXTS)}
    answer |= {"HTML-Metadata": html} if random.random() < 0.9 else {}
    fields = {"WARC-Type": random.choice(["response"] * 5 + ["request", "warcinfo"])}
    fields["WARC-Target-URI"] = one(random, PAGES)
    payload = {"HTTP-Response-Metadata": answer}
    envelope = {"Format": "x", "WARC-Header-Metadata": fields, "Payload-Metadata": payload}
    return {"Container": {"Filename": "a"}, "Envelope": envelope}


def _link(random: Random) -> dict[str, Any]:
    link = {"path": one(random, PATHS), "url": one(random, URLS), "alt": one(random, TEXTS)}
    if random.random() < 0.2:
        link["width"] = one(random, TEXTS)
    if random.random() < 0.1:
        link.pop(random.choice(list(link)))
    if random.random() < 0.05:
        link[random.choice(["url", "alt", "more"])] = random.choice(
            [7, None, [], {"path": "IMG@/src"}]
        )
    return link


def written(value: Any, random: Random, odd: float) -> Iterator[str]:
    """The JSON of a value; so often with white space, escapes and an order as in no WAT."""
    blank = "".join(random.choices(" \t\r\n", k=2)) if random.random() < odd else ""
    if isinstance(value, dict):
        items = list(value.items())
        if random.random() < odd:
            random.shuffle(items)
        yield f"{{{blank}"
        for number, (key, inner) in enumerate(items):
            yield "," if number else ""
            yield from written(key, random, odd)
            yield ":"
            yield from written(inner, random, odd)
        yield "}"
    elif isinstance(value, list):
        yield f"[{blank}"
        for number, inner in enumerate(value):
            yield "," if number else ""
            yield from written(inner, random, odd)
        yield "]"
    elif isinstance(value, str):
        yield f'{blank}"{"".join(_letter(letter, random, odd) for letter in value)}"'
    else:
        yield json.dumps(value)
    yield blank


def _letter(letter: str, random: Random, odd: float) -> str:
    if random.random() < odd:
        if letter == "/":
            return "\\/"
        if letter < "\ud800":
            return f"\\u{ord(letter):04x}" if random.random() < 0.5 else f"\\u{ord(letter):04X}"
    ascii = "\ud800" <= letter < "\ue000"  # a lone one can only be escaped
    return json.dumps(letter, ensure_ascii=ascii)[1:-1]


def found_in(members: list[bytearray]) -> tuple[list[FoundImage | Broken], Counter[str]]:
    """What is in members, in any order, and what is counted."""
    counts = PageTally()
    return sorted(images_of_members(members, counts)), +counts


def parsed_of(members: Iterable[bytearray]) -> tuple[list[FoundImage | Broken], Counter[str]]:
    """The same by a parser of all of it."""
    counts = PageTally()
    rows: list[FoundImage | Broken] = []
    for read in (read for member in members for read in read_records(io.BytesIO(member))):
        images = images_of_wat(read)
        counts["records"] += 1
        if isinstance(images, str):
            counts[images] += 1
        elif isinstance(images, Broken):
            rows.append(images)
        else:
            counts["pages"] += 1
            rows.extend(images)
    return sorted(rows), +counts


def member(block: bytes, target: str = "x") -> bytearray:
    return bytearray(record(target, block, kind="metadata", content="application/json"))


def damaged(whole: bytearray, random: Random) -> bytearray:
    body = bytearray(whole)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(body))
        if random.random() < 0.5:
            body[at] = random.choice(b'{}[]":,\\&\x00\x80 aI/.')
        elif random.random() < 0.5:
            del body[at : at + random.choice([1, 1, 9, 200])]
        else:
            body[at:at] = random.choice(
                [b'"', b"{", b"\\", b'"path":"IMG@/src"', b"\xff", b"a" * 200]
            )
    return body or bytearray(b"x")


def check(random: Random) -> None:
    odd = random.choice([0.0, 0.0, 0.002, 0.02, 0.3])
    members = [
        member("".join(written(page(random), random, odd)).encode())
        for _ in range(random.randint(1, 4))
    ]
    whole = found_in(members)
    assert whole == parsed_of(members), members
    broken = [damaged(record_, random) for record_ in members]
    rows, counts = found_in([*members, *broken])
    assert Counter(whole[0]) <= Counter(rows), broken  # damage costs no other record
    assert counts.total() <= 2 * 9 * len(members)


LINK = b'{"path":"IMG@/src","url":"a","alt":"b"},'
TOKENS = [
    *(LINK, LINK.replace(b'a"', b'&"'), b'{"path":"A@/href","url":"c"},', b'"', b"{", b"}", b'{"'),
    *(b'"path":"IMG@/src"', b'IMG@/src"', b'MG@/src"', b'Base"', b'":"', b'",', b'","', b"\\"),
    *(
        *(b"\\/", b"<\\/", b"\\u0041", b"\\u00e9", b"a", b"..", b"/", b"../", b"&", b"\xff", b" "),
        b"\n",
    ),
    *(
        b'"Status":"2',
        b'"HTML-Metadata":{',
        b'"WARC-Header-Metadata":{',
        b'"WARC-Type":"response",',
    ),
    *(
        b'"url":"http://d.example/',
        b'"alt":"',
        b'"WARC-Target-URI":"http://a/",',
        b"\r\n",
        b"a:b\r\n",
    ),
    *(
        b"WARC/1.0\r\n",
        b"Content-Length: 9\r\n",
        b"WARC-Type: metadata\r\n",
        b'"alt":"b","url":"c"',
    ),
]
BEFORE = (
    b'{"Envelope":{"WARC-Header-Metadata":{"WARC-Type":"response","WARC-Target-URI":"http://a/b/"},'
    b'"Response-Message":{"Status":"200"},"HTML-Metadata":{"Links":['
)
PLACES = {
    "member": (b"", b""),
    "header": (BEFORE[:37], b'}},"Status":"200","HTML-Metadata":{}}'),
    "status": (BEFORE[:95], b',"Status":"200","HTML-Metadata":{}}'),
    "links": (BEFORE, b"]}}}"),
}
