"""Small shards for the trainer's tests: plain colours, each named by its text."""

from pathlib import Path

from PIL import Image

from tests.support.hostile_tars import write_tar as write_tar
from tests.support.picture_files import encoded as encoded

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 70, 220),
    "yellow": (240, 210, 40),
    "white": (250, 250, 250),
    "black": (10, 10, 10),
    "pink": (250, 150, 190),
    "grey": (120, 120, 120),
}


def colour_files(first: int, count: int) -> dict[str, bytes]:
    """Pairs of a plain image and "a red image", with keys from `first` on."""
    files = {}
    for i in range(first, first + count):
        name = list(COLOURS)[i % len(COLOURS)]
        files[f"{i:016x}.png"] = encoded(Image.new("RGB", (40 + i % 5, 36), COLOURS[name]))
        files[f"{i:016x}.txt"] = f"a {name} picture".encode()
        files[f"{i:016x}.json"] = b"{}"
    return files


def colour_shards(folder: Path, *, shards: int = 2, each: int = 12) -> Path:
    for i in range(shards):
        write_tar(folder / f"{i:05d}.tar", colour_files(i * each, each))
    return folder
