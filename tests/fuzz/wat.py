"""WAT records, and pieces of them."""

from __future__ import annotations

from tests.support.page_archives import record


def member(block: bytes, target: str = "x") -> bytes:
    """A record with this JSON."""
    return record(target, block, kind="metadata", content="application/json")


TOKENS = (
    b'{"path":"IMG@/src","url":"a","alt":"b"},|{"path":"IMG@/src","url":"&","alt":"b"},|'
    b'{"path":"A@/href","url":"c"},|"|{|}|{"|"path":"IMG@/src"|IMG@/src"|MG@/src"|Base"|":"|",|'
    b'","|\\|\\/|<\\/|\\u0041|\\u00e9|a|..|/|../|&|\xff| |\n|"Status":"2|"HTML-Metadata":{|'
    b'"WARC-Header-Metadata":{|"WARC-Type":"response",|"url":"http://d.example/|"alt":"|'
    b'"WARC-Target-URI":"http://a/",|\r\n|a:b\r\n|WARC/1.0\r\n|Content-Length: 9\r\n|'
    b'WARC-Type: metadata\r\n|"alt":"b","url":"c"'
).split(b"|")
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
