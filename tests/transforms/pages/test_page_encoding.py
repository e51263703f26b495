"""The encoding of a page: by its byte order mark, by HTTP, by what the page declares, or by its
bytes."""

import codecs

import pytest

from alignset.transforms.pages.http_pages import Page
from alignset.transforms.pages.page_encoding import encoding_of, python_name
from alignset.transforms.pages.page_images import Found, images_of

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
        (
            "cp1252",
            '<meta http-equiv=Content-Type content="text/html; charset=latin1">',
            "",
            TEXT,
        ),
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
