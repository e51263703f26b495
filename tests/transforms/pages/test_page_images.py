"""Which image and which text: docs/inputs.md, row by row."""

import codecs
import random

import pytest

from alignset.transforms.pages import page_images
from alignset.transforms.pages.archives import Broken
from alignset.transforms.pages.html_elements import encoding_of, python_name
from alignset.transforms.pages.http_pages import Page
from alignset.transforms.pages.page_images import Base, Found, images_of, srcset_candidates
from tests.fuzz import pages

PAGE = "http://p.example/dir/page.html"
HERE = "http://p.example/dir/"


def images(html: str | bytes, url: str = PAGE, charset: str = "") -> list[tuple[str, str]]:
    body = html.encode() if isinstance(html, str) else html
    return [(image.url, image.text) for image in images_of(Page(url, body, charset))]


# `#` is an image, `@` an `image`, which counts in HTML alone.
@pytest.mark.parametrize(
    ("html", "count"),
    [
        *(
            ("", 0),
            ("<", 0),
            ("text < b #", 1),
            ("<IMG/src=a alt='>'>#", 2),
            ("<imgs alt=a src=b>", 0),
        ),
        *(("@</image>", 1), ("<img alt=a src='b", 0), ("<img alt=a src=b", 0)),
        *(("<a title=it's>#</a title='>#'>#", 2), ("<a title='#'>", 0), ("<a b'=c>#", 1)),
        *(('<a ="b>c">#', 1), ("<a b= c'd>#", 1), ("<a b=>#", 1)),
        *(("<!-- # -->#", 1), ("<!-->#<!--->#<!--#--!>#<!--", 3), ("<!-- # --", 0)),
        *(("<!-- -x> - -!> # -- > -->#", 1), ("<!doctype html '>'>#<?php '>#?>", 2)),
        *(("</>#</ #>#", 2), ("<![CDATA[ > # ]]>", 1)),
        *(("<script>#</script>#", 1), ("<script>'</scripts>#'</SCRIPT >#", 1)),
        ("<script><!-- <script>#</script>#--></script>#", 1),
        ("<script><!-- <script>#</script>#</script>#", 1),
        ("<script><!-->#<script></script>#", 1),
        ("<style>#</style><textarea>#</textarea><title>#</title>#", 1),
        ("<xmp>#</xmp><iframe>#</iframe><noembed>#</noembed><noframes>#</noframes>#", 1),
        ("<noscript>#</noscript><template>#</template><select>#</select><frameset>#", 4),
        *(("<table>#<tr>#<td>#", 3), ("<plaintext>#</plaintext>#", 0), ("<title>#", 0)),
        ("<script/>#<iframe/>#", 2),  # libxml2 has them end there
        ("<svg><title/><style/><script/></svg>#", 1),
        ("<svg>#<title>#</title>", 1),
        # `image` in and behind SVG and MathML.
        *(("<svg>@</svg>@", 1), ("<SVG/>@", 1), ("<svg><svg></svg>@</svg>", 0), ("<math>@", 0)),
        *(("<svg><foreignObject>@<svg>@</svg>@</foreignObject>@</svg>@", 3), ("<svg><desc>@", 1)),
        *(("<math><mi>@</mi>@", 1), ("<svg><mi>@", 0), ("<math><annotation-xml>@", 0)),
        *(("<div><svg><g></div>@", 1), ("<svg></div>@", 0), ("<svg><g><p>@", 1), ("<svg>#@", 2)),
        ("#" + "<div>" * 50_000 + "#", 2),
        ("<p>" + "word<wbr>" * 50_000 + "#</p>", 1),
    ],
)
def test_where_images_are(html: str, count: int):
    tags = html.replace("#", "<img src=a alt=t>").replace("@", "<image src=a alt=t>")
    assert [url for url, _ in images(tags)] == [f"{HERE}a"] * count


def test_a_page_of_too_many_end_tags_that_are_too_deep_has_no_images():
    opted_out = b"<meta name=robots content=noai>"  # which could stand behind
    body = b"<b><p><img src=a alt=t>" + b"<wbr>" * 50_000 + b"</b>" * 50_000 + opted_out
    assert [*images_of(Page(HERE, body, ""))] == [Broken("too_costly", HERE)]


@pytest.mark.parametrize(
    ("html", "url"),
    [
        ("<img alt=t src=a.png>", f"{HERE}a.png"),
        ("<img alt=t src=' a.png\n'>", f"{HERE}a.png"),
        ("<img alt=t src=a.png data-src=b.png srcset=c.png>", f"{HERE}a.png"),
        ("<img alt=t src='' data-src=b.png>", f"{HERE}b.png"),
        ("<img alt=t src=data:image/gif;base64,R0 data-lazy-src=b.png>", f"{HERE}b.png"),
        ("<img alt=t src=DATA:x data-original=b.png data-src=c.png>", f"{HERE}c.png"),
        ("<img alt=t src=about:blank srcset=c.png>", f"{HERE}c.png"),
        ("<img alt=t srcset='a.png 1x, b.png 2x, c.png 1.5x'>", f"{HERE}b.png"),
        ("<img alt=t srcset='a.png 1x, b.png 2x 3x, c.png 1.5x'>", f"{HERE}c.png"),
        ("<img alt=t srcset='a.png foo' data-srcset='b.png'>", f"{HERE}b.png"),
        ("<image alt=t src=a.png>", f"{HERE}a.png"),
        ("<svg><image alt=t src=a.png></svg>", None),
        ("<img alt=t data-srcset='a.png 320w, b.png 640w'>", f"{HERE}b.png"),
        ("<picture><source srcset='b.webp 2x, a.webp'><img alt=t></picture>", f"{HERE}b.webp"),
        ("<picture><source srcset=a><source srcset=b><img alt=t></picture>", f"{HERE}a"),
        ("<picture><source srcset=a><img alt=t src=c></picture>", f"{HERE}c"),
        ("<picture><source srcset=a><svg><picture></svg><img alt=t></picture>", f"{HERE}a"),
        ("<picture><source srcset=a></picture><img alt=t>", None),
        ("<source srcset=a><img alt=t>", None),
        ("<img alt=t>", None),
        ("<img alt=t src>", None),
        ("<img alt=t src=data:image/png;base64,R0>", None),
        ("<img src=a.png>", None),
        ("<img src=a.png alt>", None),
        ("<img src=a.png alt='  '>", None),
        ("<img alt=t src='a?b=1&amp;c=2&copy=3&lt'>", f"{HERE}a?b=1&c=2&copy=3%3C"),
        ("<img alt=t src=//c.example/a>", "http://c.example/a"),
        ("<base href=/b/><img alt=t src=a>", "http://p.example/b/a"),
        ("<img alt=t src=a><base href=/b/>", f"{HERE}a"),
        ("<base><base href=/b/><base href=/c/><img alt=t src=a>", "http://p.example/b/a"),
        ("<base href=//b.example><img alt=t src=a>", "http://b.example/a"),
        ("<base href=data:x><img alt=t src=a>", f"{HERE}a"),
        ("<base href='http://['><img alt=t src=a>", f"{HERE}a"),
        ("<img alt=t src='http://['>", "http://["),
    ],
)
def test_which_image(html: str, url: str | None):
    assert images(html) == ([(url, "t")] if url else [])


def test_the_sources_of_a_picture():
    source, image = "<source srcset=%d>", "<img alt=%d>"
    html = f"{source % 1}<picture><b>{source % 2}<picture>{source % 3}{image % 3}</picture>"
    html += f"{source % 4}{image % 2}</b>{image % 2}</picture>{image % 9}<p><picture>{source % 5}"
    assert images(f"{html}</p>{image % 9}") == [(f"{HERE}{n}", f"{n}") for n in (3, 2, 2)]


def test_a_long_base_changes_nothing():
    """Else each of a million images would be as long."""
    assert images(f"<base href=/{'b' * 8000}/><img alt=t src=a>")[0][0].endswith("bbb/a")
    assert images(f"<base href=/{'b' * 8200}/><img alt=t src=a>") == [(f"{HERE}a", "t")]
    long = f"<link rel=canonical href=http://c.example/{'c' * 8200}><img alt=t src=a>"
    assert images(long, "") == [("a", "t")]


def test_what_nobody_foresaw_in_a_page_leaves_what_stands_before(monkeypatch: pytest.MonkeyPatch):
    def fail(url: str, base: Base) -> str:
        if url == "bad":
            raise RuntimeError("never seen")
        return url

    monkeypatch.setattr(page_images, "absolute_url", fail)
    page = Page(PAGE, b"<img src=a alt=b><img src=bad alt=b><img src=c alt=d>")
    assert list(images_of(page)) == [Found("a", "b", PAGE), Broken("unreadable", PAGE)]


def test_odd_characters_and_many_attributes():
    names = " ".join(f"a{n}=b" for n in range(100_000))
    body = b"<img SRC=a%s alt='\0\xff&#0;&#xd800;\r\n&copy=&copy' alt=no>" % f" {names}".encode()
    assert images(body, charset="utf-8") == [(f"{HERE}a", "\ufffd" * 4 + "\n&copy=\xa9")]
    assert images(body.decode("latin1").encode("utf-16"))[0][0] == f"{HERE}a"
    assert images("<img src=a alt='" + "b" * 12_000_000 + "'>#<img src=c alt=d>")[1][1] == "d"


def test_tag_soup_is_read_as_libxml2_reads_it_in_any_chunks():
    for seed in range(300):
        pages.check_soup(random.Random(seed))


def test_a_host_longer_than_any_name_is_none():
    """To write one in ASCII takes the square of its length."""
    long = "\u732b" * 1100
    for url in (
        f"http://{long}/",
        f"//{long}",
        f"\\/{long}",
        f"ht\ttps:{long}?",
        f" http:/@{long}",
    ):
        assert images(f"<img alt=t src='{url}'>") == [(url.strip(), "t")]
    for url in ("http://a.example/", "a/", "a?", "/", "http:/b.example//"):
        rows = images(f"<img alt=t src='{url}{'b' * 1100}'>")
        assert rows[0][0].startswith("http://")
    assert Base(f"http://{long}/").join("a") == "a"


def test_a_page_without_a_url_is_known_by_its_canonical_link():
    html = "<link rel='x canonical' href=https://p.example/a/b><img alt=t src=c>"
    (image,) = images_of(Page("", html.encode()))
    assert image == Found("https://p.example/a/c", "t", "https://p.example/a/b")
    assert images(html) == [(f"{HERE}c", "t")]
    assert images("<link rel=canonical href=/b><img alt=t src=c>", "") == [("c", "t")]


# Some of the URL standard's rules; `make suites` has its own cases.
@pytest.mark.parametrize(
    ("url", "base", "absolute"),
    [
        ("a", "http://h/b/c?d#e", "http://h/b/a"),
        ("?q", "http://h/b/c?d#e", "http://h/b/c?q"),
        ("#f", "http://h/b/c?d", "http://h/b/c?d#f"),
        ("", "http://h/b?c#d", "http://h/b?c"),
        ("//i/a", "https://h/", "https://i/a"),
        ("/\\i/a", "http://h/", "http://i/a"),
        ("http:a", "http://h/b/", "http://h/b/a"),
        ("HTTP://EX%41MPLE.org:80/", "http://h/", "http://example.org/"),
        ("a b\u00e9?c d\u00e9", "http://h/", "http://h/a%20b%C3%A9?c%20d%C3%A9"),
        ("a\tb\nc", "http://h/", "http://h/abc"),
        ("http://FA\u00df.example/", "http://h/", "http://xn--fa-hia.example/"),
        ("http://0x7f.1/", "http://h/", "http://127.0.0.1/"),
        ("mailto:a@b", "http://h/", "mailto:a@b"),
        ("http://a b/", "http://h/", "http://a b/"),  # none of these is a URL: as it stands
        ("http://h:99999/", "http://h/", "http://h:99999/"),
        ("http://[::1", "http://h/", "http://[::1"),
        ("a", "", "a"),
        ("http://h/../a", "", "http://h/a"),
    ],
)
def test_urls(url: str, base: str, absolute: str):
    assert Base(base).join(url) == absolute


@pytest.mark.parametrize(
    ("srcset", "candidates"),
    [
        ("", []),
        ("a.png", [(1, "a.png")]),
        ("a.png 2x", [(2, "a.png")]),
        (" a.png 100w,b.png  200w 50h , c.png", [(100, "a.png"), (200, "b.png"), (1, "c.png")]),
        ("a,b.png 1x, c.png", [(1, "a,b.png"), (1, "c.png")]),
        ("a.png, b.png", [(1, "a.png"), (1, "b.png")]),
        ("data:image/png;base64,R0 1x, b.png 2x", [(1, "data:image/png;base64,R0"), (2, "b.png")]),
        (",,, a.png 0.5x,,", [(0.5, "a.png")]),
        ("a.png\t2x,\nb\u00a0c.png", [(2, "a.png"), (1, "b\u00a0c.png")]),
        ("(a) 2x,(b", [(2, "(a)"), (1, "(b")]),
        ("a.png (2x, b", []),
        ("c.png 2x, a.png 1x(2x, b", [(2, "c.png")]),
        ("a.png 50h 100w,b.png 0x,c.png .5e1x", [(100, "a.png"), (0, "b.png"), (5, "c.png")]),
    ],
)
def test_srcset(srcset: str, candidates: list):
    assert [*srcset_candidates(srcset)] == candidates


@pytest.mark.parametrize(
    "descriptors",
    [
        *("foo", "1", "x", "w", "1y", "1X", "1W", "x1", "1x2", "1xx", "-1w", "+1w", "1.5w", "1e2w"),
        *("0w", "00w", "\u0661w", "-1x", "+1x", "1.x", "1e999x", "1e+x", "0x1x", "infx", "nanx"),
        *("\u0661x", "100h", "0h 1w", "1.5h 1w", "1w 0h", "1h 1x", "100h 100h 1w", "1x 1w"),
        *("1w 1x", "1x 2x", "1w 2w", "1w 2h 1x", "1x foo", "foo 1x", "(1x)", "(x, y) 1x"),
        *("1x (x, y)", "1(x)x", "1e2w (x, y)", "1\u00a0x"),
    ],
)
def test_a_candidate_of_invalid_descriptors_is_dropped(descriptors: str):
    assert [*srcset_candidates(f"a.png {descriptors}")] == []
    assert [*srcset_candidates(f"a.png {descriptors}, b.png 3x")] == [(3, "b.png")]
    assert [*srcset_candidates(f"b.png 3w, a.png {descriptors}")] == [(3, "b.png")]


# The encoding of a page: by its byte order mark, by HTTP, by what the page declares, or by its
# bytes.

TEXT = "na\u00efve caf\u00e9"
JAPANESE = "\u732b\u306e\u5199\u771f"


@pytest.mark.parametrize(
    ("encoding", "head", "charset", "text"),
    [
        ("utf-8", "", "", TEXT),
        ("utf-8", "<meta charset=utf-8>", "", TEXT),
        ("utf-8", "<meta charset=utf-16>", "", TEXT),
        ("utf-8-sig", "<meta charset=latin1>", "windows-1251", TEXT),
        ("utf-16", "", "", TEXT),
        ("utf-16-le", "", "utf-16le", TEXT),
        ("utf-16-be", "", "utf-16be", TEXT),
        ("cp1252", "", "iso-8859-1", TEXT + " \u2026"),
        ("cp1252", "<meta charset=iso-8859-1>", "", TEXT + " \u2026"),
        ("cp1252", '<meta http-equiv=Content-Type content="text/html; charset=latin1">', "", TEXT),
        ("cp1252", "<meta charset=utf-8>", "windows-1252", TEXT),
        ("cp1252", "<p>" + "Un caf\u00e9 na\u00eff d\u00e9j\u00e0 bu, \u00e7a va. " * 20, "", TEXT),
        ("cp932", "<meta charset=shift_jis>", "", JAPANESE + "\u8868"),
        ("euc-jp", "", "euc-jp", JAPANESE),
        ("iso2022_jp", "<meta charset=iso-2022-jp>", "", JAPANESE),
        ("gb18030", "", "gb2312", "\u732b\u7684\u7167\u7247"),
        ("big5", "<meta charset='big5'>", "", "\u8c93\u7684\u7167\u7247"),
        ("cp949", "", "ks_c_5601-1987", "\uace0\uc591\uc774"),
        (
            "cp1251",
            "<p>" + "\u041a\u043e\u0448\u043a\u0430 \u0441\u043f\u0438\u0442. " * 30,
            "",
            "\u041a\u043e\u0448\u043a\u0430",
        ),
        ("utf-8", "", "no such", TEXT),
    ],
)
def test_encodings(encoding: str, head: str, charset: str, text: str):
    html = f"<html>{head}<img src=a.png alt='{text}'>".encode(encoding)
    images = images_of(Page("http://p.example/", html, charset))
    assert list(images) == [Found("http://p.example/a.png", text, "http://p.example/")]


def test_a_page_cut_within_a_letter_is_utf8():
    assert encoding_of("<p>caf\u00e9".encode()[:-1], "") == "utf-8"


LATIN = '<meta charset="ISO-8859-1">'
GREEK = "<meta charset=iso-8859-7>"


@pytest.mark.parametrize(
    ("head", "declared"),
    [
        (LATIN, "cp1252"),
        (GREEK, "iso8859-7"),
        ("<META\nCHARSET\t=\f' ISO-8859-7\r'>", "iso8859-7"),
        ("<meta/charset=iso-8859-7/>", "utf-8"),  # the slash is part of the label
        ("<meta name=a content=b charset=iso-8859-7 >", "iso8859-7"),
        ("<meta charset=iso-8859-7 charset=koi8-r>", "iso8859-7"),
        # Not a declaration: comments, other elements, other attributes, other tags.
        (f"<!--{LATIN}--><meta charset=utf-8>", "utf-8"),
        (f"<!--{LATIN}-->{GREEK}", "iso8859-7"),
        (f"<!-->{GREEK}-->", "iso8859-7"),
        (f"<!--->{GREEK}-->", "iso8859-7"),
        (f"<!-- > -- {LATIN}", "utf-8"),
        (f"<!doctype html '{LATIN}'>", "utf-8"),
        (f"<!doctype html '>{GREEK}", "iso8859-7"),
        (f"<?php {GREEK}", "utf-8"),
        (f"</ {GREEK}", "utf-8"),
        (f"<p title='{LATIN}'>{GREEK}", "iso8859-7"),
        (f"<p a='>'{LATIN}b>{GREEK}", "iso8859-7"),
        (f"</p title='{LATIN}'>", "utf-8"),
        (f"<p>a < b {GREEK}", "iso8859-7"),
        ("<p charset=iso-8859-7>", "utf-8"),
        ("<metas charset=iso-8859-7>", "utf-8"),
        ("<meta name=description content='charset=iso-8859-7'>", "utf-8"),
        ("<meta title='charset=iso-8859-7'>", "utf-8"),
        ("<meta data-charset=iso-8859-7>", "utf-8"),
        ("<meta charset='iso-8859-7>", "utf-8"),
        ("<meta charset=iso-8859-7", "utf-8"),
        # Unknown labels: the next declaration counts.
        (f"<meta charset=no-such>{GREEK}", "iso8859-7"),
        (f"<meta charset=''>{GREEK}", "iso8859-7"),
        (f"<meta charset>{GREEK}", "iso8859-7"),
        (f"<meta http-equiv=content-type content='text/html; charset=none'>{GREEK}", "iso8859-7"),
        ("<meta charset=no-such http-equiv=content-type content='charset=iso-8859-7'>", "utf-8"),
        # By pragma.
        ("<meta http-equiv=content-type content='text/html; charset=iso-8859-7'>", "iso8859-7"),
        ("<meta content='a;charset = \"iso-8859-7\"' http-equiv=CONTENT-TYPE>", "iso8859-7"),
        ("<meta http-equiv=content-type content=charset=iso-8859-7;a>", "iso8859-7"),
        ("<meta http-equiv=content-type content='charset charset=iso-8859-7'>", "iso8859-7"),
        ('<meta http-equiv=content-type content="charset=\'iso-8859-7">', "utf-8"),
        ("<meta http-equiv=refresh content='text/html; charset=iso-8859-7'>", "utf-8"),
        ("<meta content='text/html; charset=iso-8859-7'>", "utf-8"),
        # The label means another encoding.
        ("<meta charset=utf-16le>", "utf-8"),
        ("<meta charset=unicode>", "utf-8"),
        ("<meta charset=x-user-defined>", "cp1252"),
        ("<meta charset=ascii>", "cp1252"),
        ("<meta charset=tis-620>", "cp874"),
        # An XML declaration, if no `meta` declares an encoding.
        ("<?xml version='1.0' encoding='iso-8859-7'?><html>", "iso8859-7"),
        (f"<?xml version='1.0' encoding='koi8-r'?>{GREEK}", "iso8859-7"),
        ('<?xml encoding = "utf-16"?>', "utf-8"),
        (" <?xml encoding='iso-8859-7'?>", "utf-8"),
        ("<?xml a='encoding'>b='iso-8859-7'?>", "utf-8"),
        # No more than the first kilobyte is looked at.
        (" " * (1024 - len(GREEK)) + GREEK, "iso8859-7"),
        (" " * (1025 - len(GREEK)) + GREEK, "utf-8"),
    ],
)
def test_declarations(head: str, declared: str):
    """Without one these pages are UTF-8, being ASCII."""
    assert encoding_of(head.encode(), "") == codecs.lookup(declared).name
    assert encoding_of(codecs.BOM_UTF8 + head.encode(), "") == "utf-8"
    assert encoding_of(head.encode(), "koi8-r") == "koi8-r"
    assert encoding_of(head.encode(), "no-such") == codecs.lookup(declared).name


@pytest.mark.parametrize(
    ("label", "bytes_", "text"),
    [
        ("windows-949", b"\x81\x41", "\uac02"),
        ("euc-kr", b"\x81\x41", "\uac02"),
        ("tis-620", b"\x85", "\u2026"),
        ("iso-8859-1", b"\x85", "\u2026"),
        ("Shift_JIS", b"\x87\x40", "\u2460"),
        ("gb2312", b"\x81\x30\x81\x30", "\x80"),
        ("x-mac-cyrillic", b"\x80", "\u0410"),
        (" UTF-8\n", b"\xc3\xa9", "\xe9"),
    ],
)
def test_labels_mean_what_the_standard_says(label: str, bytes_: bytes, text: str):
    assert bytes_.decode(python_name(label)) == text


@pytest.mark.parametrize("label", ["", "none", "utf_8", "utf-7", "hz-gb-2312", "\x00"])
def test_labels_that_the_standard_does_not_know(label: str):
    assert python_name(label) == ""
