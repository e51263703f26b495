"""WAT records, and pieces of them."""

from __future__ import annotations

from tests.support.page_archives import record


def member(block: bytes, target: str = "x") -> bytes:
    """A record with this JSON."""
    return record(target, block, kind="metadata", content="application/json")


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
