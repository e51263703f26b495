"""The tags that lead to images, as a browser's tokenizer finds them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from alignset.transforms.pages.html_tags import picked_tags, pieces

IMG = "<img src=a>"


def image_tags(page: bytes, *, links: bool = False) -> bytes:
    return picked_tags(page, links=links).images


@pytest.mark.parametrize(
    ("page", "tags"),
    [
        ("", ""),
        ("<", ""),
        (f"text < b {IMG}", IMG),
        (f"<IMG/src=a alt='>'>{IMG}", f"<IMG/src=a alt='>'>{IMG}"),
        ('<img src="a" alt="<img b>">', '<img src="a" alt="<img b>">'),
        ("<img src='a", ""),  # the page ends within the tag
        ("<img src=a", ""),
        ("<image src=a alt='a b'><imgs src=a><im g></image>", "<image src=a alt='a b'>"),
        (f"<a title=it's>{IMG}</a title='>{IMG}'>", IMG),
        (f"<a title='{IMG}'>", ""),
        (f"<a b'=c>{IMG}", IMG),
        (f'<a ="b>c">{IMG}', IMG),
        (f"<a b= c'd>{IMG}", IMG),
        (f"<a b=>{IMG}", IMG),
        (f"<!-- {IMG} -->{IMG}", IMG),
        (f"<!-->{IMG}<!--->{IMG}<!--{IMG}--!>{IMG}<!--", IMG * 3),
        (f"<!-- {IMG} --", ""),
        (f"<!-- -x> - -!> {IMG} -- > -->{IMG}", IMG),
        (f"<!doctype html '>'>{IMG}<?php '>{IMG}?>", IMG * 2),
        (f"</>{IMG}</ {IMG}>{IMG}", IMG * 2),
        (f"<![CDATA[ > {IMG} ]]>", IMG),
        (f"<svg><![CDATA[ > {IMG} ]]></svg>{IMG}", IMG),
        (f"<script>{IMG}</script>{IMG}", IMG),
        (f"<script>'</scripts>{IMG}'</SCRIPT >{IMG}", IMG),
        (f"<script><!-- <script>{IMG}</script>{IMG}--></script>{IMG}", IMG),
        (f"<script><!-- <script>{IMG}</script>{IMG}</script>{IMG}", IMG),
        (f"<script><!-->{IMG}<script></script>{IMG}", IMG),
        (f"<style>{IMG}</style><textarea>{IMG}</textarea><title>{IMG}</title>{IMG}", IMG),
        (f"<xmp>{IMG}</xmp><iframe>{IMG}</iframe><noembed>{IMG}</noembed>{IMG}", IMG),
        (f"<noscript>{IMG}</noscript><template>{IMG}</template>", IMG * 2),
        (f"<plaintext>{IMG}</plaintext>{IMG}", ""),
        (f"<title>{IMG}", ""),
        (f"<script/>{IMG}", ""),
        (f"<svg><title/><style/><script/></svg>{IMG}", IMG),
        (f"<svg>{IMG}<title>{IMG}</title>", IMG),  # an image ends what is not a HTML
        (f"<svg/><title>{IMG}</title>", ""),
        (f"<svg><path><style><g></svg><title>{IMG}</title>", ""),
        (f"<svg><image src=a><source><base><picture></picture></svg>{IMG}", IMG),
        (f"<svg><foreignObject><image src=a></foreignObject>{IMG}", f"<image src=a>{IMG}"),
        (f"<picture><svg></picture>{IMG}", f"<picture></picture>{IMG}"),
        ("<picture><source srcset=b><br><img></picture></img>", None),
        ("<base href=b><link rel=x>", "<base href=b>"),
    ],
)
def test_the_tags_of_a_page(page: str, tags: str | None):
    if tags is None:
        tags = "<picture><source srcset=b><img></picture>"
    assert image_tags(page.encode()).decode() == tags


def test_links_where_they_are_asked_for():
    page = b"<link rel=x><title><link></title><style></style><link>"
    assert image_tags(page, links=True) == b"<link rel=x><link>"
    assert image_tags(page) == b""


def test_a_tag_has_256_attributes_at_most():
    """A parser that gets n of them compares each with all before it."""
    names = "".join(f' a{n}="{n}>"' for n in range(256))
    assert image_tags(f"<img{names}>".encode()).decode() == f"<img{names}>"
    for more in (" b", "b=c / d = 'e'", " =b"):
        cut = image_tags(f"<img{names}{more}>{IMG}".encode()).decode()
        assert LexborHTMLParser(cut).tags("img")[0].attributes.keys() == {
            f"a{n}" for n in range(256)
        }
        assert cut.endswith(f'255>"{" " * more.startswith(" ")}>{IMG}')


def test_tags_are_cut_between_two_and_outside_of_a_picture():
    picture = b"<picture><source srcset='<img>'>" + b"<img alt='>'>" * 9 + b"</picture>"
    tags = (picture + b"<img alt=a>" * 20) * 9
    for least in (1, 30, 200, 1000, 1 << 18):
        parts = list(pieces(tags, least))
        assert b"".join(parts) == tags
        assert [image_tags(piece) for piece in parts] == parts
        assert max(map(len, parts)) < max(2 * least, least + len(picture)) + 40
        if least >= len(picture):
            assert all(p.count(b"<picture>") == p.count(b"</picture>") for p in parts)
    assert list(pieces(b"")) == []


PIECES = st.sampled_from(
    [
        *("<img src=a alt=b>", "<IMG SRC='a' alt=\"b\">", "<img alt", "<p>", "</p>", "text", ">"),
        *("<a href=x title='>'>", "</a>", '"', "'", "=", " ", "<", "</", "<!", "<!--", "-->", "-"),
        *("<script>", "</script>", "<style>", "</style>", "<title>", "</title>", "<textarea>"),
        *("</textarea>", "<br/>", "<div class='a b'>", "</div>", "<noscript>", "</noscript>", "é"),
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_a_parser_finds_the_same_images(page: str):
    """As many images as the tree of the whole page has, with the same attributes."""
    whole = LexborHTMLParser(f"<body>{page}")
    picked = LexborHTMLParser(image_tags(f"<body>{page}".encode()).decode())
    expected = [node.attributes for node in whole.tags("img")]
    assert [node.attributes for node in picked.tags("img")] == expected


@given(st.binary(max_size=200))
def test_any_bytes(page: bytes):
    picked = image_tags(page)
    assert image_tags(picked) == picked
    assert len(picked) <= len(page)
