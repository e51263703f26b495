"""Wishes in the bytes of images, in every format, and what hostile bytes cost."""

import io
import struct
import time
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.opt_outs.file_opt_outs import (
    FileOptOuts,
    boxes,
    decode_cbor,
    embedded,
    file_opt_outs,
    forbids_training,
    xmp_terms,
)
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from tests.fuzz import pictures
from tests.support import stating_files as made
from tests.support.stating_files import box, cbor, manifest_store, superbox, xmp

HOW = OptOutSettings()
MAKERS = {
    "JPEG": made.jpeg_with,
    "PNG": made.png_with,
    "WEBP": made.webp_with,
    "GIF": made.gif_with,
    "AVIF": made.avif_with,
}


@pytest.mark.parametrize("name", MAKERS)
def test_opt_outs_in_each_format(name: str) -> None:
    plain, put = made.picture(name), MAKERS[name]
    prohibited, store = made.xmp(made.PROHIBITED), made.forbidding_store()
    assert file_opt_outs(FileLook(plain), HOW) == FileOptOuts()
    for body, opt_outs in (
        (put(plain, prohibited), ("xmp_data_mining",)),
        (put(plain, made.xmp(made.ALLOWED)), ()),
        (put(plain, store=store), ("c2pa",)),
        (put(plain, store=made.manifest_store({"cawg.ai_training": {"use": "allowed"}})), ()),
        (put(plain, prohibited, store), ("xmp_data_mining", "c2pa")),
    ):
        Image.open(io.BytesIO(body)).load()  # it is still an image
        assert file_opt_outs(FileLook(body), HOW).opt_outs == opt_outs
    off = OptOutSettings(xmp_data_mining=False, c2pa=False)
    assert file_opt_outs(FileLook(put(plain, prohibited, store)), off).opt_outs == ()


@pytest.mark.parametrize("name", MAKERS)
def test_licences_in_each_format(name: str) -> None:
    packet = made.xmp("", "https://a.example/licence?a=1&amp;b=2", "Free for\n all &lt;uses&gt;")
    stated = file_opt_outs(FileLook(MAKERS[name](made.picture(name), packet)), HOW)
    assert stated == FileOptOuts((), "https://a.example/licence?a=1&b=2", "Free for all <uses>")


def test_xmp_that_pillow_writes_and_in_the_longer_packet() -> None:
    packet = made.xmp(made.PROHIBITED, as_elements=False)
    for name in ("JPEG", "PNG", "WEBP", "AVIF"):
        written = made.picture(name, xmp=packet)
        if b"DataMining" in written:  # not each version writes it for each format
            assert file_opt_outs(FileLook(written), HOW).opt_outs == ("xmp_data_mining",)
    assert b"DataMining" in made.picture("JPEG", xmp=packet)
    long = made.xmp() + b" " * 70_000 + packet
    body = made.jpeg_with(made.picture("JPEG"), made.xmp(), extended=long)
    assert file_opt_outs(FileLook(body), HOW).opt_outs == ("xmp_data_mining",)
    squeezed = made.png_with(made.picture("PNG"), packet, squeeze=True)
    assert b"DataMining" not in squeezed
    assert file_opt_outs(FileLook(squeezed), HOW).opt_outs == ("xmp_data_mining",)


@pytest.mark.parametrize("squeezed", [True, False])
def test_xmp_that_image_magick_writes_into_a_png(squeezed: bool) -> None:
    packet, told = made.xmp(made.PROHIBITED), PngInfo()
    lines = "\n".join(packet.hex()[at : at + 72] for at in range(0, 2 * len(packet), 72))
    told.add_text("Raw profile type xmp", f"\nxmp\n{len(packet):8}\n{lines}\n", zip=squeezed)
    body = made.picture("PNG", pnginfo=told)
    assert embedded(FileLook(body)).xmp == packet
    assert file_opt_outs(FileLook(body), HOW).opt_outs == ("xmp_data_mining",)
    broken = PngInfo()
    broken.add_text("Raw profile type xmp", "\nxmp\n 9\nno digits\n", zip=squeezed)
    assert embedded(FileLook(made.picture("PNG", pnginfo=broken))).xmp == b""


def test_hostile_bytes_cost_little_and_say_nothing() -> None:
    jpeg, png = made.picture("JPEG"), made.picture("PNG")
    bomb = made.png_with(png, b" " * 50_000_000 + made.xmp(made.PROHIBITED), squeeze=True)
    assert len(embedded(FileLook(bomb)).xmp) == 1 << 20
    many = b"DataMining" * 3_000_000
    squeezed = made.png_with(png, bytes(1 << 20), squeeze=True)[33 : 33 - len(png)]
    cut = zlib.compress(made.xmp(made.PROHIBITED))[:-40]
    for body in (
        bomb,
        png[:33] + squeezed * 20_000,  # 20 MB, of which one MiB is unpacked
        made.webp_with(made.picture("WEBP"), many),
        made.webp_with(made.picture("WEBP"), b":WebStatement=" * 100_000),
        made.png_with(png, store=b"\xff\xff\xff\xffjumb" + b"training-mining" * 9),
        made.png_with(
            png, store=made.box(b"jumb", b"\0\0\0\1jumb" + b"\xff" * 8) + b"training-mining"
        ),
        made.png_with(png, store=b"training-mining" + struct.pack(">I4s", 8, b"free") * 1_000_000),
        made.jpeg_with(jpeg, b"<" * 60_000),
        png[:33] + pictures.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0\xff" + cut) + png[33:],
        png[:33] + b"\xff\xff\xff\xffiTXtXML:com.adobe.xmp\0\1\0\0\0x",
        png[:33] + b"\0\0\0\0junk\0\0\0\0" * 1_000_000,
    ):
        began = time.process_time()
        assert file_opt_outs(FileLook(body), HOW) == FileOptOuts()
        assert time.process_time() - began < 30


def test_blocks_of_a_gif_that_are_looked_at() -> None:
    body = b"GIF89a" + bytes(7) + b"\x21\xff\x0bC2PA_GIF\1\0\0" + b"\1j" * 1_000_000
    assert embedded(FileLook(body)).c2pa == b"j" * 200_000


def test_an_avif_with_a_packet_in_a_box_of_its_own() -> None:
    packet, body = made.xmp(made.PROHIBITED), made.picture("AVIF")
    assert embedded(FileLook(body + made.box(b"uuid", bytes(16) + packet))).xmp == packet
    assert (
        embedded(FileLook(body + made.box(b"mdat", packet))).xmp == b""
    )  # no item says that it is XMP


def test_extensions_of_a_gif_before_and_behind_other_blocks() -> None:
    packet, body = made.xmp(made.PROHIBITED), made.picture("GIF")
    whole = made.gif_with(body, packet)
    block = whole[len(body) - 1 : -1]
    at = 13 + 3 * 256  # behind the palette
    others = b"!\xfe\3abc\0" + b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0" + b"junk"
    for made_body in (
        whole,
        body[:at] + block + body[at:],
        body[:at] + others + block + body[at:],
        body[:-1] + b"\0\0" + others + block + b";",
    ):
        assert packet in embedded(FileLook(made_body)).xmp
    assert embedded(FileLook(body + block)).xmp == b""  # behind the end
    within = b"!\xfe" + bytes([len(block[:200])]) + block[:200] + b"\0"
    assert embedded(FileLook(body[:at] + within + body[at:])).xmp == b""  # a part of a comment
    applications = b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0" * 100
    assert embedded(FileLook(body[:at] + applications + block + body[at:])).xmp == b""


VALUES = "http://ns.useplus.org/ldf/vocab/DMI-"


@pytest.mark.parametrize("as_elements", [True, False])
@pytest.mark.parametrize(
    ("value", "prohibited"),
    [
        ("ALLOWED", False),
        ("PROHIBITED-AIMLTRAINING", True),
        ("PROHIBITED-EXCEPTSEARCHENGINEINDEXING", True),
        ("PROHIBITED", True),
        ("PROHIBITED-SEELINKEDRIGHTSEXPR", True),
        ("PROHIBITEDNOT", False),
    ],
)
def test_values_of_data_mining(value: str, prohibited: bool, as_elements: bool) -> None:
    packet = xmp(VALUES + value, as_elements=as_elements)
    assert bool(xmp_terms(packet).opt_outs) == prohibited


@pytest.mark.parametrize(
    ("packet", "prohibited"),
    [
        (b'<plus:DataMining rdf:resource="http://x/DMI-PROHIBITED"/>', True),
        (b"<plus:DataMining>http://x/DMI-ALLOWED</plus:DataMining><a>DMI-PROHIBITED</a>", False),
        (b"<p:DataMining><rdf:value>http://x/DMI-PROHIBITED</rdf:value></p:DataMining>", True),
        (b"<p:DataMining><rdf:Bag><rdf:li>DMI-PROHIBITED</rdf:li></rdf:Bag>", True),
        (b"<p:DataMining><![CDATA[DMI-PROHIBITED]]></p:DataMining>", True),
        (b'<p:DataMining rdf:resource="DMI-ALLOWED"/><a>DMI-PROHIBITED</a>', False),
        (b'<a p:DataMining="DMI-ALLOWED" b="DMI-PROHIBITED">', False),
        (b"<p:DataMining></p:DataMining><p:DataMining>DMI-PROHIBITED", True),
        (b"", False),
    ],
)
def test_where_the_value_stands(packet: bytes, prohibited: bool) -> None:
    assert bool(xmp_terms(packet).opt_outs) == prohibited


@pytest.mark.parametrize(
    ("packet", "statement", "terms"),
    [
        (b'<a xmpRights:WebStatement = "http://l/"', "http://l/", None),
        (b"<xmpRights:WebStatement>http://l/</xmpRights:WebStatement>", "http://l/", None),
        (b'<xmpRights:WebStatement rdf:resource="http://l/"/>', "http://l/", None),
        (b"<xmpRights:WebStatement></xmpRights:WebStatement>", None, None),
        (b'<a xmpRights:UsageTerms="none"', None, "none"),
        (b"<b:UsageTerms><rdf:Alt><rdf:li xml:lang='de'>nur so</rdf:li><rdf:li>x", None, "nur so"),
        (b"<b:UsageTerms>\xff\xfe", None, "\ufffd\ufffd"),
    ],
)
def test_licences(packet: bytes, statement: str | None, terms: str | None) -> None:
    found = xmp_terms(packet)
    assert (found.web_statement, found.usage_terms) == (statement, terms)


def test_long_values_are_cut() -> None:
    terms = xmp_terms(b'<a x:UsageTerms="' + b"word " * 1500 + b'"').usage_terms
    assert terms is not None
    assert len(terms) == 2000
    assert xmp_terms(b"x" * (1 << 20) + b'<a x:UsageTerms="y"') == FileOptOuts()


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("label", "entries", "forbids"),
    [
        ("cawg.training-mining", {"cawg.ai_training": {"use": "notAllowed"}}, True),
        ("cawg.training-mining", {"cawg.data_mining": {"use": "constrained"}}, True),
        ("c2pa.training-mining__2", {"c2pa.data_mining": {"use": "notAllowed"}}, True),
        ("c2pa.training-mining", {"c2pa.ai_inference": {"use": "notAllowed"}}, False),
        ("c2pa.training-mining", {"c2pa.ai_training": {"use": "allowed"}}, False),
        ("org.training-mining", {"c2pa.ai_training": {"use": "notAllowed"}}, False),
        ("c2pa.training-mining", {}, False),
    ],
)
def test_assertions(label: str, entries: dict, forbids: bool, as_json: bool) -> None:
    assert forbids_training(manifest_store(entries, label, as_json=as_json)) == forbids


def test_the_first_writers_put_the_entries_at_the_top() -> None:
    told = cbor({"c2pa.ai_training": {"use": "notAllowed"}})
    assertion = superbox(b"c2pa.training-mining", box(b"cbor", told))
    assert forbids_training(superbox(b"c2pa", assertion))
    assert not forbids_training(superbox(b"c2pa", box(b"free", assertion)))


@pytest.mark.parametrize(
    "content",
    [
        box(b"cbor", b""),
        box(b"cbor", b"\x9f" * 5000),
        box(b"cbor", b"\xbb" + b"\xff" * 8),
        box(b"json", b"[" * 60_000),
        box(b"json", b'{"entries": [1]}'),
        box(b"json", b"1"),
        box(
            b"cbor", cbor({"entries": {"c2pa.ai_training": {"use": "notAllowed"}}}) + bytes(70_000)
        ),
    ],
)
def test_what_cannot_be_read_forbids_nothing(content: bytes) -> None:
    assert not forbids_training(superbox(b"c2pa.training-mining", content))


def test_nested_deeper_and_more_boxes_than_are_looked_at() -> None:
    inner = manifest_store({"c2pa.ai_training": {"use": "notAllowed"}})
    deep = inner
    for _ in range(20):
        deep = superbox(b"x", deep)
    assert not forbids_training(deep)
    assert not forbids_training(box(b"free", b"") * 20_000 + inner)


def test_more_assertions_than_are_read() -> None:
    forbids = manifest_store({"c2pa.ai_training": {"use": "notAllowed"}})
    other = superbox(b"c2pa.training-mining", box(b"json", b"1" + b" " * 1_000))
    assert forbids_training(superbox(b"c2pa", forbids + 60 * other))
    assert not forbids_training(superbox(b"c2pa", forbids + 70 * other))


def test_boxes_end_where_what_they_lie_in_does() -> None:
    huge = b"\xff\xff\xff\xffjumb" + b"ab"
    assert list(boxes(huge, 0, len(huge))) == [(b"jumb", 8, 10)]
    long = b"\0\0\0\1jumb" + (1 << 62).to_bytes(8, "big") + b"ab"
    assert list(boxes(long, 0, len(long))) == [(b"jumb", 16, 18)]
    assert list(boxes(b"\0\0\0\0jumbxy", 0, 10)) == [(b"jumb", 8, 10)]
    assert list(boxes(b"\0\0\0\7jumbxy", 0, 10)) == []


@pytest.mark.parametrize(
    ("data", "value"),
    [  # of RFC 8949, appendix A
        ("00", 0),
        ("1818", 24),
        ("3903e7", -1000),
        ("f5", True),
        ("f6", None),
        ("fb3ff199999999999a", None),  # numbers with a fraction say nothing here
        ("c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("5f42010243030405ff", b"\1\2\3\4\5"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
    ],
)
def test_values(data: str, value: object) -> None:
    assert decode_cbor(bytes.fromhex(data)) == value


@pytest.mark.parametrize("data", ["", "18", "62c3", "83", "a1", "1c", "81ff", "7f01ff", "3f"])
def test_what_is_none(data: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_cbor(bytes.fromhex(data))


def test_maps_as_keys_are_left_out() -> None:
    text = b"\\" * 1000  # whose written form is twice as long, in each map that has it as a key
    data = b"\xa1" * 12 + b"\x79" + len(text).to_bytes(2, "big") + text + b"\xf6" * 12
    assert decode_cbor(data) == {}
    assert decode_cbor(b"\xa2\xa1\x61a\x01\x02\x61b\x03") == {"b": 3}


def test_nested_too_deep_and_too_long() -> None:
    for data in (b"\x81" * 100_000, b"\xbb" + b"\xff" * 8, b"\x9b" + b"\xff" * 8 + b"\0" * 9):
        with pytest.raises(ValueError, match=r"deep|early"):
            decode_cbor(data)
