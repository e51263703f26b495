"""Files of networks, and how large the images are that these are shown."""

from __future__ import annotations

import hashlib

from alignset.transforms.storage.files import open_to_read

MAX_SIZE = 1024  # px that a network may ask for. A batch of four takes 50 MB.


def file_of_run(path: str, sha256: str) -> bytes:
    """A file that each worker must have alike.

    Raises:
      ValueError: it is another one.
    """
    with open_to_read(path) as source:
        content = source.read()
    if (there := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(
            f"{path} has the SHA-256 {there}, and the run was started with {sha256}; give each "
            "worker the same file"
        )
    return content


def file_sha256(path: str) -> str:
    """SHA-256 of a file, in hex, which `file_of_run` wants again."""
    with open_to_read(path) as source:
        return hashlib.sha256(source.read()).hexdigest()


def check_sides(size: int, resize: int) -> None:
    """Refuses a middle that is larger than what it is cut from, and what takes too much memory."""
    if not 1 <= size <= resize <= MAX_SIZE:
        raise ValueError(
            f"size must be from 1 to resize, and resize at most {MAX_SIZE} px; "
            f"got {size} and {resize}"
        )
