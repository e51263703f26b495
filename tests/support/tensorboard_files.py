"""TensorBoard's files, read back."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def events(run: Path) -> list[Event]:
    """All events of a run: TFRecords of (length, its checksum, bytes, their checksum)."""
    read = []
    for path in sorted((run / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            read.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return read


def values(run: Path, tag: str) -> dict:
    """step -> value of every summary of a tag."""
    return {e.step: v for e in events(run) for v in e.summary.value if v.tag == tag}


def text(value) -> str:
    return value.tensor.string_val[0].decode()
