"""Tars with the same bytes for the same samples, and bytes put aside."""

import hashlib
import io
import tarfile

import pytest

from alignset.transforms.shards.shard_files import TarWriter
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


@pytest.mark.parametrize("size", [512, PIECE - 512, PIECE, PIECE + 1, 5 * PIECE // 2])
def test_a_tar_that_the_standard_library_reads(size: int):
    """Files over several pieces are hashed in their order."""
    files = (("a.jpg", b"x" * size), ("a.json", b"{}"), ("b.jpg", b"y" * size), ("b.txt", b""))
    body, digest = tar_of(*files)
    assert hashlib.sha256(body).hexdigest() == digest
    assert len(body) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as tar:
        members = tar.getmembers()
        assert [(m.name, tar.extractfile(m).read()) for m in members] == list(files)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
            (0, 0, 0, "", "", 0o444)
        }


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
    """The metadata is JSON whatever a column holds."""
    numbers = {"a": float("inf"), "b": [1.5, float("-inf")], "c": float("nan"), "d": 0.5}
    sink = io.BytesIO()
    writer = TarWriter(sink)
    writer.add_sample({"key": "0123", "caption": "café", **numbers}, b"image", "webp", [*numbers])
    writer.finish()
    sink.seek(0)
    with tarfile.open(fileobj=sink, mode="r:") as tar:
        assert [(member.name, tar.extractfile(member).read()) for member in tar] == [
            ("0123.webp", b"image"),
            ("0123.json", b'{"a": null, "b": [1.5, null], "c": null, "d": 0.5}'),
            ("0123.txt", "café".encode()),
        ]
