"""Files of images that state opt-outs: XMP and C2PA put where each format keeps them."""

from __future__ import annotations

import io
import json
import struct
import zlib

from PIL import Image

from tests.fuzz.pictures import png_chunk
from tests.support.avif_files import box
from tests.support.jpeg_frames import segment
from tests.support.picture_files import encoded

PROHIBITED = "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING"
ALLOWED = "http://ns.useplus.org/ldf/vocab/DMI-ALLOWED"
_XMP_HEAD, _MORE_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"


def xmp(
    mining: str = "", statement: str = "", terms: str = "", *, as_elements: bool = True
) -> bytes:
    """A packet with these properties."""
    attributes, elements = "", ""
    if mining and as_elements:
        elements += f"<plus:DataMining>{mining}</plus:DataMining>"
    elif mining:
        attributes += f' plus:DataMining="{mining}"'
    if statement:
        attributes += f' xmpRights:WebStatement="{statement}"'
    if terms:
        listed = f'<rdf:Alt><rdf:li xml:lang="x-default">{terms}</rdf:li></rdf:Alt>'
        elements += f"<xmpRights:UsageTerms> {listed} </xmpRights:UsageTerms>"
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" '
        f'xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/"{attributes}>{elements}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def superbox(label: bytes, *content: bytes) -> bytes:
    description = bytes(16) + b"\3" + label + b"\0"
    return box(b"jumb", box(b"jumd", description) + b"".join(content))


def cbor(value: object) -> bytes:
    """Texts and dicts as CBOR."""
    if isinstance(value, dict):
        parts = [cbor(part) for item in value.items() for part in item]
        return bytes([0xA0 + len(value)]) + b"".join(parts)
    text = str(value).encode()
    head = bytes([0x60 + len(text)]) if len(text) < 24 else bytes([0x78, len(text)])
    return head + text


def manifest_store(
    entries: dict[str, object], label: str = "cawg.training-mining", *, as_json: bool = False
) -> bytes:
    """A C2PA manifest store with a training and data mining assertion, beside a large thumbnail."""
    assertion = {"entries": entries}
    content = (
        box(b"json", json.dumps(assertion).encode()) if as_json else box(b"cbor", cbor(assertion))
    )
    assertions = superbox(
        b"c2pa.assertions",
        superbox(b"c2pa.thumbnail.claim.jpeg", box(b"bidb", bytes(70_000))),
        superbox(label.encode(), content),
    )
    return superbox(b"c2pa", superbox(b"urn:uuid:1", assertions, superbox(b"c2pa.claim")))


def forbidding_store() -> bytes:
    return manifest_store({"cawg.ai_training": {"use": "notAllowed"}})


def picture(name: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    """An image in a format of Pillow."""
    shades = Image.radial_gradient("L").resize(size).convert("RGB")
    return encoded(shades, name, **options)


def jpeg_with(body: bytes, packet: bytes = b"", store: bytes = b"", extended: bytes = b"") -> bytes:
    """A JPEG with an XMP packet, perhaps an extended one, and a manifest store in as many segments
    as it takes."""
    segments = segment(0xE1, _XMP_HEAD + packet) if packet else b""
    for at in range(0, len(extended), 60_000):
        place = struct.pack(">II", len(extended), at)
        segments += segment(0xE1, _MORE_XMP + b"0" * 32 + place + extended[at : at + 60_000])
    for number, at in enumerate(range(8, len(store), 60_000), 1):
        head = b"JP" + struct.pack(">HI", 1, number) + store[:8]
        segments += segment(0xEB, head + store[at : at + 60_000])
    return body[:2] + segments + body[2:]


def png_with(
    body: bytes, packet: bytes = b"", store: bytes = b"", *, squeeze: bool = False
) -> bytes:
    """A PNG with them, its XMP compressed or not."""
    chunks = b""
    if packet:
        text = zlib.compress(packet) if squeeze else packet
        chunks += png_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([squeeze]) + b"\0\0\0" + text)
    if store:
        chunks += png_chunk(b"caBX", store)
    return body[:33] + chunks + body[33:]


def webp_with(body: bytes, packet: bytes = b"", store: bytes = b"") -> bytes:
    """A WebP with them behind its image."""
    for kind, data in ((b"XMP ", packet), (b"C2PA", store)):
        if data:
            body += kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return body[:4] + struct.pack("<I", len(body) - 8) + body[8:]


def gif_with(body: bytes, packet: bytes = b"", store: bytes = b"") -> bytes:
    """A GIF with them before its end."""
    blocks = b""
    if packet:
        trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
        blocks += b"\x21\xff\x0bXMP DataXMP" + packet + trailer
    if store:
        blocks += b"\x21\xff\x0bC2PA_GIF\1\0\0"
        for at in range(0, len(store), 255):
            part = store[at : at + 255]
            blocks += bytes([len(part)]) + part
        blocks += b"\0"
    return body[:-1] + blocks + body[-1:]


def avif_with(body: bytes, packet: bytes = b"", store: bytes = b"") -> bytes:
    """An AVIF with an item that is XMP, and with C2PA in a box of its own."""
    if packet:
        body = encoded(Image.open(io.BytesIO(body)), "AVIF", xmp=packet)
    if store:
        purpose = bytes(4) + b"manifest\0" + bytes(8)
        body += box(b"uuid", bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + purpose + store)
    return body
