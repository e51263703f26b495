"""Tars with the same bytes for the same samples, and bytes put aside."""

import hashlib
import io
import json
import tarfile

import pytest

from alignset.transforms.shards.shard_files import SHARD_SCHEMA, TarWriter
from alignset.transforms.storage.files import PIECE


def tar_of(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for name, body in files:
        writer.add((name, body))
    digest = writer.finish()
    return sink.getvalue(), digest


GOLDEN_SHA256 = "90479ccfe4e38205073d2ca528560c84848889945c1afb7be84b3b1ab8e0385b"
FILES = (("a.jpg", b"x" * 512), ("a.txt", b""), ("b.jpg", b"y" * 1000))


def test_a_tar_that_the_standard_library_reads():
    body, digest = tar_of(*FILES)
    assert hashlib.sha256(body).hexdigest() == digest
    assert len(body) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as tar:
        members = tar.getmembers()
        assert [(m.name, tar.extractfile(m).read()) for m in members] == list(FILES)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
            (0, 0, 0, "", "", 0o444)
        }


@pytest.mark.parametrize("size", [PIECE - 512, PIECE, PIECE + 1, 5 * PIECE // 2])
def test_files_over_several_pieces_are_hashed_in_their_order(size: int):
    files = (("a.jpg", b"x" * size), ("a.json", b"{}"), ("b.jpg", b"y" * size), ("b.txt", b""))
    body, digest = tar_of(*files)
    assert hashlib.sha256(body).hexdigest() == digest
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as tar:
        assert [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()] == list(files)


def test_a_full_disk_is_told_where_the_tar_is_written():
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    writer = TarWriter(Full())
    with pytest.raises(OSError, match="No space left"):
        writer.add(("a.jpg", bytes(2 * PIECE)))


def test_these_very_bytes():
    """The format is a contract: shards of other versions must not differ."""
    assert tar_of(*FILES)[1] == GOLDEN_SHA256


def test_a_sample_is_image_metadata_and_text():
    row = dict.fromkeys(SHARD_SCHEMA.names) | {"key": "0123", "caption": "café", "width": 3}
    sink = io.BytesIO()
    writer = TarWriter(sink)
    writer.add_sample(row, b"image", "webp")
    writer.finish()
    sink.seek(0)
    with tarfile.open(fileobj=sink, mode="r:") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    assert list(files) == ["0123.webp", "0123.json", "0123.txt"]
    assert files["0123.webp"] == b"image"
    assert files["0123.txt"].decode() == "café"
    said = json.loads(files["0123.json"])
    assert (said["key"], said["caption"], said["width"], said["url"]) == ("0123", "café", 3, None)


def test_the_metadata_of_a_sample_is_json_whatever_a_column_holds():
    numbers = {"a": float("inf"), "b": [1.5, float("-inf")], "c": float("nan"), "d": 0.5}
    row = {"key": "0123", "caption": "a", **numbers}
    sink = io.BytesIO()
    writer = TarWriter(sink)
    writer.add_sample(row, b"", "jpg", [*numbers])
    writer.finish()
    sink.seek(0)
    with tarfile.open(fileobj=sink, mode="r:") as tar:
        body = tar.extractfile("0123.json").read()
    assert body == b'{"a": null, "b": [1.5, null], "c": null, "d": 0.5}'
